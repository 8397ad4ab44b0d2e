"""Which encoding bytes are in, and decoding them piece by piece with the undecodable bytes counted.

Found are UTF-8, UTF-16, UTF-32 by their byte order marks; UTF-8 because hardly anything else is valid UTF-8; and
GB18030, Big5, Shift JIS, UTF-16 without a mark and Windows-1252 by which of them makes the text look most like a text:
the share of its characters that are among the most frequent. Other encodings have to be named.
"""

import codecs
import re
import threading
from typing import NamedTuple

from danlu.core.errors import DataError
from danlu.core.i18n import tr

__all__ = ["SAMPLE", "Decoder", "Found", "check_encoding", "detect"]

SAMPLE = 1 << 16  # bytes that are looked at
_PRINTED = re.compile(rb"[\t\n\r\x20-\x7e]*")
_HIGH = re.compile(rb"[\x80-\xff]")
_ACCEPT = 0.2  # share of frequent characters below which no encoding is believed
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
# Codecs of Python that are no encodings of a text file: they can make lone surrogates, or are no one's idea of a file.
_NO_TEXT = {"unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined", "utf-7", "mbcs", "oem"}

# The 450 most frequent Chinese characters, simplified and traditional in turn, counted by this project over newspapers,
# reviews and Tang poems with equal weight to each kind (0.35, 0.4, 0.25).
_HAN = (
    "的不一是了人有我在中这這上書大國国年来本个为來很和时時到看生好还個以為多要就书自会得日作會出也子间家"
    "地心天對們行下可没能他发還对經無说過房都们过說酒成后事小後新用店经發点如无業长長方開里者去學實於高前"
    "开月文同水風感实之比著务與风面山业而所理相道情工讀电現于但服当知动全明入然分那住動重现此當其從想外些"
    "覺部民起么主学何进間真觉愛关最问樣定點价關已金东更客沒意裡將机進云市非门合与公度麼次己花错種三美太从"
    "世常因力喜内今万兩深西老歡春萬见給着南将讓江孩员內活应門雲十体法白建見只別别平总展样正產政设問通解回"
    "體较東两電系華總安清性加海化给少身台向應路华她買思买記處等女名物种望产北兒位代区場装故提難几第完君空"
    "幾结報元马企果处結你题场氣城交流使气機记色濟才报又爲手題远车品话各光难程先特济未社每差馬格青统界声務"
    "早近區受制遠利头頭强再容让強期星樂晚設归表目歷且收歸送資教二把寫读夜欢字便直及秋聲接史改京满至边原口"
    "話管什數单做五共圖滿打千信量言落神楼始四論爱精网錯干复热並車歲军并步资推节候節被带由獨调基观寶飞員變"
    "立許论朝餐語儿香游識飛持計放值百認王邊求影林畫费古盘傳較张离友质连集盡任玉农级育初離草帶该雖快農施該"
    "数像旧觀标歌议張阳式寒尽講独黄乐保音廣隨它樹軍似达传遊置調计臺件首导統取雨委終團誰商價战聽象聞達局周"
    "引反随形认增走單极科戰图際兴連决術石黨整卻興指紅领版条細九联评雪省党功选陽谁套龍司命闻或復半龙府广义"
    "黃术融導算選岁視运聯办戶视領輕际足費德河越识條转欲衣片居易往变親"
)
_MARKS_OF_TEXT = "，。、；：？！“”‘’（）《》〈〉「」『』【】…—·～\u3000％０１２３４５６７８９"
_KANA = "".join(map(chr, [*range(0x3041, 0x3094), *range(0x30A1, 0x30FD)]))
_CHINESE = frozenset(_HAN + _MARKS_OF_TEXT)
_JAPANESE = _CHINESE | frozenset(_KANA)
_PLAIN = frozenset(map(chr, [9, 10, 13, *range(32, 127)]))
_WESTERN = frozenset("‘’“”–—…•€£°«»©®·")


