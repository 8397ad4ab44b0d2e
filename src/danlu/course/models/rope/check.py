"""Checks for rotary positions; the references are hand computations and complex numbers in float64."""

import math
from types import ModuleType

import torch

SOLUTION = "danlu.ops.rope"


def _draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _turn(exercise: ModuleType, x: torch.Tensor, positions: list[list[int]], theta: float = 10000.0) -> torch.Tensor:
    angles = exercise.rotary_angles(torch.tensor(positions), exercise.inverse_frequencies(x.shape[-1], theta))
    return exercise.rotate(x, *angles)


def check_frequencies_by_hand(exercise: ModuleType) -> None:
    """A head of 4 with theta 100 has two dials: 100^0 = 1 and 100^(-2/4) = 0.1.
    宽度为 4、theta 为 100 的头有两个表盘：100^0 = 1 和 100^(-2/4) = 0.1。
    """
    torch.testing.assert_close(exercise.inverse_frequencies(4, 100.0), torch.tensor([1.0, 0.1]))


def check_angles_have_the_shape_of_one_head(exercise: ModuleType) -> None:
    """[B, T] positions give [B, 1, T, d]; both halves of the last dimension are the same.
    [B, T] 的位置应得到 [B, 1, T, d]，最后一维的前后两半相同。
    """
    cos, sin = exercise.rotary_angles(torch.tensor([[0, 1, 2]]), torch.tensor([1.0, 0.1]))
    assert cos.shape == sin.shape == (1, 1, 3, 4), f"shapes {tuple(cos.shape)}, {tuple(sin.shape)}"
    torch.testing.assert_close(cos[0, 0, 2], torch.tensor([2.0, 0.2, 2.0, 0.2]).cos())
    torch.testing.assert_close(sin[0, 0, 2], torch.tensor([2.0, 0.2, 2.0, 0.2]).sin())


def check_a_quarter_turn_by_hand(exercise: ModuleType) -> None:
    """An angle of 90° takes (1, 0) to (0, 1), counter-clockwise.
    转 90° 应把 (1, 0) 变为 (0, 1)，即逆时针方向。
    """
    angles = exercise.rotary_angles(torch.tensor([[1]]), torch.tensor([math.pi / 2]))
    turned = exercise.rotate(torch.tensor([[[[1.0, 0.0]]]]), *angles)
    torch.testing.assert_close(turned.flatten(), torch.tensor([0.0, 1.0]))


def check_pairs_are_half_a_head_apart(exercise: ModuleType) -> None:
    """The partner of number 0 is number d/2, not number 1.
    第 0 个数的搭档是第 d/2 个，而不是第 1 个。
    """
    x = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0]).view(1, 1, 1, 8)
    moved = _turn(exercise, x, [[1]]).flatten().nonzero().flatten().tolist()
    assert moved == [0, 4], f"what is not 0 stands at {moved}"


def check_equals_complex_numbers(exercise: ModuleType) -> None:
    """Take each pair as a complex number: it is multiplied by e^(i · position · frequency).
    把每一对数看作一个复数：它应当乘以 e^(i · 位置 · 频率)。
    """
    x = _draw(2, 3, 5, 16)
    positions = [[0, 1, 2, 3, 4], [7, 8, 9, 10, 11]]
    speeds = 10000.0 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    angles = torch.tensor(positions, dtype=torch.float64)[:, None, :, None] * speeds
    turned = torch.complex(*x.double().chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
    exact = torch.cat((turned.real, turned.imag), dim=-1).float()
    torch.testing.assert_close(_turn(exercise, x, positions), exact, atol=1e-5, rtol=1e-5)


def check_lengths_stay(exercise: ModuleType) -> None:
    """Turning does not change how long a vector is.
    旋转不改变向量的长度。
    """
    x = _draw(1, 2, 6, 8)
    torch.testing.assert_close(_turn(exercise, x, [[0, 3, 9, 27, 81, 243]]).norm(dim=-1), x.norm(dim=-1))


def check_only_the_distance_counts(exercise: ModuleType) -> None:
    """q at 3 and k at 1 give the same product as q at 503 and k at 501.
    q 在 3、k 在 1 时的内积，应等于 q 在 503、k 在 501 时的内积。
    """
    q, k = _draw(1, 1, 1, 32), _draw(1, 1, 1, 32, seed=1)

    def score(at: int, other: int) -> torch.Tensor:
        return (_turn(exercise, q, [[at]]) * _turn(exercise, k, [[other]])).sum()

    torch.testing.assert_close(score(3, 1), score(503, 501), atol=1e-3, rtol=1e-3)
    assert not torch.isclose(score(3, 1), score(3, 2), atol=1e-3), "the distance makes no difference"


def check_far_positions_stay_apart(exercise: ModuleType) -> None:
    """Count in float32: bfloat16 cannot tell 256 from 257.
    位置要用 float32 计算：bfloat16 分不清 256 和 257。
    """
    x = torch.ones(1, 1, 2, 8)
    turned = _turn(exercise, x, [[256, 257]])
    assert not torch.allclose(turned[0, 0, 0], turned[0, 0, 1], atol=1e-2), "256 and 257 are turned alike"
    cos, _ = exercise.rotary_angles(torch.tensor([[1000]]), torch.tensor([1.0]))
    assert cos.dtype == torch.float32, f"dtype {cos.dtype}"
    torch.testing.assert_close(float(cos[0, 0, 0, 0]), math.cos(1000), atol=1e-4, rtol=0)
