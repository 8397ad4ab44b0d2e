"""Batches made on the fly: rows of any source are tokenised, packed by windows and handed out, resumable at any batch."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.batches import TextEncoder, check_fingerprint, check_shape
from danlu.data.pack import Document, best_fit_decreasing, flatten, lay_rows, ranges
from danlu.data.sources import Row, read_rows
from danlu.models.base import Batch

__all__ = ["FileRows", "StreamBatches"]

_PORTION = 256  # rows tokenised in one call


class FileRows:
    """A source for `StreamBatches`: what `read_rows` reads, from row `start` on (the rows before it are read and passed)."""

    def __init__(self, paths: Path | str | Sequence[Path | str], **settings: Any) -> None:
        self.paths, self.settings = paths, settings

    def __call__(self, start: int) -> Iterator[Row]:
        return islice(read_rows(self.paths, **self.settings), start, None)


class StreamBatches:
    """Endless (or `epochs` long) iterator over batches like those of `PackedBatches`, of a corpus of unknown length.

    `source(start)` gives the rows of an epoch from number `start` on, the same each time. Rows are tokenised as they
    come, until a window has `window` targets; it is packed by best fit and, with `shuffle`, its rows change places.
    So neighbours in the source stay within a window of each other: shuffle the source itself when it is sorted. Rows
    that fill no whole batch go into the next window; at the end of an epoch `drop_last` leaves them out.

    `state_dict()` has the row at which the window began; to resume, that window is read and packed again (and the one
    before it, when rows were left of it), and its digest is compared. There is no length: give `train.steps`.

    Raises DataError when an epoch has not one batch, a row lacks `content`, or, on resuming, data, tokenizer or
    settings are others than they were.
    """

    def __init__(
        self,
        source: Callable[[int], Iterator[Row]],
        tokenizer: TextEncoder,
        seq_len: int,
        batch_size: int,
        *,
        content: Literal["text", "messages"] = "text",
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = None,
        drop_last: bool = True,
        pad_id: int = 0,
        window: int = 1 << 19,
    ) -> None:
        check_shape(seq_len, batch_size)
        self.source, self.tokenizer, self.content = source, tokenizer, content
        self.seq_len, self.batch_size, self.seed, self.shuffle = seq_len, batch_size, seed, shuffle
        self.epochs, self.drop_last, self.pad_id = epochs, drop_last, pad_id
        self.window = max(window, seq_len * batch_size)  # then the rows left of a window are rows of that window
        settings = (content, seq_len, batch_size, seed, shuffle, drop_last, pad_id, self.window)
        self.fingerprint = hashlib.blake2b(repr(settings).encode(), digest_size=16).hexdigest()
        self._begin(epoch=0)

    def _begin(self, epoch: int) -> None:
        self.epoch, self.number, self.batch = epoch, 0, 0  # number: of the window in the epoch
        self.row, self.previous = 0, 0  # where the window and the one before it begin
        self._documents: Iterator[Document] | None = None
        self._carried: dict[str, np.ndarray] | None = None
        self._rows: dict[str, np.ndarray] | None = None  # the window: carried rows, then its own
        self._digest, self._end, self._last = "", 0, False

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while self.epochs is None or self.epoch < self.epochs:
            if self._rows is None:
                self._rows = self._build()
            at, left = self.batch * self.batch_size, self._left()
            if left >= self.batch_size or (left > 0 and self._last and not self.drop_last):
                self.batch += 1
                rows = slice(at, at + self.batch_size)
                return {name: torch.from_numpy(array[rows].copy()) for name, array in self._rows.items()}
            if self._last:
                if self.number == 0 and self.batch == 0:
                    raise DataError(
                        tr(f"the source has not one batch of {self.batch_size} rows of {self.seq_len} tokens",
                           f"数据源不足一批({self.batch_size} 行,每行 {self.seq_len} 个词元)"),
                        tr("give more text, or lower the batch size or seq_len", "请增加文本,或减小批大小或 seq_len"),
                    )  # fmt: skip
                self._begin(self.epoch + 1)
            else:
                self._next_window()
        raise StopIteration

    def state_dict(self) -> dict[str, Any]:
        carried = 0 if self._carried is None else len(self._carried["labels"])
        names = ("epoch", "number", "batch", "row", "previous", "fingerprint")
        return {name: getattr(self, name) for name in names} | {"carried": carried, "digest": self._digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch the state was taken at. Reads the source up to there."""
        check_fingerprint(state, self.fingerprint)
        self._begin(int(state["epoch"]))
        if not state["digest"]:  # nothing had been read
            return
        if state["carried"]:
            self.number, self.row = int(state["number"]) - 1, int(state["previous"])
            self._rows = self._build()
            # what was left of it is its last rows, whatever had been carried into it
            self._carried = {name: array[-int(state["carried"]) :] for name, array in self._rows.items()}
        else:
            self._end = int(state["row"])
        self.previous, self.row, self.number = int(state["previous"]), int(state["row"]), int(state["number"])
        same = self._end == self.row
        self._rows = self._build()
        self.batch = int(state["batch"])
        if not same or self._digest != state["digest"]:
            raise DataError(
                tr("the source or the tokenizer changed since the checkpoint", "自检查点之后,数据源或分词器有变"),
                tr("resume with what the run began with, or start a new run", "请用原来的数据继续,或另起一次训练"),
            )

    def _left(self) -> int:
        assert self._rows is not None
        return len(self._rows["labels"]) - self.batch * self.batch_size

    def _next_window(self) -> None:
        assert self._rows is not None
        at = self.batch * self.batch_size
        self._carried = {name: array[at:] for name, array in self._rows.items()} if self._left() else None
        self.previous, self.row, self.number, self.batch, self._rows = self.row, self._end, self.number + 1, 0, None

    def _build(self) -> dict[str, np.ndarray]:
        """The window that begins at `row`; the carried rows stand before its own."""
        if self._documents is None:
            self._documents = self._tokenised(self.source(self.row))
        documents, targets = [], 0
        self._last = True
        for document in self._documents:
            documents.append(document)
            targets += self._count(document)
            if targets >= self.window:
                self._last = False
                break
        self._end = self.row + len(documents)
        tokens = flatten(documents, self.seq_len, self._long)
        self._digest = hashlib.blake2b(tokens.ids.tobytes() + tokens.counted.tobytes(), digest_size=8).hexdigest()
        layout = best_fit_decreasing(tokens.lengths, self.seq_len)
        pieces = np.empty(len(layout.lengths), dtype=np.int64)  # longest first into places by falling length
        pieces[np.argsort(-layout.lengths, kind="stable")] = np.argsort(-tokens.lengths, kind="stable")
        order = np.arange(layout.rows)
        if self.shuffle:
            order = np.random.Generator(np.random.PCG64((self.seed, self.epoch, self.number))).permutation(order)
        counts = np.diff(layout.row_starts)[order]
        pieces = pieces[ranges(layout.row_starts[order], counts)]
        sizes = tokens.lengths[pieces]
        chosen = ranges(tokens.starts[pieces], sizes)
        rows, shape = np.repeat(np.arange(len(order)), counts), (len(order), self.seq_len)
        arrays = lay_rows(tokens.ids[chosen], tokens.counted[chosen], sizes, rows, shape, self.pad_id)
        if self._carried is None:
            return arrays
        return {name: np.concatenate((self._carried[name], array)) for name, array in arrays.items()}

    @property
    def _long(self) -> Literal["pieces", "truncate"]:
        return "pieces" if self.content == "text" else "truncate"

    def _count(self, document: Document) -> int:
        """Targets that packing keeps of a document."""
        if document.mask is None:
            return max(0, len(document.ids) - 1)
        return sum(map(bool, document.mask[1 : self.seq_len]))

    def _tokenised(self, rows: Iterator[Row]) -> Iterator[Document]:
        """One document for each row."""
        number = self.row
        while portion := list(islice(rows, _PORTION)):
            for row in portion:
                number += 1
                if self.content not in row:
                    raise DataError(
                        tr(f"row {number} has no {self.content}", f"第 {number} 行没有 {self.content}"),
                        tr(f"it has: {', '.join(row)}", f"该行有:{'、'.join(row)}"),
                    )
            if self.content == "messages":
                yield from (Document(*self.tokenizer.render(row["messages"])) for row in portion)
            else:
                texts = [row["text"] for row in portion]
                yield from (Document([*ids, self.tokenizer.eos_id]) for ids in self.tokenizer.encode_batch(texts))
