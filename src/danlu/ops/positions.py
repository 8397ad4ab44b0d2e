"""Where a token stands, told without rotation: T5's buckets of distance, ALiBi's slopes, sine and cosine waves."""

import math

import torch
from torch import Tensor

__all__ = ["alibi_bias", "alibi_slopes", "relative_buckets", "sinusoidal"]


# lesson: relative-buckets
def relative_buckets(distance: Tensor, buckets: int = 32, reach: int = 128, *, bidirectional: bool) -> Tensor:
    """The bucket of each distance, key position minus query position (Raffel et al. 2020, §2.1).

    Near distances have a bucket each, far ones share buckets that grow with the logarithm of the distance; all beyond
    `reach` share the last. bidirectional: half of the buckets are for keys that stand after the query; otherwise
    such keys share bucket 0, for a causal mask hides them. distance: integers of any shape; the same shape, int64.
    """
    side = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        side = (distance > 0).long() * buckets
        apart = distance.abs()
    else:
        apart = (-distance).clamp_min(0)
    exact = buckets // 2
    # in float32 and in this order, as the models were trained: at powers of two the rounding decides the bucket
    growth = torch.log(apart.clamp_min(1).float() / exact) / math.log(reach / exact) * (buckets - exact)
    far = (exact + growth.long()).clamp_max(buckets - 1)
    return side + torch.where(apart < exact, apart, far)


# end lesson


# lesson: alibi
def alibi_slopes(heads: int) -> Tensor:
    """How fast each head forgets with distance: 2^(-8/n), 2^(-16/n), ... for n heads (Press et al. 2022, §3). [H].

    Where n is no power of two, the slopes of the power below, then every other one of the power above (their code).
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    slopes += [2 ** (-4 * (2 * head + 1) / power) for head in range(heads - power)]
    return torch.tensor(slopes)


def alibi_bias(slopes: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """What ALiBi adds to the scores: -slope · |query - key| (Press et al. 2022, fig. 3).

    slopes: [H], query_positions: [..., T], key_positions: [..., S]; returns [..., H, T, S], for a mask to be added to.
    Models that add slope · key instead differ by a constant in each row, which softmax does not see.
    """
    apart = (query_positions[..., :, None] - key_positions[..., None, :]).abs()
    return -slopes[:, None, None] * apart[..., None, :, :]


# end lesson


# lesson: sinusoidal
def sinusoidal(positions: Tensor, size: int, base: float = 10000.0) -> Tensor:
    """Sine at the even and cosine at the odd places, of wavelengths from 2π to base·2π (Vaswani et al. 2017, §3.5).

    positions: [...], size: even; returns float32 [..., size].
    """
    frequencies = base ** (-torch.arange(0, size, 2, device=positions.device, dtype=torch.float64) / size)
    angles = positions[..., None].double() * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).float()


# end lesson
