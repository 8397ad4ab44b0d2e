"""Weight-only int8: write the three functions that `danlu int8` is made of.

A weight matrix is [out, in]: row `o` holds the weights of output `o`. Each row gets a scale of its own.
"""

from torch import Tensor


def quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of [out, in] to whole numbers from -127 to 127.

    Returns int8 [out, in] and float32 scales [out, 1], so that weight ≈ quantised · scale and nothing is off by
    more than half a scale. The largest number of a row becomes 127 or -127. A row of zeros stays
    zero, its scale above zero.
    """
    raise NotImplementedError


def dequantise(quantised: Tensor, scale: Tensor) -> Tensor:
    """The float32 matrix that int8 [out, in] and scales [out, 1] stand for."""
    raise NotImplementedError


def int8_linear(x: Tensor, quantised: Tensor, scale: Tensor) -> Tensor:
    """x [..., in] times the quantised matrix, transposed: [..., out], in x's dtype.

    The same as x @ dequantise(quantised, scale).T, but it should not build that float matrix scaled: where can
    the scale go instead, so that it multiplies the few outputs and not the many weights?
    """
    raise NotImplementedError
