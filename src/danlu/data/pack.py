"""Packs documents of uneven length into rows of equal length without splitting them.

Best-fit decreasing: the longest document first, each into the fullest row that still holds it. The
choice depends on the lengths alone, so a layout is made once, and each epoch deals the documents of
equal length anew into its places.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

__all__ = ["Document", "Layout", "Tokens", "best_fit_decreasing", "cut", "flatten", "lay_rows", "ranges"]

NO_LOSS = -100


class Document(NamedTuple):
    """Token ids and, of equal length, 1 or True where a token counts in the loss (None: all of them do)."""

    ids: Sequence[int]
    mask: Sequence[int] | None = None


class Tokens(NamedTuple):
    """Many documents end to end: `ids` int32 [N], `counted` bool [N] (False where no loss falls), and
    `starts` int64 [documents + 1], so that document d is `ids[starts[d]:starts[d + 1]]`."""

    ids: np.ndarray
    counted: np.ndarray
    starts: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)


class Layout(NamedTuple):
    """Where documents go: place p takes a document of `lengths[p]` tokens; row r has the places
    `row_starts[r]` to `row_starts[r + 1]`. All int64: lengths [documents], row_starts [rows + 1]."""

    lengths: np.ndarray
    row_starts: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.row_starts) - 1


def flatten(documents: Sequence[Document], seq_len: int, long: Literal["pieces", "truncate"] = "pieces") -> Tokens:
    """Lay documents end to end, none longer than `seq_len` tokens.

    The first token of a document has no loss, nothing before it predicts it. A longer document is cut
    into pieces that overlap by one token: the last token of a piece, predicted there, is the first of the
    next, where it is only read; so cutting loses no target and counts none twice. With "truncate", right
    for chats, what lies beyond `seq_len` is lost instead. Documents without any target are left out.
    """
    lengths = np.fromiter((len(document.ids) for document in documents), dtype=np.int64, count=len(documents))
    total = int(lengths.sum())
    ids = np.fromiter((token for document in documents for token in document.ids), dtype=np.int32, count=total)
    counted = np.ones(total, dtype=bool)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    for at, document in zip(starts.tolist(), documents, strict=False):
        if document.mask is not None:
            counted[at : at + len(document.ids)] = document.mask
    pieces, sizes = cut(starts[:-1], lengths, seq_len, long)
    counted, ids = counted[ranges(pieces, sizes)], ids[ranges(pieces, sizes)]
    starts = np.concatenate(([0], np.cumsum(sizes)))
    counted[starts[:-1][sizes > 0]] = False
    useful = np.add.reduceat(np.append(counted, False), starts[:-1]) > 0 if len(sizes) else np.zeros(0, dtype=bool)
    useful &= sizes > 0
    chosen = ranges(starts[:-1][useful], sizes[useful])
    return Tokens(ids[chosen], counted[chosen], np.concatenate(([0], np.cumsum(sizes[useful]))))


def cut(
    starts: np.ndarray, lengths: np.ndarray, seq_len: int, long: Literal["pieces", "truncate"]
) -> tuple[np.ndarray, np.ndarray]:
    """Start and size of each piece of documents at `starts` of `lengths` tokens: all int64, in order; see `flatten`."""
    if long == "truncate" or not (lengths > seq_len).any():
        return starts, np.minimum(lengths, seq_len)
    step = seq_len - 1
    pieces = np.maximum(1, -(-(lengths - 1) // step))
    number = ranges(np.zeros_like(pieces), pieces)  # 0, 1, ... within each document
    offsets = number * step
    return np.repeat(starts, pieces) + offsets, np.minimum(seq_len, np.repeat(lengths, pieces) - offsets)


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, ... (sizes[0] numbers), then the same for each next; int64 [sum of sizes]."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - sizes), sizes)


# lesson: best-fit
def best_fit_decreasing(lengths: np.ndarray, seq_len: int) -> Layout:
    """Pack `lengths` (int64 [documents], each 1 to `seq_len`) into rows of `seq_len`.

    Rows wait in one stack per number of free tokens. One integer has a bit for each stack that is not empty,
    so the fullest row that still holds a document is the lowest set bit from the document's length on:
    O(documents) steps. Johnson (1974) bounds the rows by 11/9 of the least number possible, plus one.
    """
    waiting: list[list[int]] = [[] for _ in range(seq_len + 1)]
    rows: list[list[int]] = []
    open_sizes = 0
    for length in np.sort(lengths)[::-1].tolist():
        fitting = open_sizes >> length
        if fitting:
            free = length + (fitting & -fitting).bit_length() - 1
            row = waiting[free].pop()
            if not waiting[free]:
                open_sizes &= ~(1 << free)
            rows[row].append(length)
        else:
            free, row = seq_len, len(rows)
            rows.append([length])
        if left := free - length:
            waiting[left].append(row)
            open_sizes |= 1 << left
    counts = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    placed = np.fromiter((length for row in rows for length in row), dtype=np.int64, count=len(lengths))
    return Layout(placed, np.concatenate(([0], np.cumsum(counts))))


# end lesson


# lesson: lay
def lay_rows(
    tokens: np.ndarray, counted: np.ndarray, sizes: np.ndarray, rows: np.ndarray, shape: tuple[int, int], pad_id: int
) -> dict[str, np.ndarray]:
    """The arrays of a batch, each int64 `shape`, from pieces in the order in which they lie.

    `tokens` and `counted` [sum of sizes] are the pieces end to end; piece p has `sizes[p]` tokens and lies in row
    `rows[p]` behind the pieces before it (`rows` rises). A piece's first token has no label: nothing before it predicts it.
    """
    begins = np.cumsum(sizes) - sizes
    first = np.flatnonzero(np.diff(rows, prepend=-1))  # the first piece of each row
    before = np.repeat(first, np.diff(first, append=len(rows)))
    places = ranges(rows * shape[1] + begins - begins[before], sizes)
    positions = ranges(np.zeros_like(sizes), sizes)
    segments = np.arange(1, len(rows) + 1) - before
    batch = {
        "input_ids": np.full(shape, pad_id, dtype=np.int64),
        "labels": np.full(shape, NO_LOSS, dtype=np.int64),
        "position_ids": np.zeros(shape, dtype=np.int64),
        "segment_ids": np.zeros(shape, dtype=np.int64),
    }
    batch["input_ids"].ravel()[places] = tokens
    learnt = counted & (positions > 0)
    batch["labels"].ravel()[places[learnt]] = tokens[learnt]
    batch["position_ids"].ravel()[places] = positions
    batch["segment_ids"].ravel()[places] = np.repeat(segments, sizes)
    return batch


# end lesson
