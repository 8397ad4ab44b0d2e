"""Exercise: a sparse mixture of experts and the loss that balances it. 练习：稀疏混合专家与负载均衡损失。"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Routing(NamedTuple):
    """Where a layer sent its tokens: `logits` [N, E]; `weights` and `experts` [N, k], by falling weight."""

    logits: Tensor
    weights: Tensor
    experts: Tensor


class Router(nn.Module):
    """Scores every expert for every token and keeps the best `chosen`."""

    def __init__(self, size: int, experts: int, chosen: int, normalise: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, size) * 0.02)
        self.chosen, self.normalise = chosen, normalise

    def forward(self, x: Tensor) -> Routing:
        """[N, D] -> Routing.

        The logits are the products with `weight`; the weights are a softmax over ALL experts, of which the `chosen`
        largest are kept; with `normalise` those kept are divided by their sum.
        """
        raise NotImplementedError


class SparseMoE(nn.Module):
    """The chosen experts' outputs, summed by the router's weights. [..., D] -> [..., D]."""

    def __init__(self, gate: Router, experts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.gate = gate
        self.experts = nn.ModuleList(experts)

    def forward(self, x: Tensor) -> Tensor:
        """Each expert computes the tokens that chose it, and only those: [n, D] -> [n, D]."""
        raise NotImplementedError


def load_balancing_loss(routings: Sequence[Routing]) -> Tensor:
    """E · Σ over experts of (share of the tokens that visit it) · (mean probability that it was given).

    Both means go over the tokens of all routings together; the probabilities are the softmax of the logits. With k
    experts a token the shares sum to k, so that the loss of an even router is k. A scalar with a gradient.
    """
    raise NotImplementedError


def expert_load(routings: Sequence[Routing]) -> Tensor:
    """The share of each layer's assignments that each expert got: [layers, E], each row sums to 1."""
    raise NotImplementedError