class Found(NamedTuple):
    """An encoding by Python's name, and how sure it is: 1 is certain, 0 a last resort."""

    encoding: str
    confidence: float


def check_encoding(name: str) -> None:
    """Raise DataError unless `name` is 'auto' or an encoding of text."""
    if name == "auto":
        return
    try:
        b"a".decode(name, "replace")
        known = codecs.lookup(name).name.replace("_", "-") not in _NO_TEXT
    except (LookupError, ValueError):
        known = False
    if not known:
        raise DataError(
            tr(f"unknown encoding '{name}'", f"未知的编码“{name}”"),
            tr("common ones: auto, utf-8, gb18030, big5, utf-16", "常用的有:auto、utf-8、gb18030、big5、utf-16"),
        )


def detect(sample: bytes, *, complete: bool = True, start: bool = True) -> Found:
    """The encoding of `sample`, of which at most `SAMPLE` bytes count.

    `complete` is false when the sample may end within a character; `start` is true when it begins its file, where alone
    marks and UTF-16 are looked for. Pure ASCII is ('ascii', 1.0); what fits nothing ('utf-8', 0.0).
    """
    sample, complete = sample[:SAMPLE], complete and len(sample) <= SAMPLE
    if start:
        for mark, name in _MARKS:
            if sample.startswith(mark):
                return Found(name, 1.0)
    high = sum(1 for byte in sample if byte > 127)
    if start and b"\0" in sample and (found := _wide(sample)):
        return found
    if not high:
        return Found("ascii", 1.0)
    lost = _try("utf-8", sample, complete)[1]
    if not lost:
        return Found("utf-8", 1.0)
    shares = {name: _share(name, sample, complete) for name in ("gb18030", "big5", "shift_jis", "cp1252")}
    if start and (len(sample) % 2 == 0 or not complete):
        shares |= {name: _share(name, sample, complete) for name in ("utf-16-le", "utf-16-be")}
    shares["utf-8"] = 1 - 3 * lost / high
    (best, top), (_, second) = sorted(shares.items(), key=lambda pair: -pair[1])[:2]
    if top < _ACCEPT:
        return Found("utf-8", 0.0)
    margin = min(1.0, (top - max(second, 0.0)) / top)
    return Found(_variant(best, sample, complete), round(margin * top if best == "utf-8" else margin, 3))


