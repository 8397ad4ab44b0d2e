"""Pre-training: write the objective, and the step that accumulates it over micro-batches.

A batch is a dict of int64 tensors [B, T]: input_ids, labels (-100 = no loss), position_ids, segment_ids.
labels[b, t] is the token AT t, not the one after it.
"""

from torch import nn

from danlu.models.base import Batch
from danlu.train.loop import Loop
from danlu.train.objective import Loss, Objective


def cross_entropy(model: nn.Module, batch: Batch) -> Loss:
    """The SUM of -log p(token | what stands before it) over the labelled tokens, and how many those are.

    Loss(total, count, {}): total a scalar to back-propagate, count an int64 scalar tensor. `model(batch)` gives the
    logits [B, T, V]; those at t have seen tokens 0 to t: which label do they predict?
    """
    raise NotImplementedError


def step(loop: Loop, micro: list[Batch], objective: Objective) -> dict[str, float]:
    """One step of the optimiser on several micro-batches, as if they were one large batch.

    1. Back-propagate the SUM of each micro-batch (gradients add up in p.grad) and add up the counts.
    2. Multiply every gradient by 1 / count, once.
    3. Clip the norm of all gradients to loop.config.clip.
    4. Let every optimiser of loop.optimizers step, then forget the gradients.

    Returns {"loss": mean over the labelled tokens, "step_tokens": their number}. loop.parameters() lists what is
    trained. Precision and learning rate are left out here; the real step has them.
    """
    raise NotImplementedError
