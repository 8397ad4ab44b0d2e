"""Checks for MinHash; the references are hand computations, Python's own sets and datasketch."""

from types import ModuleType

import numpy as np

SOLUTION = "danlu.data.minhash"


def _sets(*sets: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([number for own in sets for number in own], np.uint32), np.cumsum([0, *map(len, sets)])


def check_jaccard_by_hand(exercise: ModuleType) -> None:
    """{1, 2, 3, 4} and {1, 2, 3, 5} share 3 of 5; a number that stands twice counts once; two empty sets give 0.
    {1, 2, 3, 4} 与 {1, 2, 3, 5} 共 5 个元素，其中 3 个相同；重复的数只算一次；两个空集得 0。
    """
    for one, other, wanted in (([1, 2, 3, 4], [5, 3, 2, 1], 0.6), ([7, 7, 8], [8, 8, 8], 0.5), ([], [], 0)):
        told = exercise.jaccard(np.array(one, np.uint32), np.array(other, np.uint32))
        assert abs(told - wanted) < 1e-9, f"{one}, {other}: {told}"


def check_minima_one_by_one(exercise: ModuleType) -> None:
    """Each number of a signature is min((a | 1) x + b modulo 2^32) over its set; an empty set has 2^32 - 1.
    签名中的每个数都是对该集合取 min((a | 1) x + b mod 2^32)；空集为 2^32 - 1。
    """
    sets = [[5, 17, 2**31], [], [2**32 - 1], list(range(100, 400))]
    told = exercise.signatures(*_sets(*sets), 8, 3)
    assert told.shape == (4, 8), f"shape {told.shape}"
    assert told.dtype == np.uint32, f"dtype {told.dtype}"
    a, b = np.random.default_rng(3).integers(0, 2**32, (2, 8), dtype=np.uint32).tolist()
    for number, own in enumerate(sets):
        wanted = [min([((p | 1) * x + q) % 2**32 for x in own], default=2**32 - 1) for p, q in zip(a, b, strict=True)]
        assert told[number].tolist() == wanted, f"set {number}: {told[number].tolist()}, wanted {wanted}"


def check_signatures_do_not_see_order_or_repeats(exercise: ModuleType) -> None:
    """A set is a set: its order and repeated numbers change nothing; another seed changes everything.
    集合就是集合：次序与重复的数不影响签名；换一个种子则全然不同。
    """
    told = exercise.signatures(*_sets([3, 1, 2], [1, 1, 2, 3, 3]), 32, 0)
    assert (told[0] == told[1]).all()
    assert (told != exercise.signatures(*_sets([3, 1, 2], [1, 2, 3]), 32, 1)).all()


def check_estimate_of_one_signature_and_of_many(exercise: ModuleType) -> None:
    """The share of equal places, along the last axis: [1, 2, 3, 4] and [1, 2, 9, 4] agree in 0.75.
    沿最后一维统计相等的比例：[1, 2, 3, 4] 与 [1, 2, 9, 4] 为 0.75。
    """
    one, other = np.array([1, 2, 3, 4], np.uint32), np.array([[1, 2, 9, 4], [4, 3, 2, 1]], np.uint32)
    assert abs(float(exercise.estimate(one, other[0])) - 0.75) < 1e-9
    told = exercise.estimate(other, one)
    assert np.allclose(told, [0.75, 0]), f"{told}"


def check_estimate_is_right_on_average(exercise: ModuleType) -> None:
    """Over 200 pairs of sets with similarity 0.6, the estimates must average 0.6 and spread as 128 tosses of a coin do.
    对 200 对相似度为 0.6 的集合，估计的平均值应为 0.6，离散程度与抛 128 次硬币相当。
    """
    draw = np.random.default_rng(0)
    sets = draw.integers(0, 2**32, (200, 2, 120), dtype=np.uint32)
    sets[:, 1, :90] = sets[:, 0, :90]
    found = exercise.signatures(sets.ravel(), np.arange(0, 200 * 240 + 1, 120)).reshape(200, 2, 128)
    told = exercise.estimate(found[:, 0], found[:, 1])
    assert abs(told.mean() - 0.6) < 0.012, f"mean {told.mean():.3f}"
    assert 0.034 < told.std() < 0.053, f"spread {told.std():.3f}"


def check_bands_are_those_of_datasketch(exercise: ModuleType) -> None:
    """With equal weights and with 0.9 for what is missed, at thresholds of 0.5, 0.75 and 0.9.
    两种权重（相等，以及漏掉者占 0.9），阈值分别为 0.5、0.75、0.9。
    """
    from datasketch import MinHashLSH

    for threshold in (0.5, 0.75, 0.9):
        for missing in (0.5, 0.9):
            weights = (round(1 - missing, 3), missing)
            theirs = MinHashLSH(threshold=threshold, num_perm=128, weights=weights)
            told = exercise.choose_bands(threshold, 128, missing)
            assert tuple(told) == (theirs.b, theirs.r), f"{threshold}, {missing}: {told}, wanted {(theirs.b, theirs.r)}"
