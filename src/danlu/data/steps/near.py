"""Near duplicates: rows that share most of their shingles with an earlier row are dropped.

MinHash signatures find the candidates (danlu.data.minhash); where their estimate leaves it open whether two rows are
alike enough, the shingles themselves are compared. A row goes only when an earlier row that stays is like it, so what is
dropped is always like what is kept: there are no chains from like to like whose ends are strangers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.data.dedup import corpus_rows, release, settle_copies
from danlu.data.minhash import (
    SMALL,
    Hashes,
    Pairs,
    band_keys,
    bucket_edges,
    choose_bands,
    compact,
    estimate,
    jaccard,
    shingle_hashes,
    signatures,
)
from danlu.data.near_on_ray import ray_edges
from danlu.data.sources import Row
from danlu.data.step import Keys, Settled, content

__all__ = ["Config", "Gather", "Step", "drop_near", "same_keys"]

_MISSING = 0.98  # how much worse a missed duplicate is than a comparison in vain, for the choice of the bands
_SPREADS = 3.0  # standard deviations of the estimate within which the shingles decide
_NONE = np.zeros((0, 2), np.int64)
_AT_ONCE = 1 << 15  # pairs, or rows of a bucket that are looked at together


class Config(Base):
    """What counts as nearly the same."""

    threshold: float = doc(0.75, "shared part of all shingles from which on two rows are alike (Jaccard)", "两行共有片段占全部片段的比例（Jaccard）达到多少算近似重复", gt=0, lt=1)  # fmt: skip
    words: PositiveInt = doc(5, "words of a shingle", "每个片段的单词数")
    characters: PositiveInt = doc(5, "characters of a shingle, in scripts without spaces such as Chinese", "每个片段的字数（用于中文等不用空格分词的文字）")  # fmt: skip
    shortest: PositiveInt = doc(10, "rows of fewer shingles are left to the step 'exact'", "片段少于此数的行不作比较，交给 exact 步骤")  # fmt: skip
    num_perm: PositiveInt = doc(128, "minima of a signature", "每个签名的最小值个数")
    seed: int = doc(0, "seed of the permutations", "置换所用的随机种子", ge=0)


class Step:
    """Keys of N rows: count int64 [N] shingles, bands uint32 [B, N], minima uint8 [N, num_perm], shingles uint32."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.bands, self.rows = choose_bands(config.threshold, config.num_perm, _MISSING)
        self.margin = _SPREADS * (config.threshold * (1 - config.threshold) / config.num_perm) ** 0.5

    def keys(self, rows: Sequence[Row]) -> Keys:
        config = self.config
        hashes, starts = shingle_hashes([content(row) for row in rows], config.words, config.characters)
        found = signatures(hashes, starts, config.num_perm, config.seed)
        bands = band_keys(found, self.bands, self.rows)
        return {"count": np.diff(starts), "bands": bands, "minima": compact(found), "shingles": hashes}

    def decide(self, parts: Sequence[Keys]) -> list[np.ndarray]:
        """The row that each row repeats, -1 for those that stay."""
        gather = Gather(parts)
        eligible = np.concatenate([part["count"] >= self.config.shortest for part in parts] or [np.zeros(0, bool)])
        codes = np.zeros(0, np.uint64)
        for band in range(self.bands):
            keys = np.concatenate([part["bands"][band] for part in parts] or [np.zeros(0, np.uint32)])
            release(part["bands"] for part in parts)
            edges = np.concatenate([*_band_edges(keys, eligible, gather, self.config.threshold, self.margin), _NONE])
            codes = np.union1d(codes, _codes(edges))
        return self._decided(codes, gather)

    def decide_on_ray(self, parts: Sequence[Keys]) -> list[np.ndarray]:
        """The same, its pairs found on a cluster that rows are sent around in by the keys of their bands."""
        edges = ray_edges(parts, self.config.shortest, self.config.threshold, self.margin)
        return self._decided(np.unique(_codes(edges)), Gather(parts))

    def _decided(self, codes: NDArray[np.uint64], gather: "Gather") -> list[np.ndarray]:
        edges = np.column_stack((codes & np.uint64(0xFFFFFFFF), codes >> np.uint64(32))).astype(np.int64)
        kept = drop_near(gather.alike(edges, self.config.threshold, self.margin), gather.total)
        return np.split(kept, gather.starts[1:-1]) if gather.parts else []

    def settle(self, rows: Sequence[Row], decision: np.ndarray, tally: Counter[str]) -> list[Settled]:
        return settle_copies(rows, decision, "near_duplicate", tally)


