"""What a stage puts into the loop: an objective, and no-grad annotations of the batch."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from danlu.models.base import Batch, LanguageModel
from danlu.ops.loss import linear_cross_entropy, shift

__all__ = ["Annotate", "Loss", "Objective", "cross_entropy"]


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
    """
    assert isinstance(model, LanguageModel)
    hidden, targets = shift(model.hidden(batch), batch["labels"])
    total = linear_cross_entropy(hidden, model.output_weight, targets)
    return Loss(total, torch.tensor(targets.numel(), device=total.device), {})


# end lesson
