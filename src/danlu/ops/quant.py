"""Symmetric int8 weights with one scale a row (weight-only quantisation)."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["dequantise", "int8_linear", "quantise_rows"]

_FEW_ROWS = 64  # up to here a product is bound by reading the weights, and torch's int8 kernel reads a quarter of them


# lesson: int8
def quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of [out, in] to 255 steps: int8 [out, in] and float32 scales [out, 1].

    scale = max|row| / 127, so that weight ≈ quantised · scale with an error of at most scale / 2.
    """
    scale = weight.float().abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
    return (weight.float() / scale).round().clamp(-127, 127).to(torch.int8), scale


def dequantise(quantised: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """quantised · scale, [out, in]."""
    return (quantised.float() * scale.float()).to(dtype)


# end lesson


def int8_linear(x: Tensor, quantised: Tensor, scale: Tensor) -> Tensor:
    """x [..., in] times the quantised matrix: [..., out], in x's dtype.

    The scale is applied to the product's columns, which is the same and cheaper than to the weights.
    """
    if x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.numel() // x.shape[-1] <= _FEW_ROWS:
        flat = x.reshape(-1, x.shape[-1])
        product = torch._weight_int8pack_mm(flat, quantised, scale.flatten().to(torch.bfloat16))
        return product.view(*x.shape[:-1], -1)
    return F.linear(x, quantised.to(x.dtype)) * scale.flatten().to(x.dtype)
