"""What a stage puts into the loop: an objective, and no-grad annotations of the batch."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from danlu.models.base import Batch, LanguageModel
from danlu.models.moe import Routing, expert_load, load_balancing_loss, record_routing
from danlu.ops.loss import align, linear_cross_entropy, shift

__all__ = ["Annotate", "Loss", "Objective", "aligned_cross_entropy", "cross_entropy", "expert_balance"]


class Loss(NamedTuple):
    """A SUM and the number of tokens it counts, never a mean: sums add up over micro-batches and ranks.

    A mean of means would weigh a token by how empty its micro-batch is.
    """

    total: Tensor
    count: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]  (tuple's count() is not missed)
    metrics: dict[str, Tensor]  # further sums over the same tokens, for the log


Objective = Callable[[nn.Module, Batch], Loss]
Annotate = Callable[[Batch], Batch]


# lesson: next-token
def cross_entropy(model: nn.Module, batch: Batch) -> Loss:
    """Next-token prediction: the sum of -log p(token | what stands before it) over the labelled tokens.

    Pre-training labels every token of a document but its first; instruction tuning only the answer.
    A model with experts adds `expert_balance` while it trains; evaluation measures the text alone.
    """
    assert isinstance(model, LanguageModel)
    balanced = model.training and model.router_aux_loss_coef > 0
    with record_routing(model) if balanced else nullcontext([]) as routings:
        hidden, targets = shift(model.hidden(batch), batch["labels"])
    total = linear_cross_entropy(model.transform(hidden), model.output_weight, targets, model.output_bias)
    loss = Loss(total, torch.tensor(targets.numel(), device=total.device), {})
    return expert_balance(loss, routings, batch, model.router_aux_loss_coef) if balanced else loss


# end lesson


# lesson: expert-balance
def expert_balance(loss: Loss, routings: Sequence[Routing], batch: Batch, coefficient: float) -> Loss:
    """Add coefficient · load_balancing_loss · count, so that experts share the work (Fedus et al. 2021, §2.2).

    The balance is a product of two means over a micro-batch's tokens, and so no sum over them: of each micro-batch
    it is taken whole, as transformers does, over every token that is no padding. Times the count it keeps the
    convention of sums: after the loop's one division it is the mean over micro-batches, weighted by their counts,
    and does not grow with `accumulate`. But it does depend on how a batch is cut: each micro-batch must be even by
    itself. metrics: the balance (k when even), and the least and the greatest share of its layer's assignments that
    any expert got (1/E when even).
    """
    counted = batch["segment_ids"] != 0 if "segment_ids" in batch else None
    balance = load_balancing_loss(routings, counted)
    load = expert_load(routings, counted)
    told = {"expert_balance": balance, "expert_load_min": load.min(), "expert_load_max": load.max()}
    metrics = {name: value.detach() * loss.count for name, value in told.items()}
    return Loss(loss.total + coefficient * balance * loss.count, loss.count, {**loss.metrics, **metrics})


# end lesson


# lesson: aligned
def aligned_cross_entropy(model: nn.Module, batch: Batch) -> Loss:
    """The sum of -log p(label t | the hidden state at t): for encoder-decoders, and for masked tokens.

    Nothing is shifted: `labels` [B, T] stand where the model's hidden states [B, T, D] stand (-100 = no loss).
    """
    assert isinstance(model, LanguageModel)
    hidden, targets = align(model.hidden(batch), batch["labels"])
    total = linear_cross_entropy(model.transform(hidden), model.output_weight, targets, model.output_bias)
    return Loss(total, torch.tensor(targets.numel(), device=total.device), {})


# end lesson
