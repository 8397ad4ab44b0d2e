"""What is in a corpus: counts, lengths, scripts, duplicates, frequent n-grams, samples; in one pass."""

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import xxhash

from danlu.data.sources import Row
from danlu.data.step import content

__all__ = ["Statistics"]

_SCRIPTS = {
    "Han 汉字": re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"),
    "Latin 拉丁字母": re.compile("[A-Za-z\u00c0-\u024f]"),
    "digits 数字": re.compile(r"[0-9０-９]"),
    "space 空白": re.compile(r"\s"),
}
_WORDS = re.compile("[\u3400-\u9fff]|[^\\W_]+|[^\\w\\s]")  # a Chinese character, a word, a mark
_GRAM_ROWS = 20_000  # of which n-grams are counted
_GRAMS = (2, 4)
_TOP, _SAMPLES, _SHOWN = 15, 8, 600


class Statistics:
    """Add rows, then read. All numbers depend on the rows alone; n-grams, scripts and samples are of rows chosen by hash.

    Held are a hash of each row and of each line that is 10 characters long or more, not the texts.
    """

    def __init__(self) -> None:
        self.rows = self.characters = self.duplicates = 0
        self.sources: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.scripts: Counter[str] = Counter()
        self._lengths: Counter[int] = Counter()
        self._seen: set[int] = set()
        self._lines: set[int] = set()
        self._repeated = self._line_characters = 0
        self._grams: dict[int, Counter[str]] = {size: Counter() for size in _GRAMS}
        self._chosen: list[tuple[int, str, str]] = []  # those with the smallest hashes, as a heap of negatives
        self._rate, self._counted = 1, 0

    def add(self, row: Row) -> None:
        text = content(row)
        digest = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
        self.rows += 1
        self.characters += len(text)
        self.sources[str(row.get("source", ""))] += 1
        if row.get("lang"):
            self.languages[str(row["lang"])] += 1
        self._lengths[len(text).bit_length()] += 1
        self.duplicates += digest in self._seen
        self._seen.add(digest)
        self._lines_of(text)
        place = xxhash.xxh3_64_intdigest(str(row.get("id", self.rows)).encode("utf-8", "surrogatepass"))
        if place % self._rate == 0:
            self._count_grams(text)
        chosen = (-place, str(row.get("id", "")), text[:_SHOWN])
        if len(self._chosen) < _SAMPLES:
            heapq.heappush(self._chosen, chosen)
        else:
            heapq.heappushpop(self._chosen, chosen)

    def _lines_of(self, text: str) -> None:
        for line in text.splitlines():
            if len(line) >= 10:
                digest = xxhash.xxh3_64_intdigest(line.encode("utf-8", "surrogatepass"))
                self._line_characters += len(line)
                if digest in self._lines:
                    self._repeated += len(line)
                self._lines.add(digest)

    def _count_grams(self, text: str) -> None:
        for name, pattern in _SCRIPTS.items():
            self.scripts[name] += len(pattern.findall(text))
        words = _WORDS.findall(text[:20_000])
        for size, counts in self._grams.items():
            counts.update(map(_joined, zip(*(words[at:] for at in range(size)), strict=False)))
        self._counted += 1
        if self._counted % _GRAM_ROWS == 0:
            self._rate *= 2  # about so many rows again until the next halving
        for counts in self._grams.values():
            if len(counts) > 1_000_000:  # what was seen once will not be among the most frequent
                for gram in [gram for gram, count in counts.items() if count == 1]:
                    del counts[gram]

    @property
    def repeated_lines(self) -> float:
        """The share of characters in lines (of 10 characters or more) that stood somewhere before."""
        return self._repeated / max(1, self._line_characters)

    def lengths(self) -> Iterator[tuple[int, int, int]]:
        """(from, to, rows): characters a row, in powers of two."""
        for bits in range(min(self._lengths, default=0), max(self._lengths, default=-1) + 1):
            yield (1 << bits) >> 1, max(0, (1 << bits) - 1), self._lengths[bits]

    def top_grams(self) -> dict[int, list[tuple[str, int]]]:
        return {
            size: sorted(
                ((gram, count) for gram, count in counts.items() if count > 1), key=lambda one: (-one[1], one[0])
            )[:_TOP]
            for size, counts in self._grams.items()
        }

    def samples(self) -> list[dict[str, Any]]:
        return [{"id": name, "text": text} for _, name, text in sorted(self._chosen, reverse=True)]


def _joined(words: tuple[str, ...]) -> str:
    """Words as people write them: no space between Chinese characters and before marks."""
    text = words[0]
    for word in words[1:]:
        text += word if not (text[-1].isascii() and word[0].isascii() and word[0].isalnum()) else f" {word}"
    return text
