"""Batches out of shards: packed by windows in bounded memory, mixed, dealt over ranks, resumable at any batch."""

import hashlib
import json
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.batches import EpochBatches, check_rows, check_shape
from danlu.data.pack import Layout, best_fit_decreasing, cut, lay_rows, ranges
from danlu.data.progress import track
from danlu.data.shards import ShardArrays, Shards
from danlu.models.base import Batch

__all__ = ["MIX", "WINDOW", "ShardedBatches"]

WINDOW, MIX = 1 << 22, 16


class _Window(NamedTuple):
    """The packed documents of a stretch of a shard: pieces `starts`, `sizes` (int64 [pieces]; `starts` counts from the
    shard's first token), where they go, and their places by decreasing length."""

    arrays: ShardArrays
    starts: np.ndarray
    sizes: np.ndarray
    layout: Layout
    places: np.ndarray


class _Deal(NamedTuple):
    """A mix of windows in one epoch: which piece lies at each place of each window, and the rows in their order, as
    number of the window in `windows` and row in it (int64 [rows] each)."""

    windows: list[_Window]
    pieces: list[np.ndarray]
    window_of: np.ndarray
    row_of: np.ndarray


class ShardedBatches(EpochBatches):
    """What `PackedBatches` is, over a split of `Shards` that need not fit into memory.

    Each stretch of `window` tokens of a shard is packed by itself (best fit, as `PackedBatches` does). With `shuffle` the
    windows come in another order in each epoch, and the rows of every `mix` windows that follow each other are mixed: a
    row can be anywhere among `mix * window` tokens, so sources that lie one after the other in the corpus meet as long as
    it has some windows of each. A corpus of one window gives bit for bit the batches of `PackedBatches`.
    Memory: the index of `mix` windows (about 50 bytes for each piece); the tokens stay on disk.

    Rank `rank` of `world` gets rows that no other rank gets, as many batches as every other. Attributes as
    `PackedBatches` has them; `rows`, `documents`, `tokens_per_epoch` and `fill` are of all ranks together.

    Raises DataError for a shard that is not as it was written, when there is no document with a target, fewer rows than one
    batch for each rank, or `drop_last=False` with several ranks (their numbers of batches would differ).
    """

    def __init__(
        self,
        shards: Shards,
        split: str,
        seq_len: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = None,
        drop_last: bool = True,
        long: Literal["pieces", "truncate"] = "pieces",
        pad_id: int | None = None,
        rank: int = 0,
        world: int = 1,
        window: int = WINDOW,
        mix: int = MIX,
    ) -> None:
        check_shape(seq_len, batch_size)
        if not 0 <= rank < world or (world > 1 and not drop_last):
            raise DataError(
                tr(f"rank {rank} of {world} cannot read with drop_last={drop_last}",
                   f"共 {world} 个进程,编号 {rank} 无法以 drop_last={drop_last} 读取"),
                tr("ranks are 0 to world - 1; several of them need drop_last", "编号应为 0 到 world - 1;多进程须用 drop_last"),
            )  # fmt: skip
        self.shards, self.split, self.seq_len, self.batch_size, self.seed = shards, split, seq_len, batch_size, seed
        self.shuffle, self.epochs, self.drop_last = shuffle, epochs, drop_last
        self.long: Literal["pieces", "truncate"] = long
        self.pad_id: int = shards.record["pad_id"] if pad_id is None else pad_id
        self.rank, self.world, self.window, self.mix = rank, world, window, mix
        self._stretches = self._cut_windows()
        self._loaded: dict[int, _Window] = {}
        self._dealt: dict[tuple[int, int], _Deal] = {}
        self._mixes: tuple[int, list[list[int]], np.ndarray] | None = None
        rows, counts = [], np.zeros(3, dtype=np.int64)
        told = tr("packing", "打包")
        for number in track(range(len(self._stretches)), len(self._stretches), told):
            packed = self._load(number)
            rows.append(packed.layout.rows)
            counts += (len(packed.sizes), packed.sizes.sum(), self._targets(packed))
        self._rows = np.array(rows, dtype=np.int64)
        self.rows = int(self._rows.sum())
        self.documents, self.tokens_per_epoch, self.targets_per_epoch = counts.tolist()
        self.fill = self.tokens_per_epoch / max(1, self.rows * seq_len)
        check_rows(self.rows, len(self), seq_len, batch_size * world)

    def __len__(self) -> int:
        size = self.batch_size * self.world
        return self.rows // size if self.drop_last else -(-self.rows // size)

    def digest(self) -> str:
        settings = (self.split, self.seq_len, self.batch_size, self.seed, self.shuffle, self.drop_last, self.long)
        settings += (self.pad_id, self.world, self.window, self.mix)
        files = json.dumps([shard["files"] for shard in self.shards.list(self.split)], sort_keys=True)
        return hashlib.blake2b(f"{settings} {files}".encode(), digest_size=16).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """Sent to another process without what is kept here."""
        return {**self.__dict__, "_loaded": {}, "_dealt": {}, "_mixes": None}

    def make(self, epoch: int, batch: int) -> Batch:
        start = (batch * self.world + self.rank) * self.batch_size
        stop = min(start + self.batch_size, self.rows)
        mixes, ends = self._order(epoch)
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        while start < stop:  # a batch may reach over the border of two mixes
            at = int(np.searchsorted(ends, start, side="right"))
            begin = int(ends[at - 1]) if at else 0
            until = min(stop, int(ends[at]))
            parts += self._rows_of(self._deal(epoch, at, mixes[at]), slice(start - begin, until - begin))
            start = until
        tokens, counted, sizes = (np.concatenate(arrays) for arrays in zip(*[part[:3] for part in parts], strict=True))
        rows = np.repeat(np.arange(len(parts)), [len(part[2]) for part in parts])
        arrays = lay_rows(tokens, counted, sizes, rows, (len(parts), self.seq_len), self.pad_id)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _cut_windows(self) -> list[tuple[int, int, int]]:
        """(shard, first document, last document + 1) of each window."""
        found = []
        for number, shard in enumerate(self.shards.list(self.split)):
            offsets = self.shards.arrays(shard).offsets
            borders = np.searchsorted(offsets, np.arange(0, int(offsets[-1]), self.window, dtype=np.uint64))
            borders = np.unique(np.append(borders, len(offsets) - 1)).tolist()
            found += [(number, a, b) for a, b in zip([0, *borders], borders, strict=False) if a < b]
        return found

    def _load(self, number: int) -> _Window:
        """Window `number`, packed; the last few are kept."""
        if number not in self._loaded:
            while len(self._loaded) >= self.mix:
                self._loaded.pop(next(iter(self._loaded)))
            shard, first, last = self._stretches[number]
            arrays = self.shards.arrays(self.shards.list(self.split)[shard])
            offsets = np.array(arrays.offsets[first : last + 1], dtype=np.int64)
            starts, sizes = cut(offsets[:-1], np.diff(offsets), self.seq_len, self.long)
            useful = sizes > 1
            if arrays.mask is not None:
                useful &= self._counts(arrays.mask, starts, sizes) > 0
            starts, sizes = starts[useful], sizes[useful]
            layout = best_fit_decreasing(sizes, self.seq_len)
            self._loaded[number] = _Window(arrays, starts, sizes, layout, np.argsort(-layout.lengths, kind="stable"))
        return self._loaded[number]

    @staticmethod
    def _counts(mask: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Targets in each piece, int64 [pieces]: bits set behind its first token."""
        if not len(starts):
            return np.zeros(0, dtype=np.int64)
        base = int(starts[0]) // 8 * 8
        bits = np.unpackbits(mask[base // 8 : (int((starts + sizes).max()) + 7) // 8], bitorder="little")
        before = np.concatenate(([0], np.cumsum(bits, dtype=np.int64)))
        return before[np.maximum(starts + sizes - base, 0)] - before[np.minimum(starts + 1, starts + sizes) - base]

    def _targets(self, window: _Window) -> int:
        mask = window.arrays.mask
        found = window.sizes - 1 if mask is None else self._counts(mask, window.starts, window.sizes)
        return int(found.sum())

    def _order(self, epoch: int) -> tuple[list[list[int]], np.ndarray]:
        """The windows of each mix of an epoch, and the row behind its last one, int64 [mixes]."""
        if self._mixes is None or self._mixes[0] != epoch:
            order = np.arange(len(self._stretches))
            if self.shuffle and len(order) > 1:
                order = np.random.Generator(np.random.PCG64((self.seed, epoch, 0, 1))).permutation(order)
            mixes = [order[at : at + self.mix].tolist() for at in range(0, len(order), self.mix)]
            self._mixes = epoch, mixes, np.cumsum([self._rows[mix].sum() for mix in mixes])
            self._dealt.clear()
        return self._mixes[1], self._mixes[2]

    def _deal(self, epoch: int, at: int, mix: list[int]) -> _Deal:
        """Deal pieces of equal length anew into the places of each window, and mix the rows."""
        if (epoch, at) not in self._dealt:
            while len(self._dealt) > 1:
                self._dealt.pop(next(iter(self._dealt)))
            random = np.random.Generator(np.random.PCG64((self.seed, epoch, at)))
            windows, pieces = [self._load(number) for number in mix], []
            for window in windows:
                candidates = np.arange(len(window.sizes))
                if self.shuffle:
                    candidates = random.permutation(candidates)
                dealt = np.empty(len(candidates), dtype=np.int64)
                dealt[window.places] = candidates[np.argsort(-window.sizes[candidates], kind="stable")]
                pieces.append(dealt)
            rows = [window.layout.rows for window in windows]
            window_of = np.repeat(np.arange(len(windows)), rows)
            row_of = ranges(np.zeros(len(rows), dtype=np.int64), np.array(rows, dtype=np.int64))
            order = random.permutation(len(row_of)) if self.shuffle else np.arange(len(row_of))
            self._dealt[epoch, at] = _Deal(windows, pieces, window_of[order], row_of[order])
        return self._dealt[epoch, at]

    def _rows_of(self, deal: _Deal, rows: slice) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Tokens, whether they count, and the sizes of the pieces, of each row."""
        found = []
        for number, row in zip(deal.window_of[rows].tolist(), deal.row_of[rows].tolist(), strict=True):
            window, borders = deal.windows[number], deal.windows[number].layout.row_starts
            pieces = deal.pieces[number][borders[row] : borders[row + 1]]
            sizes = window.sizes[pieces]
            places = ranges(window.starts[pieces], sizes)
            mask = window.arrays.mask
            counted = (
                np.ones(len(places), bool) if mask is None else (mask[places >> 3] >> (places & 7) & 1).astype(bool)
            )
            found.append((window.arrays.tokens[places], counted, sizes))
        return found
