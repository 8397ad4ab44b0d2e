"""Checks of the GGUF exercise: blocks written out by hand, and attention scores that must not change."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SOLUTION = {
    "q8_0": "danlu.core.gguf:_q8_0",
    "q4_0": "danlu.core.gguf:_q4_0",
    "q4_1": "danlu.core.gguf:_q4_1",
    "interleave": "danlu.models.gguf:interleave",
}


def _block(halves: Sequence[float], integers: Sequence[int]) -> NDArray[np.uint8]:
    """float16 numbers, then bytes: [1, bytes]."""
    front = np.array(halves, dtype="<f2").tobytes()
    return np.frombuffer(front + bytes(number & 255 for number in integers), np.uint8)[None]


def _nibbles(integers: Sequence[int]) -> list[int]:
    return [low | high << 4 for low, high in zip(integers[:16], integers[16:], strict=True)]


def _same(told: NDArray[np.float32], wanted: Sequence[float]) -> None:
    assert told.shape == (1, 32), f"shape {told.shape}, not (1, 32)"
    assert told.dtype == np.float32, f"dtype {told.dtype}"
    wrong = [number for number in range(32) if abs(float(told[0, number]) - wanted[number]) > 1e-6]
    assert not wrong, f"weight {wrong[0]} is {told[0, wrong[0]]:g}, not {wanted[wrong[0]]:g}"


def check_eight_bits_are_signed(exercise: SimpleNamespace) -> None:
    """Byte 255 is −1, not 255: view the 32 bytes as int8 before you multiply.
    字节 255 表示 −1，而不是 255：相乘之前，先把这 32 个字节看作 int8。
    """
    integers = [*range(-16, 0), *range(112, 128)]
    _same(exercise.q8_0(_block([0.25], integers)), [number / 4 for number in integers])


def check_four_bits_have_their_zero_at_eight(exercise: SimpleNamespace) -> None:
    """0 stands for −8 steps and 15 for +7: subtract 8, in a signed type (uint8 would wrap around).
    0 表示 −8 级，15 表示 +7 级：要减 8，而且用有符号类型（uint8 会绕回去）。
    """
    _same(exercise.q4_0(_block([0.5], [0x00] * 16)), [-4.0] * 32)
    _same(exercise.q4_0(_block([0.5], [0xFF] * 16)), [3.5] * 32)


def check_lower_halves_come_first(exercise: SimpleNamespace) -> None:
    """Byte i holds weights i and i + 16, not 2i and 2i + 1: all lower halves, then all upper halves.
    第 i 个字节装的是第 i 与第 i + 16 个权重，不是 2i 与 2i + 1：先是全部低四位，再是全部高四位。
    """
    integers = [*range(16), *range(15, -1, -1)]
    _same(exercise.q4_0(_block([1.0], _nibbles(integers))), [number - 8 for number in integers])


def check_a_minimum_instead_of_a_zero(exercise: SimpleNamespace) -> None:
    """Q4_1 has two float16 in front, the scale and the minimum: scale · integer + minimum.
    Q4_1 开头有两个 float16：scale 与最小值，权重 = scale · 整数 + 最小值。
    """
    integers = [*range(16), *range(15, -1, -1)]
    _same(exercise.q4_1(_block([0.25, -2.0], _nibbles(integers))), [number / 4 - 2 for number in integers])


def check_each_block_has_its_own_scale(exercise: SimpleNamespace) -> None:
    """The scale is [N, 1], one for each block.
    scale 的形状是 [N, 1]，每块一个。
    """
    for name, halves, integers in (("q8_0", 1, [1] * 32), ("q4_0", 1, [0x99] * 16), ("q4_1", 2, [0x11] * 16)):
        blocks = np.concatenate([_block([scale, 0.0][:halves], integers) for scale in (1.0, 2.0, 4.0)])
        told = getattr(exercise, name)(blocks)
        assert told[:, 0].tolist() == [1.0, 2.0, 4.0], f"{name}: {told[:, 0].tolist()}"


def check_rows_by_hand(exercise: SimpleNamespace) -> None:
    """One head of four rows: 0 and 2 were a pair, 1 and 3 were one; as neighbours that is 0, 2, 1, 3.
    一个头、四行：0 与 2 是一对，1 与 3 是一对；排成相邻就是 0、2、1、3。
    """
    assert exercise.interleave(1, 4).tolist() == [0, 2, 1, 3], exercise.interleave(1, 4).tolist()


def check_rows_stay_in_their_head(exercise: SimpleNamespace) -> None:
    """Heads stand one behind the other; each is rearranged within itself.
    各个头依次排列，只在自己内部调整次序。
    """
    told = exercise.interleave(2, 12).tolist()
    assert told == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11], told


def _turned(x: Tensor, position: int, neighbours: bool) -> Tensor:
    """x [d] turned by its position, in one of the two ways to pair."""
    half = x.shape[-1] // 2
    first, second = (x[0::2], x[1::2]) if neighbours else (x[:half], x[half:])
    angle = position / 100.0 ** (torch.arange(half) / half)
    return torch.cat((first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()))


def check_the_scores_stay(exercise: SimpleNamespace) -> None:
    """Rows moved, and turned in llama.cpp's pairs, must give the scores that Hugging Face's order gives.
    各行换了位置，再按 llama.cpp 的配对旋转，注意力分数必须与 Hugging Face 的顺序一致。
    """
    random = torch.Generator().manual_seed(0)
    order = exercise.interleave(2, 16)
    q, k = torch.randn(2, 16, generator=random)
    for head in (slice(0, 8), slice(8, 16)):
        ours = _turned(q[head], 5, False) @ _turned(k[head], 2, False)
        theirs = _turned(q[order][head], 5, True) @ _turned(k[order][head], 2, True)
        assert torch.allclose(ours, theirs, atol=1e-5), f"score {float(theirs):.3f}, not {float(ours):.3f}"
