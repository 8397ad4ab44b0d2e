"""Optimisers: Muon for the matrices inside the blocks, AdamW for the rest."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from danlu.train.config import TrainConfig

__all__ = ["Muon", "build_optimizers", "orthogonalise"]

_LAYER = re.compile(r"\.(layers?|h)\.\d+\.")  # as in model.layers.0.mlp.up_proj.weight; BERT says layer.0, GPT-2 h.0
# Quintic Newton-Schulz coefficients, chosen for a steep slope at zero (Jordan et al. 2024, Muon).
_A, _B, _C = 3.4445, -4.7750, 2.0315


# lesson: muon
def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrices, roughly: singular values are pushed towards 1 by a polynomial iteration.

    matrices: [N, rows, columns], handled as one batch. Returns the same shape, in bfloat16.
    """
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if tall else x


# end lesson


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised, so that every direction of a matrix moves equally far.

    The same update as `torch.optim.Muon`, but matrices of one shape go through Newton-Schulz as one batch,
    which is what makes it cheap for small models.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 0.02, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                self._step_shape(parameters, group, math.sqrt(max(1.0, shape[0] / shape[1])))

    def _step_shape(self, parameters: list[Tensor], group: dict[str, Any], stretch: float) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, buffers, group["momentum"])  # Nesterov
        updates = orthogonalise(torch.stack(ahead)).to(parameters[0].dtype)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(updates.unbind()), alpha=-group["lr"] * stretch)


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """'adamw': all by AdamW, no decay on vectors. 'muon': matrices inside the layers by Muon, the rest by AdamW.

    Every group keeps its peak rate in `initial_lr`; the schedule multiplies it.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    inner = [p for name, p in named if p.ndim == 2 and _LAYER.search(f".{name}") and id(p) not in tables]
    inner = inner if config.optimizer == "muon" else []
    taken = set(map(id, inner))
    rest = [p for _, p in named if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=config.peak_lr, betas=config.betas, fused=True
        )
    ]
    if inner:
        made.append(Muon(inner, lr=config.matrix_lr, weight_decay=config.weight_decay, momentum=config.momentum))
    for one in made:
        for group in one.param_groups:
            group["initial_lr"] = group["lr"]
    return made
