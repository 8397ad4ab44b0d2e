"""Exercise: read the blocks of a GGUF file, and put the rows of q and k where llama.cpp wants them.

练习：读懂 GGUF 文件里的块，并把 q、k 的各行放到 llama.cpp 期望的位置。

A block stands for 32 weights. Each block begins with its scale, a float16, the lower byte first.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def q8_0(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Q8_0: uint8 [N, 34] -> float32 [N, 32]. Behind the scale stand 32 signed bytes; weight = scale · byte."""
    raise NotImplementedError


def q4_0(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Q4_0: uint8 [N, 18] -> float32 [N, 32]. Behind the scale stand 16 bytes of two integers each.

    The lower four bits of byte i are weight i, the upper four are weight i + 16; both from 0 to 15, and 8 stands for
    zero: weight = scale · (integer - 8).
    """
    raise NotImplementedError


def q4_1(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Q4_1: uint8 [N, 20] -> float32 [N, 32]. Scale, then a second float16, the minimum, then 16 bytes as in Q4_0.

    weight = scale · integer + minimum.
    """
    raise NotImplementedError


def interleave(heads: int, rows: int) -> Tensor:
    """Which row of Hugging Face's q or k projection stands at each place of llama.cpp's: theirs = ours[it]. int64 [rows].

    Rotary positions turn pairs of numbers. Hugging Face pairs row i of a head with row i + d/2, llama.cpp pairs the
    neighbours 2i and 2i + 1. So in each head, row i of the first half goes to 2i, row i of the second half to 2i + 1.
    """
    raise NotImplementedError
