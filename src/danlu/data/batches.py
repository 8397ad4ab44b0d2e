"""Batches of packed documents, resumable at any batch."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.pack import Document, best_fit_decreasing, flatten, lay_rows, ranges
from danlu.data.progress import track
from danlu.models.base import Batch

__all__ = [
    "EpochBatches",
    "PackedBatches",
    "TextEncoder",
    "check_fingerprint",
    "check_rows",
    "check_shape",
    "render_chats",
    "tokenise_texts",
    "valid_batches",
]

_AT_ONCE = 1024


class TextEncoder(Protocol):
    """What is asked of a tokenizer here."""

    eos_id: int

    def encode_batch(self, texts: Sequence[str], /) -> list[list[int]]: ...

    def render(self, messages: Any, /) -> tuple[list[int], list[int]]: ...


class EpochBatches(ABC):
    """An iterator over the batches of `epochs` epochs (None: without end) that resumes exactly.

    A batch is a function of its epoch and its number alone, so a position is two numbers, and `skip` costs nothing.
    `state_dict()` is small and JSON-ready; it stands for the position after the last batch handed out.
    """

    epochs: int | None
    epoch: int = 0
    batch: int = 0

    @abstractmethod
    def __len__(self) -> int:
        """Batches of one epoch."""

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of all that decides which batch comes when."""
        return self.digest()

    @abstractmethod
    def digest(self) -> str:
        """What `fingerprint` keeps."""

    @abstractmethod
    def make(self, epoch: int, batch: int) -> Batch:
        """The batch of this number of this epoch."""

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self.skip()
        return self.make(self.epoch, self.batch - 1)

    def skip(self) -> None:
        """Go past the next batch without making it. Raises StopIteration at the end."""
        if self.batch == len(self):
            self.epoch, self.batch = self.epoch + 1, 0
        if self.epochs is not None and self.epoch >= self.epochs:
            raise StopIteration
        self.batch += 1

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "batch": self.batch, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch the state was taken at; raises DataError when data or settings are others."""
        check_fingerprint(state, self.fingerprint)
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])


def check_fingerprint(state: Mapping[str, Any], mine: str) -> None:
    """Raise DataError when a state was taken with other data or settings."""
    if state.get("fingerprint") != mine:
        raise DataError(
            tr("the data, seed, seq_len or batch size changed since the checkpoint",
               "自检查点之后,数据、随机种子、seq_len 或批大小有变"),
            tr("resume with what the run began with, or start a new run", "请用原来的数据与设置继续,或另起一次训练"),
        )  # fmt: skip


def check_shape(seq_len: int, batch_size: int) -> None:
    """Raise DataError when no batch has this shape."""
    if seq_len < 2 or batch_size < 1:
        raise DataError(
            tr(f"seq_len {seq_len} and batch size {batch_size} cannot make a batch",
               f"seq_len {seq_len}、批大小 {batch_size} 无法组成一批"),
            tr("seq_len must be at least 2, the batch size at least 1", "seq_len 至少为 2,批大小至少为 1"),
        )  # fmt: skip


def check_rows(rows: int, batches: int, seq_len: int, batch_size: int) -> None:
    """Raise DataError when a corpus of so many rows has nothing to learn, or not one batch."""
    if not rows:
        raise DataError(
            tr("no document has a token to learn", "没有一篇文档含有可学习的词元"),
            tr("give documents of two tokens or more; chats need an answer within seq_len",
               "请提供至少两个词元的文档;对话的回答须在 seq_len 之内"),
        )  # fmt: skip
    if not batches:
        raise DataError(
            tr(f"the corpus fills {rows} rows of {seq_len} tokens, less than one batch of {batch_size}",
               f"语料只够 {rows} 行(每行 {seq_len} 个词元),不足一批({batch_size} 行)"),
            tr(f"give more text, or lower the batch size to {rows} or less, or lower seq_len",
               f"请增加文本,或把批大小降到 {rows} 以下,或减小 seq_len"),
        )  # fmt: skip


class PackedBatches(EpochBatches):
    """Endless (or `epochs` long) iterator over batches of documents packed whole into rows of `seq_len`.

    A batch has `input_ids`, `labels` (-100 where no loss falls: masked tokens, padding, the first token of
    each document), `position_ids` (from 0 in each document) and `segment_ids` (1, 2, ... in each row, 0 is
    padding), all int64 [batch_size, seq_len].

    With `shuffle`, each epoch deals documents of equal length anew into the packed rows and orders the rows
    anew, by the seed and the number of the epoch alone. `drop_last` leaves out the rows that do not fill
    a batch (others in each epoch, when shuffled). `long` says what happens to longer documents: see
    `danlu.data.pack.flatten`. `state_dict()` is small and JSON-ready; it stands for the position after the last
    batch handed out.

    Attributes: `rows`; `documents` (after cutting); `tokens_per_epoch` (all rows, no padding); `targets_per_epoch`
    (those a loss falls on); `fill` (share of the rows that is not padding).

    Raises DataError when there is no document with a target, or fewer rows than one batch.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        seq_len: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = None,
        drop_last: bool = True,
        long: Literal["pieces", "truncate"] = "pieces",
        pad_id: int = 0,
    ) -> None:
        check_shape(seq_len, batch_size)
        self.seq_len, self.batch_size, self.seed, self.shuffle = seq_len, batch_size, seed, shuffle
        self.epochs, self.drop_last, self.pad_id = epochs, drop_last, pad_id
        self._tokens = flatten(documents, seq_len, long)
        lengths = self._tokens.lengths
        self._layout = best_fit_decreasing(lengths, seq_len)
        # Documents and places, both by decreasing length: the n-th of the one fits the n-th of the other.
        self._places = np.argsort(-self._layout.lengths, kind="stable")
        self.rows, self.documents = self._layout.rows, len(lengths)
        self.tokens_per_epoch = int(lengths.sum())
        self.targets_per_epoch = int(self._tokens.counted.sum())
        self.fill = self.tokens_per_epoch / max(1, self.rows * seq_len)
        self._order: tuple[int, np.ndarray, np.ndarray] | None = None
        check_rows(self.rows, len(self), seq_len, batch_size)

    def __len__(self) -> int:
        """Batches of one epoch."""
        return self.rows // self.batch_size if self.drop_last else -(-self.rows // self.batch_size)

    def make(self, epoch: int, batch: int) -> Batch:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, *self._deal(epoch))
        _, documents, rows = self._order
        start = batch * self.batch_size
        return self._lay(documents, rows[start : start + self.batch_size])

    def digest(self) -> str:
        settings = (self.seq_len, self.batch_size, self.seed, self.shuffle, self.drop_last, self.pad_id)
        digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
        for array in self._tokens:
            digest.update(array.tobytes())
        return digest.hexdigest()

    def _deal(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Which document lies at each place, int64 [documents], and the order of the rows, int64 [rows]."""
        lengths = self._tokens.lengths
        candidates, rows = np.arange(self.documents), np.arange(self.rows)
        if self.shuffle:
            random = np.random.Generator(np.random.PCG64((self.seed, epoch)))
            candidates, rows = random.permutation(candidates), random.permutation(rows)
        by_length = candidates[np.argsort(-lengths[candidates], kind="stable")]
        documents = np.empty(self.documents, dtype=np.int64)
        documents[self._places] = by_length
        return documents, rows

    def _lay(self, documents: np.ndarray, rows: np.ndarray) -> Batch:
        starts = self._layout.row_starts
        counts = starts[rows + 1] - starts[rows]
        pieces = documents[ranges(starts[rows], counts)]
        begins, sizes = self._tokens.starts[pieces], self._tokens.lengths[pieces]
        chosen = ranges(begins, sizes)
        of_row = np.repeat(np.arange(len(rows)), counts)
        shape = (len(rows), self.seq_len)
        arrays = lay_rows(self._tokens.ids[chosen], self._tokens.counted[chosen], sizes, of_row, shape, self.pad_id)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def valid_batches(
    documents: Sequence[Document],
    seq_len: int,
    batch_size: int,
    *,
    long: Literal["pieces", "truncate"] = "pieces",
    pad_id: int = 0,
) -> list[Batch]:
    """Every document once, in a fixed order; the last batch may have fewer rows. Raises DataError when empty."""
    packed = PackedBatches(
        documents, seq_len, batch_size, shuffle=False, epochs=1, drop_last=False, long=long, pad_id=pad_id
    )
    return list(packed)


def tokenise_texts(texts: Sequence[str], tokenizer: TextEncoder, add_eos: bool = True) -> list[Document]:
    """One document for each text, closed by the end-of-sequence token unless `add_eos` is False."""
    end = [tokenizer.eos_id] if add_eos else []
    parts = [list(texts[at : at + _AT_ONCE]) for at in range(0, len(texts), _AT_ONCE)]
    return [
        Document(ids + end)
        for part in track(parts, len(parts), tr("tokenising", "分词"))
        for ids in tokenizer.encode_batch(part)
    ]


def render_chats(rows: Sequence[dict[str, Any]], tokenizer: TextEncoder) -> list[Document]:
    """One document for each row's `messages`, its mask true on what the assistant says.

    Raises DataError, naming the row, when a row has no messages.
    """
    documents = []
    for number, row in enumerate(track(rows, len(rows), tr("rendering chats", "渲染对话")), 1):
        if not row.get("messages"):
            raise DataError(
                tr(f"row {number} has no messages", f"第 {number} 行没有 messages"),
                tr('each needs {"messages": [{"role": "user", "content": "..."}, ...]}',
                   '每行应为 {"messages": [{"role": "user", "content": "..."}, ...]}'),
            )  # fmt: skip
        documents.append(Document(*tokenizer.render(row["messages"])))
    return documents
