"""Step `chinese`: traditional and simplified characters, by phrases and not only character by character.

頭髮 and 發展 are 头发 and 发展: back to traditional characters the phrase decides. The dictionaries are those of
OpenCC (package opencc-purepy), the rule is OpenCC's: from left to right, the longest phrase, else the character.
Finding the phrases is left to an Aho-Corasick automaton (leftmost-longest is the same rule), which makes it two to three times as fast.
"""

from collections import Counter
from typing import Literal

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.core.errors import MissingExtraError
from danlu.data.sources import Row
from danlu.data.step import Drop
from danlu.data.steps._text import encodable, rewrite

__all__ = ["Config", "Converter", "Step"]

_COMMON = range(0x4E00, 0xA000)  # the unified ideographs every font has


class Config(Base):
    """Which characters the texts shall have."""

    to: Literal["simplified", "traditional", "keep-as-is"] = doc(
        "simplified", "the characters to write Chinese in", "中文统一写成简体、繁体，或保持原样"
    )


class Converter:
    """Calls convert a text to simplified or traditional characters; it keeps what has no counterpart.

    A character that every font has is not simplified to one outside U+4E00-9FFF. Raises MissingExtraError.
    """

    def __init__(self, to: Literal["simplified", "traditional"]) -> None:
        try:
            from ahocorasick_rs import AhoCorasick, Implementation, MatchKind
            from opencc_purepy.dictionary_lib import DictionaryMaxlength
        except ImportError as error:
            raise MissingExtraError(error.name or "opencc-purepy", "data") from None
        dictionary = DictionaryMaxlength.new()
        short = to == "simplified"
        phrases = (dictionary.ts_phrases if short else dictionary.st_phrases)[0]
        single = (dictionary.ts_characters if short else dictionary.st_characters)[0]
        if short:
            phrases = {source: _keep_common(source, target) for source, target in phrases.items()}
            single = {source: _keep_common(source, target) for source, target in single.items()}
        self.single = {source: target for source, target in single.items() if source != target}
        # A phrase all of whose characters convert to themselves matters only where it holds others back: it stays.
        self.sources = sorted(source for source in phrases if len(source) > 1)
        self.targets = [phrases[source] for source in self.sources]
        self.starts = frozenset(self.single).union(
            *(source for source, target in zip(self.sources, self.targets, strict=True) if source != target)
        )
        self.table = str.maketrans(self.single)
        self.automaton = AhoCorasick(
            self.sources, matchkind=MatchKind.LeftmostLongest, implementation=Implementation.ContiguousNFA
        )

    def __call__(self, text: str) -> str:
        if self.starts.isdisjoint(text):
            return text
        parts, end, targets, table = [], 0, self.targets, self.table
        for which, start, stop in self.automaton.find_matches_as_indexes(encodable(text)):
            if start > end:
                parts.append(text[end:start].translate(table))
            parts.append(targets[which])
            end = stop
        parts.append(text[end:].translate(table))
        return "".join(parts)


def _keep_common(source: str, target: str) -> str:
    if len(source) != len(target):
        return target
    pairs = zip(source, target, strict=True)
    return "".join(old if ord(old) in _COMMON and ord(new) not in _COMMON else new for old, new in pairs)


class Step:
    """Converts the text or each message; `tally` counts the rows that changed."""

    def __init__(self, config: Config) -> None:
        self.convert = None if config.to == "keep-as-is" else Converter(config.to)

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        if self.convert is None:
            return row
        converted = rewrite(row, self.convert)
        if converted is not row:
            tally["converted"] += 1
        return converted
