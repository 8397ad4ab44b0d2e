"""The blocks of a decoder, with Hugging Face's parameter names."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.models.base import Cache
from danlu.ops.attention import attention
from danlu.ops.rope import rotate

__all__ = ["Attention", "DecoderLayer", "GatedMLP", "MixtralLayer", "OffsetRMSNorm", "RMSNorm", "SandwichLayer", "View"]


class View(NamedTuple):
    """What the tokens of a pass see of each other, alike for all layers of one kind."""

    rotary: tuple[Tensor, Tensor] | None  # cos, sin [B, 1, T, d]; None where positions are told otherwise
    mask: (
        Tensor | None
    )  # additive, broadcastable to [B, H, T, T]; None: causal, or in encoders all. A cache makes its own
    window: int | None = None  # how many tokens back a cached layer sees


# lesson: rms-norm
class RMSNorm(nn.Module):
    """x / rms(x) · weight (Zhang & Sennrich 2019, eq. 4). [..., D] -> [..., D]."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


# end lesson


class OffsetRMSNorm(nn.Module):
    """RMSNorm whose weight is kept as its distance from 1, in float32 throughout (Gemma). [..., D] -> [..., D]."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], 1.0 + self.weight.float(), self.eps).type_as(x)


# lesson: grouped-query-attention
class Attention(nn.Module):
    """Grouped-query self-attention (Ainslie et al. 2023): `heads` queries share `kv_heads` keys and values.

    kv_heads = heads is multi-head attention, kv_heads = 1 is multi-query.
    norms: RMSNorm of each query and key head before the rotation (Henry et al. 2020, "QK-norm"), or none;
    scalar: scores are divided by its root instead of head_dim's.
    """

    def __init__(
        self,
        size: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        *,
        qkv_bias: bool = False,
        out_bias: bool = False,
        norms: tuple[nn.Module, nn.Module] | None = None,
        scalar: float | None = None,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = nn.Linear(size, heads * head_dim, bias=qkv_bias)
        self.k_proj = nn.Linear(size, kv_heads * head_dim, bias=qkv_bias)
        self.v_proj = nn.Linear(size, kv_heads * head_dim, bias=qkv_bias)
        self.o_proj = nn.Linear(heads * head_dim, size, bias=out_bias)
        self.q_norm, self.k_norm = norms or (None, None)
        self.stretch = (head_dim / scalar) ** 0.5 if scalar is not None and scalar != head_dim else None

    def forward(self, x: Tensor, view: View, cache: Cache | None, layer: int) -> Tensor:
        """x: [B, T, D]. Returns [B, T, D]."""
        q, k, v = (self._heads(projection(x)) for projection in (self.q_proj, self.k_proj, self.v_proj))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.stretch is not None:
            q = q * self.stretch
        if view.rotary is not None:
            cos, sin = (part.to(q.dtype) for part in view.rotary)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            mixed = cache.attend(layer, q, k, v, view.window)
        else:
            mixed = attention(q, k, v, view.mask, causal=view.mask is None)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """[B, T, H·d] -> [B, H, T, d]."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


# end lesson


class GatedMLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x)) (Shazeer 2020, eq. 6); GeGLU with `gelu`. [..., D] -> [..., D]."""

    def __init__(self, size: int, inner: int, *, bias: bool = False, gelu: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(size, inner, bias=bias)
        self.up_proj = nn.Linear(size, inner, bias=bias)
        self.down_proj = nn.Linear(inner, size, bias=bias)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        opened = F.gelu(gate, approximate="tanh") if self.gelu else F.silu(gate)
        return self.down_proj(opened * self.up_proj(x))


# lesson: pre-norm
class DecoderLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): the residual stream is only ever added to."""

    def __init__(self, attention: Attention, mlp: nn.Module, size: int, eps: float) -> None:
        super().__init__()
        self.self_attn = attention
        self.mlp = mlp
        self.input_layernorm = RMSNorm(size, eps)
        self.post_attention_layernorm = RMSNorm(size, eps)

    def forward(self, x: Tensor, view: View, cache: Cache | None, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), view, cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


# end lesson


class MixtralLayer(nn.Module):
    """DecoderLayer whose sparse MLP has the name that Mixtral gives it."""

    def __init__(self, attention: Attention, experts: nn.Module, size: int, eps: float) -> None:
        super().__init__()
        self.self_attn = attention
        self.block_sparse_moe = experts
        self.input_layernorm = RMSNorm(size, eps)
        self.post_attention_layernorm = RMSNorm(size, eps)

    def forward(self, x: Tensor, view: View, cache: Cache | None, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), view, cache, layer)
        return x + self.block_sparse_moe(self.post_attention_layernorm(x))


class SandwichLayer(nn.Module):
    """Gemma's layer: each block is normed before and after, x + norm(attention(norm(x))), likewise the MLP."""

    def __init__(self, attention: Attention, mlp: nn.Module, size: int, eps: float) -> None:
        super().__init__()
        self.self_attn = attention
        self.mlp = mlp
        self.input_layernorm = OffsetRMSNorm(size, eps)
        self.post_attention_layernorm = OffsetRMSNorm(size, eps)
        self.pre_feedforward_layernorm = OffsetRMSNorm(size, eps)
        self.post_feedforward_layernorm = OffsetRMSNorm(size, eps)

    def forward(self, x: Tensor, view: View, cache: Cache | None, layer: int) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), view, cache, layer))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))
