"""Sparse mixture of experts (Shazeer et al. 2017; Fedus et al. 2021): each token visits a few of many MLPs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr

__all__ = ["MixtralExpert", "Router", "Routing", "SparseMoE", "expert_load", "load_balancing_loss", "record_routing"]


class Routing(NamedTuple):
    """Where a layer sent its tokens: `logits` [N, E]; `weights` and `experts` [N, k], by falling weight."""

    logits: Tensor
    weights: Tensor
    experts: Tensor


# lesson: moe
class Router(nn.Module):
    """Scores every expert for every token and keeps the best `chosen`."""

    def __init__(self, size: int, experts: int, chosen: int, normalise: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, size) * 0.02)
        self.chosen, self.normalise = chosen, normalise

    def forward(self, x: Tensor) -> Routing:
        """[N, D] -> Routing. The weights are a softmax over all experts; `normalise` makes those kept sum to 1."""
        logits = F.linear(x, self.weight)
        weights, experts = logits.float().softmax(-1).topk(self.chosen, dim=-1)
        if self.normalise:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(logits, weights.to(logits.dtype), experts)


class SparseMoE(nn.Module):
    """The chosen experts' outputs, summed by the router's weights. [..., D] -> [..., D]."""

    def __init__(self, gate: Router, experts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.gate = gate
        self.experts = nn.ModuleList(experts)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        routing: Routing = self.gate(tokens)
        mixed = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            row, slot = torch.where(routing.experts == number)
            if len(row):  # most experts have nothing to do when a single token is generated
                answer = expert(tokens[row]) * routing.weights[row, slot, None]
                mixed = mixed.index_add(0, row, answer.to(mixed.dtype))
        return mixed.view_as(x)


# end lesson


class MixtralExpert(nn.Module):
    """SwiGLU under the names that Mixtral gives it: w2(silu(w1 x) · w3 x). [..., D] -> [..., D]."""

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(size, inner, bias=False)
        self.w2 = nn.Linear(inner, size, bias=False)
        self.w3 = nn.Linear(size, inner, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


@contextmanager
def record_routing(model: nn.Module) -> Iterator[list[Routing]]:
    """Within the block, every forward pass appends the Routing of each sparse layer, in order.

    The forward pass itself keeps nothing, and costs nothing more outside the block. Raises ConfigError for a model
    without a router.
    """
    found: list[Routing] = []

    def keep(_router: nn.Module, _inputs: object, routing: Any) -> None:
        found.append(routing)

    hooks = [module.register_forward_hook(keep) for module in model.modules() if isinstance(module, Router)]
    if not hooks:
        raise ConfigError(tr("this model has no experts to route to", "该模型没有可路由的专家"))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


# lesson: load-balancing
def load_balancing_loss(routings: Sequence[Routing], counted: Tensor | None = None) -> Tensor:
    """E · Σ over experts of (share of the tokens it got) · (probability it was given); k when all is even.

    Fedus et al. 2021, eq. 4-6, with both means taken over the tokens of all layers together, as transformers does.
    counted: bool [B, T] or [N], false where padded. Returns a scalar with a gradient.
    """
    weights = [_weights(routing, counted) for routing in routings]
    total = torch.stack([weight.sum() for weight in weights]).sum()
    got = torch.stack([(_visits(routing) * weight).sum(0) for routing, weight in zip(routings, weights, strict=True)])
    given = torch.stack(
        [
            (routing.logits.softmax(-1).float() * weight).sum(0)
            for routing, weight in zip(routings, weights, strict=True)
        ]
    )
    return (got.sum(0) / total * (given.sum(0) / total)).sum() * got.shape[-1]


# end lesson


def expert_load(routings: Sequence[Routing], counted: Tensor | None = None) -> Tensor:
    """The share of each layer's assignments that each expert got: [layers, E], rows sum to 1; 1/E each is even.

    counted: bool [B, T] or [N], false where padded.
    """
    visits = torch.stack([(_visits(routing) * _weights(routing, counted)).sum(0) for routing in routings])
    return visits / visits.sum(-1, keepdim=True)


def _visits(routing: Routing) -> Tensor:
    """1 where a token visits an expert: float32 [N, E]."""
    return torch.zeros_like(routing.logits, dtype=torch.float32).scatter_(1, routing.experts, 1.0)


def _weights(routing: Routing, counted: Tensor | None) -> Tensor:
    """[N, 1]: 1 for a token that counts."""
    if counted is None:
        return torch.ones_like(routing.logits[:, :1], dtype=torch.float32)
    return counted.reshape(-1, 1).float()