class Gather:
    """Signatures and shingles of rows of the whole corpus, by their number, out of the parts where they lie."""

    def __init__(self, parts: Sequence[Keys]) -> None:
        self.parts, self.starts = parts, corpus_rows([len(part["count"]) for part in parts])
        self.total = int(self.starts[-1])

    def minima(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [len(rows), num_perm]."""
        places = np.searchsorted(self.starts, rows, "right") - 1
        width = self.parts[0]["minima"].shape[1]
        found = np.empty((len(rows), width), np.uint8)
        for place in np.unique(places):
            here = places == place
            found[here] = self.parts[place]["minima"][rows[here] - self.starts[place]]
        release(part["minima"] for part in self.parts)
        return found

    def shingles(self, rows: Iterable[int]) -> dict[int, Hashes]:
        """The distinct shingles of each row."""
        found: dict[int, Hashes] = {}
        last, ends = -1, np.zeros(0, np.int64)
        for row in sorted(rows):
            place = int(np.searchsorted(self.starts, row, "right")) - 1
            if place != last:
                last, ends = place, np.concatenate(([0], np.cumsum(self.parts[place]["count"])))
            start, end = ends[row - self.starts[place] :][:2]
            found[row] = np.unique(self.parts[place]["shingles"][start:end])
        release(part["shingles"] for part in self.parts)
        return found

    def alike(self, edges: Pairs, threshold: float, margin: float) -> Pairs:
        """Those of the pairs that are alike: by their signatures when these are clear, else by their shingles."""
        kept = []
        for start in range(0, len(edges), _AT_ONCE):
            chosen = edges[start : start + _AT_ONCE]
            similar = estimate(self.minima(chosen[:, 0]), self.minima(chosen[:, 1]))
            unclear = np.flatnonzero(np.abs(similar - threshold) < margin)
            for some in np.array_split(unclear, 1 + len(unclear) // 1024):
                sets = self.shingles({int(row) for row in chosen[some].ravel()})
                for number in some:
                    one, other = chosen[number]
                    similar[number] = jaccard(sets[int(one)], sets[int(other)])
            kept.append(chosen[similar >= threshold])
        return np.concatenate([_NONE, *kept])


def _codes(edges: Pairs) -> NDArray[np.uint64]:
    """A number for each pair, by which they sort by the later row, then by the earlier one."""
    found = edges.astype(np.uint64)
    return (found[:, 1] << np.uint64(32)) | found[:, 0]


def same_keys(keys: NDArray[np.uint32], eligible: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in the order of their key, and where each bucket of at least two rows begins and ends: int64 [B, 2]."""
    rows = np.flatnonzero(eligible).astype(np.uint64)
    ordered = (keys[eligible].astype(np.uint64) << np.uint64(32)) | rows
    ordered.sort()
    key = ordered >> np.uint64(32)
    borders = np.concatenate(([0], np.flatnonzero(key[1:] != key[:-1]) + 1, [len(key)]))
    spans = np.column_stack((borders[:-1], borders[1:]))
    return (ordered & np.uint64(0xFFFFFFFF)).astype(np.int64), spans[spans[:, 1] - spans[:, 0] > 1]


def _band_edges(
    keys: NDArray[np.uint32], eligible: NDArray[np.bool_], gather: Gather, threshold: float, margin: float
) -> Iterable[Pairs]:
    """The edges of all buckets of a band: small ones together, large ones one by one; as `bucket_edges` of each."""
    rows, spans = same_keys(keys, eligible)
    sizes = spans[:, 1] - spans[:, 0]
    for start, end in spans[sizes > SMALL]:
        yield bucket_edges(rows[start:end], gather.minima(rows[start:end]), threshold, margin)
    spans = spans[sizes <= SMALL]
    offset = 1
    while len(spans):
        # Pairs whose places differ by `offset`, of all buckets that are long enough
        spans = spans[spans[:, 1] - spans[:, 0] > offset]
        for some in np.array_split(spans, 1 + len(spans) // _AT_ONCE):
            lengths = some[:, 1] - some[:, 0] - offset
            before = np.cumsum(lengths) - lengths
            places = np.repeat(some[:, 0] - before, lengths) + np.arange(lengths.sum())
            pairs = np.column_stack((rows[places], rows[places + offset]))
            for first, last in pairwise([*range(0, len(pairs), _AT_ONCE), len(pairs)]):
                chosen = pairs[first:last]
                similar = estimate(gather.minima(chosen[:, 0]), gather.minima(chosen[:, 1]))
                yield chosen[similar >= threshold - margin]
        offset += 1


def drop_near(edges: Pairs, total: int) -> NDArray[np.int64]:
    """int64 [total]: the earliest kept row that is like it, for each row that has one; -1 for rows that stay.

    edges: pairs (earlier, later) that are alike, sorted by the later one, then by the earlier one.
    """
    kept = np.full(total, -1, np.int64)
    for earlier, later in edges.tolist():
        if kept[earlier] < 0 and kept[later] < 0:
            kept[later] = earlier
    return kept
