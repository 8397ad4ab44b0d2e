"""Cleans text: Unicode form, control characters, white space."""

import re
import unicodedata
from typing import Literal

from danlu.core.config import Config, doc

__all__ = ["CleanConfig", "clean_text"]

# C0 and C1 controls without tab and newline; zero-width space, word joiner, byte order mark, soft hyphen;
# directional marks; interlinear marks, U+FFFC and U+FFFD (a byte that could not be decoded), half surrogate pairs. The joiners
# U+200C and U+200D stay: they spell words in several scripts and hold emoji together.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\uffff\ud800-\udfff]"
)
_LINE_END = re.compile(r"\r\n?|[\u2028\u2029\x85]")
_EMPTY_LINES = re.compile(r"\n{3,}")
_MOSTLY = 0.3


class CleanConfig(Config):
    """What cleaning does to each text."""

    unicode: Literal["NFC", "NFKC", "none"] = doc(
        "NFC",
        "Unicode form; NFKC would also turn ， into , and ② into 2",
        "Unicode 规范化形式；NFKC 还会把 ， 变成 ,，把 ② 变成 2",
    )
    control: bool = doc(True, "remove control and invisible characters", "去掉控制字符与不可见字符")
    whitespace: bool = doc(
        True,
        "one kind of line end, no trailing spaces, one empty line at most",
        "统一换行，去掉行尾空白，最多连续一个空行",
    )
    min_characters: int = doc(1, "drop shorter documents", "丢弃更短的文档", ge=0)


def clean_text(text: str, config: CleanConfig | None = None) -> str:
    """The cleaned text; '' when too little is left or when most of it could not be decoded.

    Canonical composition (NFC) is the default: it makes equal what looks equal (é as one or two code
    points, the compatibility ideographs) and leaves the full-width punctuation of Chinese as it is,
    which NFKC would fold into ASCII.
    """
    config = config or CleanConfig()
    if text.count("\ufffd") > _MOSTLY * len(text):
        return ""
    if config.whitespace:
        text = _LINE_END.sub("\n", text)
    if config.control:
        text = _CONTROL.sub("", text)
    if config.unicode != "none":
        text = unicodedata.normalize(config.unicode, text)
    if config.whitespace:
        text = "\n".join(line.rstrip() for line in text.split("\n"))
        text = _EMPTY_LINES.sub("\n\n", text).strip("\n")
    return text if len(text) >= config.min_characters else ""
