"""Step `decontaminate`: no text of the evaluation sets in the training data.

Two rules, on words (and single Chinese characters) without case and punctuation. A run of 13 words that also stands in
an evaluation item (Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C); and, for items of 8 words or more,
short n-grams that together cover most of an item, so that a word changed here and there does not hide it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
import xxhash

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.sources import Row
from danlu.data.step import Drop, content
from danlu.data.steps._text import HAN, rewrite

__all__ = ["Config", "Index", "Sizes", "Step", "tokens"]

_TOKEN = re.compile(rf"[{HAN}]|[^\W_{HAN}]+")
_IS_HAN = re.compile(f"[{HAN}]")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_BITS = 24  # of the table that says quickly that an n-gram is in no item
_COMMON = 50  # an n-gram of more items says nothing
_APART = 6  # tokens between two stretches of one copied passage


class Sizes(NamedTuple):
    """Lengths in tokens, for Latin words or for Chinese characters."""

    short: int
    long: int
    least: int  # items with fewer tokens are left out


_WORDS, _CHARACTERS = Sizes(5, 13, 8), Sizes(8, 20, 12)


class Config(Base):
    """The sets, and what becomes of a row that holds some of them."""

    sets: list[Input] = doc(
        ...,
        "evaluation sets: jsonl (every text in it), txt (paragraphs), or folders of them",
        "评测集：jsonl（取其中全部文本）、txt（按段落）或其文件夹",
    )
    columns: tuple[str, ...] = doc((), "only these columns of the jsonl", "只取 jsonl 的这些列")
    cover: float = doc(
        0.7, "share of an item's words that must be found, in short runs", "短片段合计应覆盖题目的多少", gt=0, le=1
    )
    action: Literal["drop", "cut"] = doc(
        "drop", "drop the row, or cut out the passage only", "丢弃整行，或只删去命中的段落"
    )
    min_left: int = doc(50, "drop the row if cutting leaves fewer characters", "删减后不足这么多字符则丢弃", ge=0)


def tokens(text: str) -> list[str]:
    """Words of letters and digits in lower case, Chinese characters one by one; marks are left out."""
    return _TOKEN.findall(text.lower())


@lru_cache(maxsize=200_000)
def _number(token: str) -> int:
    return xxhash.xxh3_64_intdigest(token.encode("utf-8", "replace"))


def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """F^0, F^1, ... and their inverses modulo 2^64, `length` of each or a few more."""
    up, down = _table_of_powers(1 << max(10, (length - 1).bit_length()))
    return up[:length], down[:length]


@lru_cache(maxsize=4)
def _table_of_powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    powers = [np.full(length, one, np.uint64) for one in (int(_FACTOR), pow(int(_FACTOR), -1, 1 << 64))]
    for one in powers:
        one[0] = 1
    return np.cumprod(powers[0], dtype=np.uint64), np.cumprod(powers[1], dtype=np.uint64)


def _numbers(words: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(_number, words), np.uint64, len(words))


# lesson: decontaminate
def grams(numbers: np.ndarray, size: int) -> np.ndarray:
    """A hash of every run of `size` numbers; uint64 [N - size + 1], empty if there are fewer.

    With sums S[i] of x[j] F^j modulo 2^64, the run that begins at i is (S[i + size] - S[i]) / F^i: F is odd, so it has an
    inverse, and any size costs the same (Karp and Rabin 1987).
    """
    count = len(numbers) - size + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    up, down = _powers(len(numbers))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(numbers * up, dtype=np.uint64)])
    runs = (sums[size:] - sums[:-size]) * down[:count]
    return (runs ^ (runs >> np.uint64(29))) * _FACTOR


def covered(found: np.ndarray, size: int, length: int) -> np.ndarray:
    """Which of `length` tokens lie in a run of `size` that begins where `found` says so; bool [length]."""
    edges = np.zeros(length + 1, np.int64)
    starts = np.flatnonzero(found)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + size, -1)
    return np.cumsum(edges)[:length] > 0


# end lesson


class _Grams:
    """Sorted n-grams with the items they stand in."""

    def __init__(self, size: int, numbers: list[np.ndarray], items: list[int], widespread: bool) -> None:
        self.size = size
        owners = np.repeat(np.asarray(items, np.int64), [len(one) for one in numbers])
        both = grams(np.concatenate(numbers), size)
        within = owners[: len(both)] == owners[size - 1 : size - 1 + len(both)]  # not from one item into the next
        both, owners = both[within], owners[: len(both)][within]
        order = np.lexsort((owners, both))
        both, owners = both[order], owners[order]
        if len(both):  # an n-gram twice in one item counts once
            new = np.concatenate([[True], (both[1:] != both[:-1]) | (owners[1:] != owners[:-1])])
            both, owners = both[new], owners[new]
        self.hashes, starts, counts = np.unique(both, return_index=True, return_counts=True)
        if not widespread:
            keep = counts <= _COMMON
            self.hashes, starts, counts = self.hashes[keep], starts[keep], counts[keep]
        self.owners, self.starts, self.counts = owners, starts, counts
        self.table = np.zeros(1 << (_BITS - 3), np.uint8)
        place = self.hashes >> np.uint64(64 - _BITS)
        np.bitwise_or.at(self.table, place >> np.uint64(3), np.uint8(1) << (place & np.uint64(7)).astype(np.uint8))

    def find(self, sums: np.ndarray) -> np.ndarray:
        """For each n-gram its place in `hashes`, -1 when it is in no item."""
        out = np.full(len(sums), -1, np.int64)
        place = sums >> np.uint64(64 - _BITS)
        maybe = np.flatnonzero(self.table[place >> np.uint64(3)] >> (place & np.uint64(7)).astype(np.uint8) & 1)
        if len(maybe) and len(self.hashes):
            at = np.minimum(np.searchsorted(self.hashes, sums[maybe]), len(self.hashes) - 1)
            hit = self.hashes[at] == sums[maybe]
            out[maybe[hit]] = at[hit]
        return out

    def items_at(self, place: int) -> np.ndarray:
        return self.owners[self.starts[place] : self.starts[place] + self.counts[place]]


class Index:
    """The n-grams of all items; `add` them, then `build`, then `search`."""

    def __init__(self, cover: float = 0.7) -> None:
        self.cover = cover
        self.items: list[tuple[str, np.ndarray, Sizes]] = []
        self._seen: set[bytes] = set()

    def add(self, text: str, name: str) -> None:
        """An item of set `name`; one with too few tokens would be found everywhere and is left out."""
        if (mark := xxhash.xxh3_128_digest(text.encode("utf-8", "replace"))) in self._seen:
            return
        self._seen.add(mark)
        words = tokens(text)
        han = 0 if text.isascii() else len(_IS_HAN.findall(text))
        sizes = _CHARACTERS if 2 * han > len(words) else _WORDS
        if len(words) < sizes.least:
            return
        self.items.append((name, _numbers(words), sizes))

    def build(self) -> "Index":
        self._seen.clear()
        self.parts: list[tuple[Sizes, _Grams, _Grams]] = []
        for sizes in (_WORDS, _CHARACTERS):
            mine = [at for at, item in enumerate(self.items) if item[2] == sizes]
            if mine:
                made = [
                    _Grams(size, [self.items[at][1] for at in mine], mine, widespread)
                    for size, widespread in ((sizes.short, False), (sizes.long, True))
                ]
                self.parts.append((sizes, made[0], made[1]))
        return self

    def search(self, words: Sequence[str]) -> tuple[str, np.ndarray] | None:
        """The name of a set and which of `words` are copied from it, bool [N]; None when nothing is."""
        numbers = _numbers(words)
        names: list[str] = []
        marked = np.zeros(len(words), bool)
        for sizes, short, long in self.parts:
            whole = long.find(grams(numbers, sizes.long)) if len(words) >= sizes.long else np.zeros(0, np.int64)
            if (whole >= 0).any():
                first = int(whole[whole >= 0][0])
                names.append(self.items[int(long.items_at(first)[0])][0])
                marked |= covered(whole >= 0, sizes.long, len(words))
            found = short.find(grams(numbers, sizes.short)) if len(words) >= sizes.short else np.zeros(0, np.int64)
            for item, places in self._mostly(found, short, sizes):
                names.append(self.items[item][0])
                marked |= covered(places, sizes.short, len(words))
        return (names[0], marked) if names else None

    def _mostly(self, found: np.ndarray, short: _Grams, sizes: Sizes) -> Iterator[tuple[int, np.ndarray]]:
        """Items most of whose tokens are covered by runs near each other in the text, and where these are."""
        at = np.flatnonzero(found >= 0)
        if len(at) < 2:
            return
        hits = np.unique(found[at])
        owners = np.concatenate([short.items_at(int(place)) for place in hits])
        for item, count in zip(*np.unique(owners, return_counts=True), strict=True):
            numbers = self.items[item][1]
            # Of a short item more has to be there, or half of all sentences would be one.
            least = max(self.cover * len(numbers), sizes.least)
            if (count + 1) * sizes.short < least:
                continue
            own = grams(numbers, sizes.short)
            mine = at[np.isin(short.hashes[found[at]], own)]
            for run in np.split(mine, np.flatnonzero(np.diff(mine) > len(numbers)) + 1):
                places = np.zeros(len(found), bool)
                places[run] = True
                seen = np.isin(own, short.hashes[found[run]])
                if covered(seen, sizes.short, len(numbers)).sum() >= least:
                    yield int(item), places


class Step:
    """Drops rows that hold evaluation items, or cuts the passages."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.index = Index(config.cover)
        for path in config.sets:
            for name, text in _items(path, config.columns):
                self.index.add(text, name)
        if not self.index.items:
            raise DataError(
                tr("the evaluation sets hold no text long enough", "评测集里没有足够长的文本"),
                tr("check the paths, and `columns`", "请检查路径与 columns"),
            )
        self.index.build()

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        found = self.index.search(tokens(content(row)))
        if found is None:
            return row
        tally[f"from_{re.sub(chr(92) + 'W+', '_', found[0].lower())}"] += 1
        if self.config.action == "drop":
            return Drop("contaminated", found[0])
        left = rewrite(row, self._cut)
        if len(content(left).strip()) < self.config.min_left:
            return Drop("contaminated", found[0])
        tally["passages_cut"] += 1
        return left

    def _cut(self, text: str) -> str:
        lower = text.lower()
        if len(lower) != len(text):  # İ becomes two characters
            lower = "".join(one.lower() if len(one.lower()) == 1 else one for one in text)
        spans = [match.span() for match in _TOKEN.finditer(lower)]
        found = self.index.search([lower[start:end] for start, end in spans])
        if found is None:
            return text
        marked = np.flatnonzero(found[1])
        runs = np.split(marked, np.flatnonzero(np.diff(marked) > _APART) + 1)
        parts, done = [], 0
        for run in runs:
            parts.append(text[done : spans[run[0]][0]])
            done = spans[run[-1]][1]
        return "".join([*parts, text[done:]])


def _items(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(name of the set, text) of each text in a file or folder. Raises DataError."""
    files = sorted(file for file in path.rglob("*") if file.suffix in (".jsonl", ".txt")) if path.is_dir() else [path]
    for file in files:
        name = file.stem if file.parent == path or not path.is_dir() else file.relative_to(path).parts[0]
        try:
            if file.suffix != ".jsonl":
                yield from ((name, part) for part in re.split(r"\n\s*\n", file.read_text(encoding="utf-8-sig")))
                continue
            with file.open("rb") as lines:
                for line in lines:
                    row = orjson.loads(line) if line.strip() else {}
                    yield from ((name, text) for text in _texts(_chosen(row, columns)))
        except (OSError, ValueError) as error:
            raise DataError(
                tr(f"cannot read the evaluation set {file}: {error}", f"无法读取评测集 {file}：{error}"),
                tr("give UTF-8 jsonl or txt files", "请给出 UTF-8 的 jsonl 或 txt 文件"),
            ) from None


def _chosen(row: Any, columns: tuple[str, ...]) -> Any:
    return {name: row[name] for name in columns if name in row} if columns and isinstance(row, dict) else row


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
