"""Log-probabilities and the cross-entropy over a vocabulary: the one place for both."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["IGNORE", "align", "linear_cross_entropy", "logprobs", "shift"]

IGNORE = -100  # the label of a position that counts for nothing
_CHUNK_ELEMENTS = 4_000_000  # logits held at once: 16 MB of float32, about a core's share of cache


def shift(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The positions that predict something, and what: hidden [B, T, D], labels [B, T] -> [N, D], [N].

    Position t predicts the label at t + 1. Ignored positions are dropped before the vocabulary is touched.
    """
    return align(hidden[:, :-1], labels[:, 1:])


def align(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """As `shift`, where position t predicts the label at t itself: hidden [B, T, D], labels [B, T] -> [N, D], [N].

    So it is where the input does not hold the answer: a masked token, or a decoder that is fed one token late.
    """
    targets = labels.flatten()
    wanted = (targets != IGNORE).nonzero()[:, 0]
    # index_select, whose backward pass is a plain copy; a boolean mask's is a slow accumulate
    return hidden.flatten(0, 1).index_select(0, wanted), targets[wanted]


def logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """log p(target) in float32: [..., V], [...] -> [...]. Ignored targets give 0."""
    safe = targets.clamp_min(0)
    picked = logits.float().gather(-1, safe[..., None])[..., 0] - logits.float().logsumexp(-1)
    return picked.masked_fill(targets == IGNORE, 0.0)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """SUM over positions of -log softmax(hidden weightᵀ + bias)[target], without ever holding all the logits.

    hidden: [N, D], weight: [V, D], targets: [N] (none ignored), bias: [V]. Returns a float32 scalar. The gradient is
    made in the forward pass, chunk by chunk: d loss / d logits = softmax - onehot, so that no chunk is
    computed twice. Under autocast the products run in its dtype; sums stay in float32.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    else:
        dtype = torch.promote_types(hidden.dtype, weight.dtype)
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, dtype)  # type: ignore[no-any-return]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        rows = max(1, _CHUNK_ELEMENTS // weight.shape[0])
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        want_hidden, want_weight, want_bias = ctx.needs_input_grad[:3]
        low = weight.to(dtype)
        grad_hidden = torch.empty_like(hidden) if want_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if want_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and want_bias else None
        for start in range(0, hidden.shape[0], rows):
            part = hidden[start : start + rows].to(dtype)
            target = targets[start : start + rows, None]
            scores = part @ low.T if bias is None else part @ low.T + bias.to(dtype)
            logs = torch.log_softmax(scores, dim=-1, dtype=torch.float32)
            total -= logs.gather(-1, target).sum()
            if not (want_hidden or want_weight or want_bias):
                continue
            gradient = logs.exp_()  # softmax - onehot
            gradient.scatter_add_(-1, target, gradient.new_full(target.shape, -1.0))
            if grad_bias is not None:
                grad_bias += gradient.sum(dim=0)
            gradient = gradient.to(dtype)
            if grad_hidden is not None:
                grad_hidden[start : start + rows] = gradient @ low
            if grad_weight is not None:
                grad_weight += gradient.T @ part
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        scale = grads[0]
        return (
            None if grad_hidden is None else grad_hidden * scale.to(grad_hidden.dtype),
            None if grad_weight is None else grad_weight * scale,
            None if grad_bias is None else grad_bias * scale,
            None,
            None,
        )
