"""Rotary position embedding (Su et al. 2021, RoFormer, eq. 34), in Hugging Face's half-split layout."""

import torch
from torch import Tensor

__all__ = ["inverse_frequencies", "rotary_angles", "rotate"]


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
