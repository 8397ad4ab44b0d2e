"""The pairs of near duplicates found on a cluster: rows are sent by the key of their LSH bands, so that those that may be alike meet.

Each row is sent once for each band, as (band and key, row, signature), to the share of the keys that its key falls into
(Ray Data's groupby); in a share the rows of equal key are compared as on one machine. A bucket's pairs depend on the
bucket alone, so the result is the same, however many shares and machines there are.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.core.errors import MissingExtraError
from danlu.data.minhash import Pairs, bucket_edges
from danlu.data.step import Keys

__all__ = ["edges_of_share", "ray_edges", "records"]


def ray_edges(parts: Sequence[Keys], shortest: int, threshold: float, margin: float, shares: int = 32) -> Pairs:
    """int64 [E, 2]: pairs (earlier, later) of rows of the corpus whose estimated similarity is `threshold - margin` or more.

    parts: memory-mapped arrays (their files are what is sent around, so the machines share the folder) of count, bands
    and minima, as `steps.near` makes them. Rows of fewer than `shortest` shingles are left out. Ray must be running.
    Raises MissingExtraError without Ray.
    """
    try:
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "cluster") from None
    items, start = [], 0
    for part in parts:
        files = {name: str(getattr(part[name], "filename", "")) for name in ("count", "bands", "minima")}
        items.append({"start": start, **files})
        start += len(part["count"])
    read: Any = partial(_records_of_file, shortest=shortest, shares=shares)
    compare: Any = partial(edges_of_share, threshold=threshold, margin=margin)
    data = ray.data.from_items(items, override_num_blocks=max(1, len(items)))
    found = data.map_batches(read, batch_size=1).groupby("share").map_groups(compare, batch_format="numpy")
    pairs = [np.column_stack((batch["earlier"], batch["later"])) for batch in found.iter_batches(batch_format="numpy")]
    return np.concatenate([np.zeros((0, 2), np.int64), *pairs]).astype(np.int64)


def _records_of_file(items: dict[str, Any], shortest: int, shares: int) -> dict[str, NDArray[Any]]:
    count, bands, minima = (
        np.load(items[name][0], mmap_mode="r", allow_pickle=False) for name in ("count", "bands", "minima")
    )
    return records(int(items["start"][0]), count, bands, minima, shortest, shares)


def records(
    start: int,
    count: NDArray[np.int64],
    bands: NDArray[np.uint32],
    minima: NDArray[np.uint8],
    shortest: int,
    shares: int,
) -> dict[str, NDArray[Any]]:
    """What is sent of one part, R = bands x rows long enough: share, bucket and row int64 [R], minima uint8 [R, num_perm].

    start: number of the part's first row. A bucket is a band and its key; its share is by the key.
    """
    rows = np.flatnonzero(count >= shortest)
    keys = bands[:, rows].astype(np.int64)
    buckets = (np.arange(len(bands), dtype=np.int64)[:, None] << 32) | keys
    return {
        "share": (keys % shares).ravel(),
        "bucket": buckets.ravel(),
        "row": np.tile(start + rows, len(bands)),
        "minima": np.tile(minima[rows], (len(bands), 1)),
    }


def edges_of_share(sent: dict[str, NDArray[Any]], threshold: float, margin: float) -> dict[str, NDArray[np.int64]]:
    """The pairs of all buckets of a share, as columns earlier and later."""
    order = np.lexsort((sent["row"], sent["bucket"]))
    bucket, row, minima = sent["bucket"][order], sent["row"][order], sent["minima"][order]
    borders = np.concatenate(([0], np.flatnonzero(bucket[1:] != bucket[:-1]) + 1, [len(bucket)]))
    edges = [np.zeros((0, 2), np.int64)]
    for first, last in itertools.pairwise(borders):
        if last - first > 1:
            edges.append(bucket_edges(row[first:last], minima[first:last], threshold, margin))
    found = np.unique(np.concatenate(edges), axis=0)
    return {"earlier": found[:, 0], "later": found[:, 1]}
