"""Checks for sinusoids, ALiBi and T5's buckets; the references are hand computations and complex numbers."""

import math
from types import ModuleType

import torch

SOLUTION = "danlu.ops.positions"


def check_sinusoids_by_hand(exercise: ModuleType) -> None:
    """Width 4, base 100: position 2 is sin 2, cos 2, sin 0.2, cos 0.2.
    宽度 4、底数 100：位置 2 应为 sin 2、cos 2、sin 0.2、cos 0.2。
    """
    found = exercise.sinusoidal(torch.tensor([2]), 4, 100.0)
    assert found.dtype == torch.float32, f"dtype {found.dtype}"
    assert found.shape == (1, 4), f"shape {tuple(found.shape)}"
    torch.testing.assert_close(found[0], torch.tensor([math.sin(2), math.cos(2), math.sin(0.2), math.cos(0.2)]))


def check_a_shift_is_a_rotation(exercise: ModuleType) -> None:
    """Moving on by 7 turns every (sine, cosine) pair by one fixed angle, wherever it starts.
    往后移 7 个位置，每一对（正弦、余弦）转过的角度是固定的，与起点无关。
    """
    start = torch.tensor([0, 3, 50])
    here, there = (exercise.sinusoidal(at, 16).unflatten(-1, (8, 2)).double() for at in (start, start + 7))
    here, there = (torch.complex(pair[..., 1], pair[..., 0]) for pair in (here, there))
    turned = here * torch.polar(torch.ones(8, dtype=torch.float64), 7 * 10000.0 ** (-torch.arange(8) / 8).double())
    torch.testing.assert_close(there, turned, atol=1e-5, rtol=0)


def check_sinusoids_far_away(exercise: ModuleType) -> None:
    """Position 1,000,001: compute the angle in float64; float32 has lost it.
    位置 1,000,001：角度要用 float64 计算，float32 的精度已经不够。
    """
    found = exercise.sinusoidal(torch.tensor([1_000_001]), 8)
    speeds = [10000.0 ** (-2 * pair / 8) for pair in range(4)]
    exact = [f(1_000_001 * speed) for speed in speeds for f in (math.sin, math.cos)]
    torch.testing.assert_close(found[0], torch.tensor(exact), atol=1e-5, rtol=0)


def check_slopes_of_four_heads(exercise: ModuleType) -> None:
    """Four heads: 2^-2, 2^-4, 2^-6, 2^-8.
    四个头：2^-2、2^-4、2^-6、2^-8。
    """
    torch.testing.assert_close(exercise.alibi_slopes(4), torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]))


def check_slopes_of_eight_heads(exercise: ModuleType) -> None:
    """Eight heads: 1/2, 1/4, ..., 1/256.
    八个头：1/2、1/4、…、1/256。
    """
    torch.testing.assert_close(exercise.alibi_slopes(8), 0.5 ** torch.arange(1, 9).float())


def check_alibi_by_hand(exercise: ModuleType) -> None:
    """Slope 1/4, query at 5: keys at 4 and 0 get -0.25 and -1.25.
    斜率 1/4，查询在位置 5：位置 4 和 0 的键应分别加上 -0.25 和 -1.25。
    """
    found = exercise.alibi_bias(torch.tensor([0.25, 1.0]), torch.tensor([5]), torch.tensor([4, 0]))
    assert found.shape == (2, 1, 2), f"shape {tuple(found.shape)}"
    torch.testing.assert_close(found[:, 0], torch.tensor([[-0.25, -1.25], [-1.0, -5.0]]))


def check_alibi_only_counts_distance(exercise: ModuleType) -> None:
    """The same 100 tokens further on: nothing changes. It is symmetric, and 0 for oneself.
    整体后移 100 个位置，结果不变；前后对称，对自己为 0。
    """
    at, slopes = torch.arange(6), torch.tensor([0.5, 0.1])
    found = exercise.alibi_bias(slopes, at, at)
    torch.testing.assert_close(exercise.alibi_bias(slopes, at + 100, at + 100), found)
    torch.testing.assert_close(found.mT, found)
    assert float(found.diagonal(dim1=-2, dim2=-1).abs().max()) == 0, "something is added for oneself"


def check_near_buckets_are_exact(exercise: ModuleType) -> None:
    """Causal, 32 buckets: the last 16 tokens, oneself included, have a bucket each; keys to come get 0.
    因果、32 个桶：包括自己在内的最近 16 个词元各占一个桶；后面的键都归 0 号桶。
    """
    found = exercise.relative_buckets(torch.tensor([3, 1, 0, -1, -2, -15]), bidirectional=False)
    assert found.tolist() == [0, 0, 0, 1, 2, 15], found.tolist()


def check_far_buckets_grow(exercise: ModuleType) -> None:
    """Causal, 32 buckets, reach 128: 16 and 18 share bucket 16, 64 is in 26, from 113 on all are in 31.
    因果、32 个桶、范围 128：16 和 18 同在 16 号桶，64 在 26 号桶，113 起全在 31 号桶。
    """
    distance = -torch.tensor([16, 18, 19, 64, 112, 113, 128, 5000])
    found = exercise.relative_buckets(distance, bidirectional=False)
    assert found.tolist() == [16, 16, 17, 26, 30, 31, 31, 31], found.tolist()


def check_both_directions(exercise: ModuleType) -> None:
    """An encoder's 32 buckets: 0 to 15 for keys before the query and for itself, 16 to 31 for those after it.
    编码器的 32 个桶：查询之前的键和它自己用 0 到 15 号，之后的键用 16 到 31 号。
    """
    distance = torch.tensor([[-200, -3, -1, 0], [1, 3, 7, 200]])
    found = exercise.relative_buckets(distance, bidirectional=True)
    assert found.dtype == torch.int64, f"dtype {found.dtype}"
    assert found.tolist() == [[15, 3, 1, 0], [17, 19, 23, 31]], found.tolist()
