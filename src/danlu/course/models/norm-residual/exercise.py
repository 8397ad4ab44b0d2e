"""Exercise: RMSNorm and a layer with residuals. 练习：RMSNorm 与带残差的层。"""

from typing import Any

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) · weight, where rms is the root of the mean of the squares. [..., D] -> [..., D]."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """rms(x) = √(mean(x²) + eps) over the last dimension. Squares in float32, whatever x's dtype; returns x's."""
        raise NotImplementedError


class DecoderLayer(nn.Module):
    """Pre-norm: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, attention: nn.Module, mlp: nn.Module, size: int, eps: float) -> None:
        super().__init__()
        self.self_attn = attention
        self.mlp = mlp
        self.input_layernorm = RMSNorm(size, eps)
        self.post_attention_layernorm = RMSNorm(size, eps)

    def forward(self, x: Tensor, view: Any, cache: Any, layer: int) -> Tensor:
        """x: [B, T, D]; `view`, `cache` and `layer` are handed to self_attn after the normed x. Returns [B, T, D]."""
        raise NotImplementedError
