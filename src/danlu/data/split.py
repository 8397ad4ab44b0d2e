"""Splits rows into train, valid and test so that nothing on one side gives away the other."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.dedup import content_hash

__all__ = ["LEFT_OUT", "SPLITS", "Split", "assign", "chunk_texts", "join_groups", "split_size"]

SPLITS = ("train", "valid", "test")
LEFT_OUT = 3  # a row too near to the test rows to be trained on, and not one of them
_TRAIN, _VALID, _TEST = range(3)
_CHUNK = 32  # characters; less is no text to learn from


class Split(NamedTuple):
    """`side[i]` is 0 train, 1 valid, 2 test or 3 left out, int8 [rows]; `groups` counts the groups."""

    side: np.ndarray
    groups: int

    def count(self, side: int) -> int:
        return int((self.side == side).sum())


def join_groups(keys: Iterable[Sequence[str]]) -> np.ndarray:
    """Group numbers, int64 [rows]: rows that share any key, also by way of others, are one group.

    Union-find with path halving. A group's number is that of its first row.
    """
    parent: list[int] = []
    first: dict[str, int] = {}

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for row, keys_of_row in enumerate(keys):
        parent.append(row)
        for key in keys_of_row:
            a, b = root(first.setdefault(key, row)), root(row)
            parent[max(a, b)] = min(a, b)
    return np.array([root(row) for row in range(len(parent))], dtype=np.int64)


def split_size(wish: float, rows: int) -> int:
    """A wish below 1 is a fraction of the rows, at least one row unless it is 0; else it is a count.

    Raises DataError when less than half of the rows would be left to train on.
    """
    size = round(wish) if wish >= 1 else max(round(wish * rows), 1 if wish > 0 else 0)
    if 2 * size > rows:
        raise DataError(
            tr(f"cannot hold out {size} of {rows} documents", f"无法从 {rows} 篇文档中留出 {size} 篇"),
            tr(
                "hold out fewer with --valid and --test, or give more text",
                "请用 --valid 与 --test 少留一些,或提供更多文本",
            ),
        )
    return size


def assign(
    groups: Sequence[str], *, valid: int, test: int, seed: int = 0, held_out: Sequence[str] | None = None
) -> Split:
    """Put whole groups aside, in the order of the hash of their name, until `valid` and `test` rows are reached.

    `groups[i]` names the group of row i. The order depends on the names and the seed alone, not on the
    order of the rows. A group larger than what is still wanted stays in train, so the counts are met
    exactly as long as small groups are left; when no group at all is small enough, the smallest is taken.

    `held_out[i]` names something of row i that training must never see, such as its title. Test is then
    drawn by these names: all rows of a drawn name are test rows, and a row of another name which shares
    a group with them is left out of everything. Names with more than 2 % of the test rows come last.

    Raises DataError when the smallest group holds more than half of the rows.
    """
    side = np.zeros(len(groups), dtype=np.int8)
    _draw(side, _TEST, groups if held_out is None else held_out, wanted=test, salt=("test", seed))
    if held_out is not None:
        near = {groups[row] for row in np.flatnonzero(side == _TEST).tolist()}
        for row, group in enumerate(groups):
            if side[row] == _TRAIN and group in near:
                side[row] = LEFT_OUT
    _draw(side, _VALID, groups, wanted=valid, salt=("valid", seed))
    return Split(side, len(set(groups)))


def _draw(side: np.ndarray, mark: int, names: Sequence[str], *, wanted: int, salt: tuple[str, int]) -> None:
    """Mark all rows of one name after another, among those still in train, until `wanted` are marked."""
    if not wanted:
        return
    members: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(side == _TRAIN).tolist():
        members[names[row]].append(row)
    purpose, seed = salt
    usual = max(1, wanted // 50)
    key = {name: (len(rows) > usual, content_hash(f"{purpose}:{name}", seed)) for name, rows in members.items()}
    for name in sorted(members, key=key.__getitem__):
        if len(members[name]) <= wanted:
            side[members[name]] = mark
            wanted -= len(members[name])
        if not wanted:
            return
    if not (side == mark).any():
        smallest = min(members, key=lambda name: (len(members[name]), key[name]), default="")
        if not members or 2 * len(members[smallest]) > len(side):
            raise DataError(
                tr(
                    "nothing can be held out: the documents are too few or too alike",
                    "无法留出数据:文档太少,或彼此太相似",
                ),
                tr(
                    "give more text, or hold out none with --valid 0 --test 0",
                    "请提供更多文本,或用 --valid 0 --test 0 不留出",
                ),
            )
        side[members[smallest]] = mark


def chunk_texts(texts: Sequence[str], pieces: int) -> list[str]:
    """Cut few long texts into about `pieces` chunks of whole lines, each of one text only.

    A chunk has 32 characters or more, but for the last of a text; a line much too long is cut between
    characters. Joined, the chunks of the texts are the texts.
    """
    size = max(_CHUNK, -(-sum(map(len, texts)) // max(1, pieces)))
    chunks: list[str] = []
    for text in texts:
        chunk = ""
        for line in text.splitlines(keepends=True):
            if chunk and len(chunk) + len(line) > size:
                chunks.append(chunk)
                chunk = ""
            chunk += line
            while len(chunk) > 2 * size:
                chunks.append(chunk[:size])
                chunk = chunk[size:]
        if chunk:
            chunks.append(chunk)
    return chunks
