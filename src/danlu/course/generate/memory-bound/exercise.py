"""Exercise: weights in 4 bits, two to a byte. 练习：4 位权重，两个一字节。"""

from torch import Tensor

from danlu.ops.packing import Packed


def pack_int4(weight: Tensor) -> Packed:
    """4 bit with a scale and an offset for each group of 32 columns. weight: float [N, K], K a multiple of 32.

    A group of 32 numbers from `low` to `high` becomes codes 0 to 15: code = round((x - offset) / scale), with
    offset = low and scale = (high - low) / 15; where all 32 are equal, all codes are 0. Then x ≈ code · scale + offset.
    Scale and offset are kept as float16: round *them* first, and compute the codes with the rounded ones.

    Returns Packed("int4_group", N, K, codes, scales, offsets), with R = N / 16 rounded up and C = K / 32:
    codes:   uint8 [R, C, 4, 16, 4]. First lay the codes out as [R, C, 8, 16, 4]: of row block r, group c and row l of
             the block, [r, c, j, l, i] is the code of the group's column 4 j + i. Then column n (j below 4) and
             column n + 16 (j + 4) go into one byte: the first in the low four bits, the second in the high four.
    scales, offsets: float16 [R, C, 16].
    Rows that are missing in the last block are 0 everywhere.
    """
    raise NotImplementedError


def unpack(packed: Packed) -> Tensor:
    """The numbers that the codes stand for: float32 [rows, columns], without the padding."""
    raise NotImplementedError
