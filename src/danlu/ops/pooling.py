"""One vector out of a text's hidden states."""

from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["POOLINGS", "Pooling", "pool"]

Pooling = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def pool(hidden: Tensor, counted: Tensor, how: Pooling) -> Tensor:
    """hidden [B, T, D], counted bool [B, T] (false where padded; at least one true a row) -> [B, D].

    cls: the first state that counts; lasttoken: the last; max: the greatest of each dimension; mean;
    mean_sqrt_len_tokens: the sum over the root of the length; weightedmean: the n-th state n times as heavy as the
    first (Muennighoff 2022). The names are those of sentence-transformers. Sums are taken in float32 at least.
    """
    rows = torch.arange(len(hidden), device=hidden.device)
    if how == "cls":
        return hidden[rows, counted.int().argmax(1)]
    if how == "lasttoken":
        return hidden[rows, counted.shape[1] - 1 - counted.flip(1).int().argmax(1)]
    if how == "max":
        return hidden.masked_fill(~counted[..., None], -torch.inf).amax(1)
    weights = (counted.cumsum(1) if how == "weightedmean" else counted) * counted
    weights = weights.to(torch.promote_types(hidden.dtype, torch.float32))
    total = (hidden.masked_fill(~counted[..., None], 0.0) * weights[..., None]).sum(1)
    length = weights.sum(1, keepdim=True)
    return (total / (length.sqrt() if how == "mean_sqrt_len_tokens" else length)).to(hidden.dtype)
