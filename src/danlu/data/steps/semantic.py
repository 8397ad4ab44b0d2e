"""Semantic duplicates: rows whose sentence vectors nearly coincide with that of an earlier row are dropped.

SemDeDup (Abbas et al. 2023, "SemDeDup: Data-efficient learning at web-scale through semantic deduplication"): k-means parts
the vectors into clusters, and only within a cluster each is compared with each. Of those alike the first in the corpus
stays. Only the beginning of a long row is read, as far as the model reads.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from danlu.core.assets import asset_path, catalogue
from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.data.dedup import corpus_rows, release, settle_copies
from danlu.data.sources import Row
from danlu.data.step import Keys, Settled, content

__all__ = ["Config", "Step", "centroids", "nearest", "repeats"]

Vectors = NDArray[np.float32]

_HEAD = 8192  # characters of a row that are tokenised
_SAMPLE = 50_000  # rows, at most, from which the centroids are learnt
_ROUNDS = 10  # of k-means
_CHUNK = 2048  # rows that are multiplied together, wherever the parts of the corpus end
_PER_CLUSTER = 500  # rows, on average


class Config(Base):
    """Which model, and how near is too near."""

    model: Input = doc(Path("all-minilm-l6-v2"), "model folder, or an asset such as all-minilm-l6-v2", "模型文件夹，或资料名，如 all-minilm-l6-v2")  # fmt: skip
    eps: float = doc(0.05, "rows whose cosine is above 1 - eps are alike", "余弦大于 1 - eps 即视为重复", gt=0, lt=1)
    clusters: PositiveInt | None = doc(None, "clusters of k-means; default: one for 500 rows", "k-means 的簇数；默认每 500 行一簇")  # fmt: skip
    seed: NonNegativeInt = doc(0, "seed of k-means", "k-means 的随机种子")


class Step:
    """Keys of N rows: vectors float16 [N, D] of length 1, all 0 for an empty row."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._embedder = None

    def keys(self, rows: Sequence[Row]) -> Keys:
        embedder = self._open()
        texts = [content(row)[:_HEAD].strip() for row in rows]
        filled = [number for number, text in enumerate(texts) if text]
        # With a text of our own, so that the vectors have their length where all rows are empty
        vectors = embedder.embed(["1", *(texts[number] for number in filled)], steady=True).double().numpy()
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        found = np.zeros((len(rows), vectors.shape[1]), np.float16)
        found[filled] = vectors[1:]
        return {"vectors": found}

    def _open(self):
        """The model is read when the first row is to be encoded: deciding and settling need none."""
        if self._embedder is None:
            from danlu.data.embedder import Embedder

            path = self.config.model
            if not path.exists() and str(path) in catalogue():
                path = asset_path(str(path))
            self._embedder = Embedder.open(path)
        return self._embedder

    def decide(self, parts: Sequence[Keys]) -> list[np.ndarray]:
        """The row that each row repeats, -1 for those that stay."""
        arrays = [part["vectors"] for part in parts]
        starts = corpus_rows([len(array) for array in arrays])
        total = int(starts[-1])
        found = np.full(total, -1, np.int64)
        if total:
            count = min(total, self.config.clusters or max(1, total // _PER_CLUSTER))
            sample = np.unique(np.linspace(0, total - 1, min(total, _SAMPLE)).astype(np.int64))
            centres = centroids(_rows(arrays, starts, sample), count, self.config.seed)
            chunks = [np.arange(start, min(start + _CHUNK, total)) for start in range(0, total, _CHUNK)]
            labels = np.concatenate([nearest(_rows(arrays, starts, chunk), centres) for chunk in chunks])
            order = np.argsort(labels, kind="stable")
            for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
                copies = repeats(_rows(arrays, starts, rows), 1 - self.config.eps)
                found[rows[copies >= 0]] = rows[copies[copies >= 0]]
        return np.split(found, starts[1:-1]) if len(parts) else []

    def settle(self, rows: Sequence[Row], decision: np.ndarray, tally: Counter[str]) -> list[Settled]:
        return settle_copies(rows, decision, "semantic_duplicate", tally)


def _rows(arrays: Sequence[np.ndarray], starts: NDArray[np.int64], rows: NDArray[np.int64]) -> Vectors:
    """The vectors of ascending row numbers, float32 [len(rows), D]."""
    borders = np.searchsorted(rows, starts)
    pieces = [
        array[rows[first:last] - start]
        for array, start, first, last in zip(arrays, starts, borders, borders[1:], strict=False)
        if last > first
    ]
    found = np.concatenate(pieces).astype(np.float32)
    release(arrays)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)  # float16 is not exactly of length 1


def nearest(vectors: Vectors, centres: Vectors) -> NDArray[np.int32]:
    """int32 [N]: the centre with the largest cosine, of vectors [N, D] and centres [K, D] of length 1."""
    return np.concatenate(
        [
            (vectors[start : start + _CHUNK] @ centres.T).argmax(axis=1).astype(np.int32)
            for start in range(0, len(vectors), _CHUNK)
        ]
    )


def centroids(vectors: Vectors, count: int, seed: int) -> Vectors:
    """Spherical k-means: float32 [count, D] of length 1, from `count` random rows in ten rounds.

    A centre that no row is nearest to stays where it was.
    """
    centres = vectors[np.random.default_rng(seed).choice(len(vectors), count, replace=False)]
    for _ in range(_ROUNDS if count > 1 else 0):
        labels = nearest(vectors, centres)
        order = np.argsort(labels, kind="stable")
        begins = np.concatenate(([0], np.flatnonzero(np.diff(labels[order])) + 1))
        sums = np.add.reduceat(vectors[order], begins, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        moved = labels[order][begins][lengths[:, 0] > 0]
        centres[moved] = (sums / np.maximum(lengths, 1e-12))[lengths[:, 0] > 0]
    return centres


# lesson: semantic
def repeats(vectors: Vectors, threshold: float) -> NDArray[np.int64]:
    """int64 [N]: the first vector before it that stays and whose cosine is above `threshold`; -1 where there is none.

    vectors: float32 [N, D] of length 1 (or 0, which is like nothing).
    """
    found = np.full(len(vectors), -1, np.int64)
    kept = np.zeros(0, np.int64)
    for start in range(0, len(vectors), 1024):
        block = vectors[start : start + 1024]
        own = found[start : start + 1024]
        if len(kept):
            near = block @ vectors[kept].T > threshold
            own[:] = np.where(near.any(axis=1), kept[near.argmax(axis=1)], -1)
        near = np.tril(block @ block.T > threshold, -1)
        for number in np.flatnonzero((own < 0) & near.any(axis=1)):
            before = np.flatnonzero(near[number] & (own < 0))
            if len(before):
                own[number] = start + before[0]
        kept = np.concatenate((kept, start + np.flatnonzero(own < 0)))
    return found


# end lesson
