"""Step `sensitive`: unlawful and unwanted content by word lists, through the usual disguises, with a classifier's consent.

A word list alone drops Scunthorpe and every newspaper that reports a crime. So words of Latin letters count only as whole
words, an allow-list covers harmless phrases, hits are weighed by length, and with `classifier` a row is dropped only
when the list and the classifier agree. Lists are the user's own files, or those of `danlu pull jionlp`.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import ConfigError, DataError, MissingExtraError
from danlu.core.i18n import tr
from danlu.data.classifier import Classifier
from danlu.data.sources import Row
from danlu.data.step import Drop, content
from danlu.data.steps._text import HAN, encodable, rewrite

__all__ = ["Config", "Hit", "Step", "WordLists"]

_MOST = 20_000_000  # bytes of a list
_UPPER_FULL = {0xFEE0 + code: chr(code).lower() for code in range(0x21, 0x7F)}
_LOWER = {code: chr(code + 32) for code in range(0x41, 0x5B)}
# Letters of other alphabets that look like Latin ones.
_ALIKE = str.maketrans("аеорсухіјѕԁһԛԝВЕКМНОРСТХаαοερτυνικ", "aeopcyxijsdhqwbekmhopctxaaoeptuvik")
_LEET = [str.maketrans("013457@$!", f"o{one}eastasi") for one in "il"]
# What is put between characters to hide a word; a stop, a comma or a line end parts words in earnest.
_GAP = re.compile("[ \t\u00a0\u00ad\u200b-\u200f\u2060\ufeff\u3000*._\\-~|/+^#=·•…★☆◆■●○※→]+")
_SPELT = re.compile(r"(?<![a-z0-9])(?:[a-z][ *._\-~|/+]{1,2}){2,}[a-z](?![a-z0-9])")
_MIXED = re.compile(r"(?<![a-z0-9@$!])(?=[a-z0-9@$!]*[013457@$!][a-z0-9@$!]*)[a-z@$][a-z0-9@$!]*[a-z](?![a-z0-9@$])")
_HAS_HAN = re.compile(f"[{HAN}]")
_BORDER = re.compile(r"[a-z0-9]")


class Config(Base):
    """The lists, and what becomes of a row that they hit."""

    lists: list[Input] = doc(
        ...,
        "word lists, a word a line (txt, or zip of one); their names are counted",
        "词表：每行一词（txt 或其 zip），按文件名计数",
    )
    action: Literal["drop", "mask", "tag"] = doc(
        "drop",
        "drop the row, write **** for each hit, or only add a column 'sensitive'",
        "丢弃整行、用 **** 代替命中的词，或只加一列 sensitive",
    )
    allow: list[Input] = doc([], "lists of harmless phrases in which hits do not count", "白名单：其中出现的命中不算")
    shortest: int = doc(
        2, "shorter words are left out; of Latin letters three at least", "更短的词不用；拉丁字母至少三个", ge=1
    )
    min_hits: int = doc(1, "hits that a row needs", "至少命中几次", ge=1)
    per_1000: float = doc(0.0, "and hits for each 1,000 characters", "且每千字至少命中几次", ge=0)
    classifier: Input | None = doc(
        None,
        "folder of `danlu data classifier`: act only if its score is below its threshold, too",
        "`danlu data classifier` 的目录：得分也低于阈值时才处理",
    )  # fmt: skip


class Hit(NamedTuple):
    """text[start:end] is a word of list number `which`."""

    which: int
    start: int
    end: int


class WordLists:
    """Finds the words of several lists at once (Aho-Corasick), also spaced out, full-width, traditional, or in look-alikes."""

    def __init__(self, lists: list[list[str]], allow: list[str], shortest: int = 2) -> None:
        try:
            from ahocorasick_rs import AhoCorasick, Implementation, MatchKind
            from opencc_purepy.dictionary_lib import DictionaryMaxlength
        except ImportError as error:
            raise MissingExtraError(error.name or "ahocorasick-rs", "data") from None
        single = DictionaryMaxlength.new().ts_characters[0]
        simple = {ord(source): target for source, target in single.items() if len(source) == len(target) == 1}
        self._table = {**simple, **_ALIKE, **_UPPER_FULL, **_LOWER}
        self.han: dict[str, int] = {}
        self.latin: dict[str, int] = {}
        for which, words in enumerate(lists):
            for word in words:
                plain = self.plain(word.strip())
                if _HAS_HAN.search(plain):
                    closed = _GAP.sub("", plain)
                    if len(closed) >= shortest:
                        self.han.setdefault(closed, which)
                elif len(plain) >= max(3, shortest) and not plain.isdigit():
                    self.latin.setdefault(plain, which)
        if not self.han and not self.latin:
            raise DataError(
                tr("the word lists hold no words", "词表里没有词"), tr("a word a line, UTF-8", "每行一词，UTF-8 编码")
            )

        def automaton(words: list[str]) -> AhoCorasick | None:
            made = Implementation.ContiguousNFA
            return AhoCorasick(words, matchkind=MatchKind.LeftmostLongest, implementation=made) if words else None

        self._han, self._latin = automaton(list(self.han)), automaton(list(self.latin))
        self._han_lists, self._latin_lists = list(self.han.values()), list(self.latin.values())
        self._allow = automaton(list(dict.fromkeys(filter(None, (self.plain(phrase.strip()) for phrase in allow)))))

    def plain(self, text: str) -> str:
        """Simplified, half-width, lower-case, look-alikes as Latin letters; of the same length."""
        if text.isascii():
            return text.lower()
        return encodable(text).translate(self._table)

    def find(self, text: str) -> list[Hit]:
        """The hits in order, without overlaps."""
        plain = self.plain(text)
        hits = [*self._in_latin(plain), *(self._in_han(plain) if _HAS_HAN.search(plain) else ())]
        if not hits:
            return []
        allowed = self._allow.find_matches_as_indexes(plain) if self._allow else []
        free = [hit for hit in hits if not any(start <= hit.start and hit.end <= end for _, start, end in allowed)]
        kept: list[Hit] = []
        for hit in sorted(free, key=lambda one: (one.start, -one.end)):
            if not kept or hit.start >= kept[-1].end:
                kept.append(hit)
        return kept

    def _in_han(self, plain: str) -> Iterator[Hit]:
        if self._han is None:
            return
        closed = _GAP.sub("", plain)
        found = self._han.find_matches_as_indexes(closed)
        if not found:
            return
        places = range(len(plain))
        if len(closed) != len(plain):
            gaps = {place for gap in _GAP.finditer(plain) for place in range(*gap.span())}
            places = [place for place in range(len(plain)) if place not in gaps]
        for which, start, end in found:
            yield Hit(self._han_lists[which], places[start], places[end - 1] + 1)

    def _in_latin(self, plain: str) -> Iterator[Hit]:
        if self._latin is None:
            return
        for which, start, end in self._latin.find_matches_as_indexes(plain):
            if not _BORDER.match(plain[start - 1 : start]) and not _BORDER.match(plain[end : end + 1]):
                yield Hit(self._latin_lists[which], start, end)
        for match in _SPELT.finditer(plain):
            if (which := self.latin.get(re.sub("[^a-z]", "", match.group()))) is not None:
                yield Hit(which, *match.span())
        for match in _MIXED.finditer(plain):
            for table in _LEET:
                if (which := self.latin.get(match.group().translate(table))) is not None:
                    yield Hit(which, *match.span())
                    break


class Step:
    """Counts hits by list; drops, masks or tags."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.names = [re.sub(r"\W+", "_", path.name.split(".")[0].lower()) or "list" for path in config.lists]
        if len(set(self.names)) < len(self.names):
            raise ConfigError(
                tr("two word lists have one name", "有两个词表同名"),
                tr("rename a file: counts go by it", "请改文件名：计数以此区分"),
            )
        allow = [phrase for path in config.allow for phrase in _words(path)]
        self.lists = WordLists([_words(path) for path in config.lists], allow, config.shortest)
        self.classifier = None if config.classifier is None else Classifier.load(config.classifier)

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        text = content(row)
        hits = self.lists.find(text)
        if len(hits) < self.config.min_hits or 1000 * len(hits) < self.config.per_1000 * len(text):
            return row
        if self.classifier is not None and self.classifier.scores([text])[0] >= self.classifier.threshold:
            tally["overruled_by_classifier"] += 1
            return row
        counts = Counter(self.names[hit.which] for hit in hits)
        tally.update(counts)
        told = " ".join(f"{name}:{count}" for name, count in sorted(counts.items()))
        if self.config.action == "drop":
            return Drop("sensitive", told)
        if self.config.action == "tag":
            return {**row, "sensitive": told}
        return rewrite(row, self._masked)

    def _masked(self, text: str) -> str:
        parts, done = [], 0
        for hit in self.lists.find(text):
            parts += [text[done : hit.start], "*" * (hit.end - hit.start)]
            done = hit.end
        return "".join([*parts, text[done:]])


def _words(path: Path) -> list[str]:
    """The lines of a list; a zip holds one text. Raises DataError."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".txt")]
                if len(names) != 1:
                    raise ValueError(f"{len(names)} x .txt")
                with archive.open(names[0]) as member:
                    data = member.read(_MOST + 1)
        else:
            with path.open("rb") as file:
                data = file.read(_MOST + 1)
        if len(data) > _MOST:
            raise ValueError(f"> {_MOST} bytes")
        return [line for line in io.StringIO(data.decode("utf-8-sig")).read().splitlines() if line.strip()]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            tr(f"cannot read the word list {path}: {error}", f"无法读取词表 {path}：{error}"),
            tr("give a UTF-8 text with a word a line", "请给出每行一词的 UTF-8 文本"),
        ) from None
