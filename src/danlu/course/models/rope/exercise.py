"""Exercise: rotary positions in the half-split layout. 练习：采用“前后两半”排布的旋转位置编码。"""

from torch import Tensor


def inverse_frequencies(head_dim: int, theta: float) -> Tensor:
    """The speed of each of the head's `head_dim / 2` dials: theta^(-2i / head_dim), i = 0, 1, ...

    Returns float32 [head_dim / 2], from 1 downwards.
    """
    raise NotImplementedError


def rotary_angles(position_ids: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of position × frequency.

    position_ids: int64 [B, T], frequencies: [d/2]. Returns two float32 tensors [B, 1, T, d] (the 1 is for all
    heads); the second half of the last dimension repeats the first, since both numbers of a pair turn alike.
    """
    raise NotImplementedError


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + d/2]) by its angle: (a, b) becomes (a cos - b sin, b cos + a sin).

    x: [B, H, T, d]; cos, sin: [B, 1, T, d]. Returns [B, H, T, d].
    """
    raise NotImplementedError
