"""Checks for 4-bit packing; the references are hand-laid bytes, danlu's own unpacking, and plain rounding."""

from types import SimpleNamespace

import torch

from danlu.ops import packing
from danlu.ops.packing import Packed

SOLUTION = "danlu.ops.packing"


def _draw(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def _by_hand(row: int, column: int, code: int, columns: int = 64) -> Packed:
    """One code that is not 0, in a matrix of 32 rows; scales 2, offsets -1."""
    codes = torch.zeros(2, columns // 32, 4, 16, 4, dtype=torch.uint8)
    group, within = divmod(column, 32)
    high, place = divmod(within, 16)
    codes[row // 16, group, place // 4, row % 16, place % 4] = code << 4 if high else code
    ones = torch.ones(2, columns // 32, 16, dtype=torch.float16)
    return Packed("int4_group", 32, columns, codes, 2 * ones, -ones)


def check_codes_become_numbers(exercise: SimpleNamespace) -> None:
    """Code 0 with scale 2 and offset -1 is -1; code 5 is 9.
    缩放为 2、偏移为 -1 时，编码 0 表示 -1，编码 5 表示 9。
    """
    told = exercise.unpack(_by_hand(0, 0, 5))
    assert told.dtype == torch.float32, f"dtype {told.dtype}"
    assert told.shape == (32, 64), f"shape {tuple(told.shape)}"
    assert told[0, 0] == 9, f"{told[0, 0]}, not 9"
    assert told.sum() == 9 - (32 * 64 - 1), "all other codes are 0 and stand for -1"


def check_where_each_code_lies(exercise: SimpleNamespace) -> None:
    """Columns 0 to 15 of a group are in the low halves of its bytes, 16 to 31 in the high ones; rows in blocks of 16.
    一组中第 0 到 15 列在字节的低半边，第 16 到 31 列在高半边；行按 16 个一块排列。
    """
    for row, column in ((0, 3), (1, 4), (15, 15), (16, 16), (17, 31), (31, 32), (5, 47), (20, 63)):
        told = exercise.unpack(_by_hand(row, column, 15))
        found = (told == 29).nonzero().tolist()
        assert found == [[row, column]], f"the code of row {row}, column {column} came out at {found}"


def check_packed_numbers_come_back(exercise: SimpleNamespace) -> None:
    """Numbers from -1 to 1 come back within about half a step, 1/15, as danlu unpacks them.
    -1 到 1 之间的数，用 danlu 解包后，误差应在半级左右，即约 1/15。
    """
    weight = _draw(48, 96).tanh()
    told = packing.unpack(exercise.pack_int4(weight))
    far = float((told - weight).abs().max())
    assert far < 0.11, f"off by {far:.3f}"


def check_as_good_as_rounding(exercise: SimpleNamespace) -> None:
    """On average no worse than rounding each group to 16 levels between its least and its greatest.
    平均误差不应大于把每组舍入到最小值与最大值之间 16 级的做法。
    """
    weight = _draw(32, 128, seed=1)
    groups = weight.view(32, 4, 32)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    step = (high - low) / 15
    plain = (((groups - low) / step).round() * step + low).view_as(weight)
    own = packing.unpack(exercise.pack_int4(weight))
    ours, theirs = float((own - weight).square().mean()), float((plain - weight).square().mean())
    assert ours <= 1.02 * theirs, f"mean squared error {ours:.2e}, rounding has {theirs:.2e}"


def check_there_and_back(exercise: SimpleNamespace) -> None:
    """Your `unpack` reads what your `pack_int4` wrote as danlu reads it, and what danlu wrote.
    你的 unpack 读你的 pack_int4 写的，应与 danlu 读到的相同；也要能读 danlu 写的。
    """
    weight = _draw(32, 64, seed=2)
    for packed in (exercise.pack_int4(weight), packing.pack_int4(weight)):
        torch.testing.assert_close(exercise.unpack(packed), packing.unpack(packed))


def check_half_a_byte_a_weight(exercise: SimpleNamespace) -> None:
    """4 bits a weight, and 4 bytes of scale and offset for each 32: 5 bits a weight in all.
    每个权重 4 位，每 32 个另有 4 字节的缩放与偏移：合计每个权重 5 位。
    """
    packed = exercise.pack_int4(_draw(32, 64))
    assert packed.codes.dtype == torch.uint8, f"dtype {packed.codes.dtype}"
    assert packed.bytes == 32 * 64 * 5 // 8, f"{packed.bytes} bytes, not {32 * 64 * 5 // 8}"
    assert packed.codes.shape == (2, 2, 4, 16, 4), f"shape {tuple(packed.codes.shape)}"


def check_rows_that_fill_no_block(exercise: SimpleNamespace) -> None:
    """20 rows need two blocks of 16; 20 come back, and the padding is 0.
    20 行需要两块 16 行；解包得到 20 行，填充部分为 0。
    """
    weight = _draw(20, 32, seed=3)
    packed = exercise.pack_int4(weight)
    assert (packed.rows, packed.padded_rows) == (20, 32), f"{packed.rows} rows, {packed.padded_rows} with padding"
    assert exercise.unpack(packed).shape == (20, 32)
    assert not packed.codes[1, :, :, 4:].any(), "the padding has codes"
    assert not packed.scales[1, :, 4:].any(), "the padding has scales"


def check_groups_of_equal_numbers(exercise: SimpleNamespace) -> None:
    """A group of zeros, or of 0.5 everywhere, has no range to divide by; it comes back as it was.
    一组全是 0 或全是 0.5 时，没有范围可以除；解包后应原样返回。
    """
    weight = torch.zeros(16, 64)
    weight[:, 32:] = 0.5
    told = packing.unpack(exercise.pack_int4(weight))
    assert torch.isfinite(told).all(), "NaN"
    torch.testing.assert_close(told, weight)
