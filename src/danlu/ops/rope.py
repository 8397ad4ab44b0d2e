"""Rotary position embedding (Su et al. 2021, RoFormer, eq. 34), in Hugging Face's half-split layout."""

import math

import torch
from torch import Tensor

__all__ = [
    "dynamic_frequencies",
    "inverse_frequencies",
    "linear_frequencies",
    "llama3_frequencies",
    "rotary_angles",
    "rotate",
    "yarn_attention_factor",
    "yarn_frequencies",
]


# lesson: rope
def inverse_frequencies(head_dim: int, theta: float) -> Tensor:
    """The speed of each of the head's `head_dim / 2` dials, from 1 down to 1/theta. float32 [head_dim / 2]."""
    return theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim)


def rotary_angles(position_ids: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of position × frequency: [B, T], [d/2] -> two float32 [B, 1, T, d] (one for all heads)."""
    angles = position_ids[:, None, :, None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + d/2]) by their angles; lengths stay, and q·k depends on the distance only.

    x: [B, H, T, d]; cos, sin: [B, 1, T, d] in x's dtype. Returns [B, H, T, d].
    """
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


# end lesson


# Scalings: how a model that learned short texts reads long ones. All return float32 [head_dim / 2].


# lesson: rope-scaling
def linear_frequencies(frequencies: Tensor, factor: float) -> Tensor:
    """Position interpolation (Chen et al. 2023): every dial `factor` times slower."""
    return frequencies / factor


def dynamic_frequencies(head_dim: int, theta: float, factor: float, context: int, length: int) -> Tensor:
    """NTK-aware scaling (bloc97 2023) whose base grows with the text: nothing changes up to `context` tokens.

    length: tokens of the longest sequence. The slowest dial is slowed by about `factor · length / context`, the
    fastest not at all.
    """
    growth = factor * max(length, context) / context - (factor - 1)
    return inverse_frequencies(head_dim, theta * growth ** (head_dim / (head_dim - 2)))


# end lesson


def yarn_frequencies(
    head_dim: int,
    theta: float,
    factor: float,
    original: int,
    beta_fast: float = 32,
    beta_slow: float = 1,
    truncate: bool = True,
) -> Tensor:
    """YaRN (Peng et al. 2023, §3.2): dials that turn often within `original` tokens stay, slow ones are interpolated.

    beta_fast, beta_slow: turns within `original` tokens at which the ramp between the two begins and ends;
    truncate: round the ramp's ends outwards to whole dials.
    """
    frequencies = inverse_frequencies(head_dim, theta)
    low, high = (
        head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        for turns in (beta_fast, beta_slow)
    )
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001  # a step instead of a division by zero
    ramp = ((torch.arange(head_dim // 2, dtype=torch.float32, device="cpu") - low) / (high - low)).clamp(0, 1)
    return frequencies / factor * ramp + frequencies * (1 - ramp)


def yarn_attention_factor(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """What YaRN multiplies cos and sin by, to sharpen attention over more tokens (Peng et al. 2023, eq. 22)."""

    def of(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    return of(mscale) / of(mscale_all_dim) if mscale and mscale_all_dim else of(1.0)


def llama3_frequencies(
    frequencies: Tensor, factor: float, low_freq_factor: float, high_freq_factor: float, original: int
) -> Tensor:
    """Llama 3.1: by turns within `original` tokens, fast dials stay, slow ones go `factor` times slower, a ramp between.

    low_freq_factor, high_freq_factor: the turns at which the ramp begins and ends.
    """
    turns = original * frequencies / (2 * math.pi)
    kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return (1 - kept) * frequencies / factor + kept * frequencies
