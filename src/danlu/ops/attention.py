"""Scaled dot-product attention and its masks (Vaswani et al. 2017, eq. 1)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["additive", "attention", "attention_weights", "cache_mask", "causal_mask", "mutual_mask", "packed_mask"]

# Keys up to which storing the weights is cheaper than the CPU kernel's backward pass in bf16 (bench/attention.py).
_SHORT = 256


# lesson: attention
def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """How much each query looks at each key: softmax(q kᵀ / √d + mask).

    q: [B, H, T, d], k: [B, G, S, d] with H a multiple of G (grouped-query attention, Ainslie et al. 2023);
    mask: additive, broadcastable to [B, H, T, S]. Returns [B, H, T, S]; every row sums to 1.
    """
    if k.shape[1] != q.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + mask
    return scores.float().softmax(dim=-1).to(q.dtype)


# end lesson


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """`attention_weights(q, k, mask) @ v`, by torch's fused kernel where that is faster.

    The fused kernel never stores the weights, which long sequences need; its backward pass on a CPU recomputes
    them slowly in two-byte precision, so short sequences that train in it take the plain path.
    q: [B, H, T, d]; k, v: [B, G, S, d]; mask: additive, in q's dtype. `causal` is for T = S without a mask.
    Returns [B, H, T, d].
    """
    grouped = q.shape[1] != k.shape[1]
    slow_to_train = q.requires_grad and q.device.type == "cpu" and q.element_size() == 2
    if mask is not None and slow_to_train and k.shape[2] <= _SHORT:
        shared = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1) if grouped else v
        return attention_weights(q, k, mask) @ shared
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)


# lesson: packed-mask
def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Boolean 'may look' to 0 / -inf, computed once a forward pass instead of once a layer."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, -torch.inf)


def packed_mask(segment_ids: Tensor, window: int | None = None) -> Tensor:
    """Causal attention that does not cross documents, and sees the last `window` tokens only, itself included.

    segment_ids: [B, T], 0 where padded. Padding sees padding, so that no row is empty (softmax of nothing is NaN).
    Returns bool [B, 1, T, T].
    """
    same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    return _within(same.tril(), window)


# end lesson


# lesson: mutual-mask
def mutual_mask(segment_ids: Tensor, reach: int | None = None) -> Tensor:
    """Attention to both sides, as in encoders, that does not cross documents: `packed_mask` without its direction.

    segment_ids: [B, T], 0 where padded. reach: at most this many tokens to either side (local attention), or all.
    Returns bool [B, 1, T, T].
    """
    same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    return same if reach is None else same.triu(-reach).tril(reach)


# end lesson


def causal_mask(length: int, window: int, device: torch.device) -> Tensor:
    """One document of `length` tokens in which each sees the last `window`, itself included: bool [1, 1, T, T]."""
    return _within(torch.ones(1, 1, length, length, dtype=torch.bool, device=device).tril(), window)


def _within(causal: Tensor, window: int | None) -> Tensor:
    """Sliding window (Beltagy et al. 2020): of what a causal mask allows, the nearest `window` columns."""
    return causal if window is None else causal.triu(1 - window)


# lesson: cache-mask
def cache_mask(position_ids: Tensor, length: int, window: int | None = None) -> Tensor:
    """What queries at `position_ids` [B, T] may see of a cache of `length`: bool [B, 1, T, length]."""
    keys = torch.arange(length, device=position_ids.device)
    seen = keys <= position_ids[..., None]
    if window is not None:
        seen &= keys > position_ids[..., None] - window
    return seen[:, None]


# end lesson
