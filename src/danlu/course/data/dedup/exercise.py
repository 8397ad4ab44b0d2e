"""Exercise: MinHash and its bands. 练习：MinHash 与分带。"""

import numpy as np
from numpy.typing import NDArray


def jaccard(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Size of the intersection by size of the union, of two arrays of hashes taken as sets; 0 when both are empty."""
    raise NotImplementedError


def signatures(
    hashes: NDArray[np.uint32], starts: NDArray[np.int64], num_perm: int = 128, seed: int = 0
) -> NDArray[np.uint32]:
    """MinHash signatures, uint32 [N, num_perm], of N sets; set n is hashes[starts[n] : starts[n + 1]].

    a, b = np.random.default_rng(seed).integers(0, 2**32, (2, num_perm), dtype=np.uint32) draws the permutations
    x -> (a | 1) x + b modulo 2^32. Of each permuted set the smallest number is kept; an empty set has 2^32 - 1.
    """
    raise NotImplementedError


def estimate(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity [...] of signatures [..., num_perm]: the share of equal minima."""
    raise NotImplementedError


def choose_bands(threshold: float, num_perm: int = 128, missing: float = 0.5) -> tuple[int, int]:
    """The b bands of r rows, b r <= num_perm, with the least cost: (1 - missing) * wasted + missing * missed.

    Texts of similarity s meet with probability 1 - (1 - s^r)^b. `wasted` is the area under that curve from 0 to the
    threshold, `missed` the area above it from the threshold to 1; sums in steps of 0.001 are exact enough.
    """
    raise NotImplementedError