def _wide(sample: bytes) -> Found | None:
    """UTF-16 without a mark when it reads as text; ASCII in it shows as zero bytes."""
    even = sample[: len(sample) // 2 * 2]
    shares = {name: _share(name, even, False) for name in ("utf-16-le", "utf-16-be")} if even else {"": 0.0}
    best = max(shares, key=lambda name: shares[name])
    return Found(best, round(shares[best], 3)) if shares[best] > 0.5 else None


def _try(encoding: str, sample: bytes, complete: bool) -> tuple[str, int]:
    """The text, and how many bytes were lost."""
    decoder = Decoder(encoding)
    text = decoder.feed(sample, final=complete)
    return text, decoder.lost


def _share(encoding: str, sample: bytes, complete: bool) -> float:
    """The share of frequent characters among those that tell encodings apart; lost bytes count three times against it."""
    text, lost = _try(encoding, sample, complete)
    if encoding == "cp1252":
        return _western(text) - 3 * lost / max(1, len(text))
    if encoding.startswith("utf-16"):
        told, common = text, _CHINESE | _PLAIN
    else:
        told, common = [char for char in text if char > "\x7f"], _JAPANESE if encoding == "shift_jis" else _CHINESE
    return (sum(map(common.__contains__, told)) - 3 * lost) / max(1, len(told))


def _western(text: str) -> float:
    """The share of letters with accents that stand, at most two together, beside plain letters, and of typographic marks."""
    fits = high = 0
    around = f" {text} "
    for before, char, after in zip(around, text, around[2:], strict=False):
        if char > "\x7f":
            high += 1
            letter = char.isalpha() and (_latin(before) or _latin(after)) and (before < "\x80" or after < "\x80")
            fits += letter or (char in _WESTERN and (before < "\x80" or after < "\x80"))
    return fits / max(1, high)


def _latin(char: str) -> bool:
    return char < "\x80" and char.isalpha()


def _variant(encoding: str, sample: bytes, complete: bool) -> str:
    """The member of the family that loses least: Big5 and Shift JIS have Microsoft's extensions, and Hong Kong's."""
    families = {
        "big5": ("big5", "cp950", "big5hkscs"),
        "shift_jis": ("shift_jis", "cp932"),
        "cp1252": ("cp1252", "latin-1"),
    }
    return min(families.get(encoding, (encoding,)), key=lambda name: _try(name, sample, complete)[1])


class Decoder:
    """Decodes pieces of one file in turn; undecodable bytes become U+FFFD.

    With 'auto' the encoding is found at the first bytes beyond ASCII, and `found` tells it (before that, ASCII). `lost`
    counts the undecodable bytes, `first` is the place of the first, in bytes from the start.
    """

    def __init__(self, encoding: str = "auto") -> None:
        check_encoding(encoding)
        self.found = Found("ascii", 1.0) if encoding == "auto" else Found(encoding, 1.0)
        self.lost, self.first = 0, -1
        # without a mark these two would be whatever this machine prefers, or an error
        self._marked = codecs.lookup(encoding).name in ("utf-16", "utf-32") if encoding != "auto" else False
        waits = encoding == "auto" or self._marked
        self._decoder = None if waits else codecs.getincrementaldecoder(encoding)("danlu-count")
        self._held, self._taken, self._begun, self._trimmed = b"", 0, False, False

    def feed(self, data: bytes, final: bool = False) -> str:
        """The text of the next bytes, as far as its characters are complete."""
        if self._decoder is None:
            data = self._held + data
            self._held = b""
            enough = len(data) >= (4 if self._marked else SAMPLE) or (self._begun and data.isascii())
            if not final and not enough:
                self._held = data
                return ""
            if self._marked:
                self.found = Found(_marked(self.found.encoding, data), 1.0)
                self._decoder = codecs.getincrementaldecoder(self.found.encoding)("danlu-count")
                return self._decode(self._decoder, data, final)
            high = _HIGH.search(data)
            if high and high.start() >= 64 and _PRINTED.fullmatch(data, 0, high.start()):
                # So much plain text is ASCII in any encoding (but UTF-16): judge by what comes from here on.
                plain, data = data[: high.start()], data[high.start() :]
                self._taken, self._begun, self._trimmed = self._taken + len(plain), True, True
                return plain.decode("ascii") + self.feed(data, final)
            self.found = detect(data, complete=final, start=not self._begun)
            self._begun = self._begun or bool(data)
            if self.found.encoding == "ascii":
                self._taken += len(data)
                self._trimmed = self._trimmed or bool(data)
                return data.decode("ascii")
            self._decoder = codecs.getincrementaldecoder(self.found.encoding)("danlu-count")
        return self._decode(self._decoder, data, final)

    def _decode(self, decoder: codecs.IncrementalDecoder, data: bytes, final: bool) -> str:
        _ACTIVE.decoder, _ACTIVE.base = self, self._taken - len(decoder.getstate()[0])
        self._taken += len(data)
        text = decoder.decode(data, final)
        if text and not self._trimmed:
            self._trimmed = True
            text = text.removeprefix("\ufeff")
        return text


def _marked(encoding: str, data: bytes) -> str:
    """The byte order that the mark tells; little-endian without one, as most files that lack it."""
    family = codecs.lookup(encoding).name
    return next((name for mark, name in _MARKS if name.startswith(family) and data.startswith(mark)), f"{family}-le")


_ACTIVE = threading.local()  # whose bytes are being decoded in this thread, and where they began


def _count(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    decoder = _ACTIVE.decoder
    if decoder.first < 0:
        decoder.first = _ACTIVE.base + error.start
    decoder.lost += error.end - error.start
    return "\ufffd", error.end


codecs.register_error("danlu-count", _count)
