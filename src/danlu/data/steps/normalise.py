"""Step `normalise`: width of characters, punctuation by the language around it, repeated marks, spaces within Chinese.

Every rule leaves ordinary Chinese and English typography as it is, and normalising twice changes nothing more. Rows
that the language step called code stay untouched: there `,` and `!!` mean something.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Literal

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.data.sources import Row
from danlu.data.step import Drop
from danlu.data.steps._text import HAN, KANA, is_code, rewrite

__all__ = ["Config", "Step", "normalise"]


class Config(Base):
    """What is made alike."""

    width: bool = doc(
        True,
        "full-width Latin letters, digits and symbols become half-width; half-width katakana full-width",
        "全角拉丁字母、数字、符号转半角；半角片假名转全角",
    )
    punctuation: Literal["follow", "keep"] = doc(
        "follow",
        "commas, full stops and the like follow the text around them: full-width after Chinese characters, half-width in lines without any",
        "标点随上下文：汉字之后用全角，不含汉字的行用半角",
    )
    quotes: Literal["keep", "straight"] = doc("keep", "curly quotes become straight ones", "弯引号改为直引号")
    dashes: Literal["keep", "plain"] = doc(
        "keep", "hyphens and dashes become '-' (the Chinese —— stays)", "各种连字符改为 -（中文破折号 —— 不动）"
    )
    repeats: bool = doc(
        True, "one mark for many (！！！！！, ,,,,) and one kind of ellipsis", "连续重复的标点只留一个，省略号统一"
    )
    spaces: bool = doc(
        True,
        "remove blanks between Chinese characters; those between Chinese and Latin stay",
        "去掉汉字之间的空格；汉字与拉丁字母之间的保留",
    )


_FULL = "，。？！；："
_HALF = ",.?!;:"
_TO_FULL = dict(zip(_HALF, _FULL, strict=True))
_TO_HALF = dict(zip(_FULL, _HALF, strict=True))

# Full-width forms of ASCII, without what is Chinese punctuation: ！（），：；？～ stay.
_WIDE = [code for code in range(0xFF01, 0xFF5F) if chr(code) not in "！（），：；？～"]
_WIDE_RUN = re.compile("[" + re.escape("".join(map(chr, _WIDE))) + "\uff61-\uff9f]+")
_INDENT = re.compile(r"^[ \t]*\u3000[ \t\u3000]*", re.MULTILINE)

_HAN_ANY = re.compile(f"[{HAN}]")
_KANA_ANY = re.compile(f"[{KANA}]")
_AFTER_HAN = re.compile(
    rf"[,;:](?<=[{HAN}”’》）】，。？！；：].)|[.?!](?<=[{HAN}”’》）】，。？！；：].)(?![A-Za-z0-9_.])"
)
_DOTS_AFTER_HAN = re.compile(rf"[.](?<=[{HAN}”’》）】，。？！；：…].)[.]{{2,}}")
_FULL_MARK = re.compile(f"[{_FULL}]")

_REPEATED = re.compile(r"([，？！；：、])\1+|([!?,;])\2{2,}")
_REPEATS = [mark * 2 for mark in "，？！；：、"] + [mark * 3 for mark in "!?,;"]
_CHINESE_STOPS = re.compile(r"。{2,}")
_DOTS = re.compile(r"\.{4,}")
_ELLIPSIS = re.compile(r"…+")

# One blank: several in a row part columns.
_BLANKS = re.compile(rf"[ \u00a0](?<![ \u00a0]{{2}})(?=[{HAN}，。？！；：、“”《》（）])")
_BEFORE_BLANK = re.compile(rf"[{HAN}，。？！；：、“”《》（）]")

_STRAIGHT = str.maketrans({"“": '"', "”": '"', "„": '"', "‟": '"', "‘": "'", "’": "'", "‚": "'", "‛": "'"})
_CURLY_ANY = re.compile("[\u2018-\u201f]")
_DASH = re.compile("[\u2010-\u2013\u2212]|(?<!\u2014)[\u2014\u2015](?!\u2014)")


def _width(text: str) -> str:
    """Half-width katakana and full-width forms of ASCII are what NFKC changes among those matched."""
    return text if text.isascii() else _WIDE_RUN.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)


def _ideographic_spaces(text: str) -> str:
    """U+3000 between Chinese parts verses and stays, once; indents go; elsewhere it is a blank."""
    if "\u3000" not in text:
        return text
    text = _INDENT.sub("", text)
    return re.sub(r"\u3000+", lambda run: "\u3000" if _between_han(text, run.start(), run.end()) else " ", text)


def _between_han(text: str, start: int, end: int) -> bool:
    return start > 0 and end < len(text) and bool(_HAN_ANY.match(text, end) and _BEFORE_BLANK.match(text, start - 1))


# lesson: follow
def _follow(text: str) -> str:
    """Half-width marks after Chinese become full-width; full-width ones in lines without Chinese half-width.

    Texts with kana stay as they are: Japanese has marks of its own.
    """
    if text.isascii() or _KANA_ANY.search(text):
        return text
    if _HAN_ANY.search(text):
        text = _DOTS_AFTER_HAN.sub("……", text)
        text = _AFTER_HAN.sub(lambda mark: _TO_FULL[mark[0]], text)
    if _FULL_MARK.search(text):
        text = "\n".join(_half_width(line) for line in text.split("\n"))
    return text


# end lesson


def _half_width(line: str) -> str:
    if _HAN_ANY.search(line) or not _FULL_MARK.search(line) or not re.search("[A-Za-z]", line):
        return line
    return _FULL_MARK.sub(lambda mark: _TO_HALF[mark[0]] + (" " if _needs_blank(line, mark.end()) else ""), line)


def _needs_blank(line: str, at: int) -> bool:
    return at < len(line) and line[at].isalnum()


def _repeats(text: str) -> str:
    if any(run in text for run in _REPEATS):  # a search for a substring is far faster than the expression
        text = _REPEATED.sub(lambda run: run[0][0], text)
    if "。。" in text:
        text = _CHINESE_STOPS.sub(lambda run: "。" if len(run[0]) == 2 else "……", text)
    if "...." in text:
        text = _DOTS.sub("...", text)
    if "…" in text:
        text = _ELLIPSIS.sub(lambda run: "……" if _chinese_line(text, run.start()) else "…", text)
    return text


def _chinese_line(text: str, at: int) -> bool:
    start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
    return bool(_HAN_ANY.search(text, start, len(text) if end < 0 else end))


def _spaces(text: str) -> str:
    if text.isascii():
        return text
    return _BLANKS.sub(
        lambda run: "" if run.start() and _BEFORE_BLANK.match(text, run.start() - 1) else run[0],
        text,
    )


def _rules(config: Config) -> list[Callable[[str], str]]:
    wanted: list[tuple[bool, Callable[[str], str]]] = [
        (config.width, _width),
        (config.width, _ideographic_spaces),
        (config.quotes == "straight", lambda text: text.translate(_STRAIGHT) if _CURLY_ANY.search(text) else text),
        (config.dashes == "plain", lambda text: _DASH.sub("-", text)),
        (config.punctuation == "follow", _follow),
        (config.repeats, _repeats),
        (config.spaces, _spaces),
    ]
    return [rule for on, rule in wanted if on]


def normalise(text: str, config: Config | None = None) -> str:
    """The text with the rules of `config` applied until none changes it further, so that doing it twice is doing it once."""
    return _apply(text, _rules(config or Config()))


def _apply(text: str, rules: list[Callable[[str], str]]) -> str:
    while True:
        before = text
        for rule in rules:
            text = rule(text)
        if text == before:
            return text


class Step:
    """Normalises the text or each message; `tally` counts the rows that changed."""

    def __init__(self, config: Config) -> None:
        self.rules = _rules(config)

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        if is_code(row):
            return row
        normal = rewrite(row, lambda text: _apply(text, self.rules))
        if normal is not row:
            tally["changed"] += 1
        return normal
