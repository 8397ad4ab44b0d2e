"""Log-probabilities and the cross-entropy over a vocabulary: the one place for both."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["IGNORE", "linear_cross_entropy", "logprobs", "shift"]

IGNORE = -100  # the label of a position that counts for nothing
_CHUNK_ELEMENTS = 4_000_000  # logits held at once: 16 MB of float32, about a core's share of cache


def shift(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The positions that predict something, and what: hidden [B, T, D], labels [B, T] -> [N, D], [N].

    Position t predicts the label at t + 1. Ignored positions are dropped before the vocabulary is touched.
    """
    targets = labels[:, 1:].flatten()
    wanted = (targets != IGNORE).nonzero()[:, 0]
    # index_select, whose backward pass is a plain copy; a boolean mask's is a slow accumulate
    return hidden[:, :-1].flatten(0, 1).index_select(0, wanted), targets[wanted]


def logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """log p(target) in float32: [..., V], [...] -> [...]. Ignored targets give 0."""
    safe = targets.clamp_min(0)
    picked = logits.float().gather(-1, safe[..., None])[..., 0] - logits.float().logsumexp(-1)
    return picked.masked_fill(targets == IGNORE, 0.0)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """SUM over positions of -log softmax(hidden weightᵀ)[target], without ever holding all the logits.

    hidden: [N, D], weight: [V, D], targets: [N] (none ignored). Returns a float32 scalar. The gradient is
    made in the forward pass, chunk by chunk: d loss / d logits = softmax - onehot, so that no chunk is
    computed twice. Under autocast the products run in its dtype; sums stay in float32.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    else:
        dtype = torch.promote_types(hidden.dtype, weight.dtype)
    return _LinearCrossEntropy.apply(hidden, weight, targets, dtype)  # type: ignore[no-any-return]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        rows = max(1, _CHUNK_ELEMENTS // weight.shape[0])
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        want_hidden, want_weight = ctx.needs_input_grad[:2]
        low = weight.to(dtype)
        grad_hidden = torch.empty_like(hidden) if want_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if want_weight else None
        for start in range(0, hidden.shape[0], rows):
            part = hidden[start : start + rows].to(dtype)
            target = targets[start : start + rows, None]
            logs = torch.log_softmax(part @ low.T, dim=-1, dtype=torch.float32)
            total -= logs.gather(-1, target).sum()
            if not (want_hidden or want_weight):
                continue
            gradient = logs.exp_()  # softmax - onehot
            gradient.scatter_add_(-1, target, gradient.new_full(target.shape, -1.0))
            gradient = gradient.to(dtype)
            if grad_hidden is not None:
                grad_hidden[start : start + rows] = gradient @ low
            if grad_weight is not None:
                grad_weight += gradient.T @ part
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grads[0]
        return (
            None if grad_hidden is None else grad_hidden * scale.to(grad_hidden.dtype),
            None if grad_weight is None else grad_weight * scale,
            None,
            None,
        )
