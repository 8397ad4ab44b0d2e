"""Checks for the mixture of experts; the references are hand computations and every expert on every token."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

SOLUTION = "danlu.models.moe"


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class _Counting(nn.Module):
    """An expert that remembers how many tokens it was given."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner, self.seen = nn.Linear(size, size), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.inner(x)


def _layer(exercise: ModuleType, chosen: int = 2, normalise: bool = True) -> Any:
    torch.manual_seed(0)
    layer = exercise.SparseMoE(exercise.Router(8, 4, chosen, normalise), [_Counting(8) for _ in range(4)])
    layer.gate.weight.data = _draw(4, 8, seed=1)
    return layer


def check_router_by_hand(exercise: ModuleType) -> None:
    """Probabilities 0.6, 0.1, 0.3 with two chosen: experts 0 and 2, weights 0.6 and 0.3.
    概率为 0.6、0.1、0.3，选两个：应为 0 号和 2 号专家，权重 0.6 和 0.3。
    """
    router = exercise.Router(3, 3, 2, False)
    router.weight.data = torch.eye(3)
    routing = router(torch.tensor([[0.6, 0.1, 0.3]]).log())
    assert routing.experts.tolist() == [[0, 2]], routing.experts.tolist()
    torch.testing.assert_close(routing.weights, torch.tensor([[0.6, 0.3]]))
    assert routing.logits.shape == (1, 3), f"logits {tuple(routing.logits.shape)}"


def check_normalised_weights(exercise: ModuleType) -> None:
    """The same, normalised: 0.6 / 0.9 and 0.3 / 0.9.
    同上并归一化：0.6 / 0.9 与 0.3 / 0.9。
    """
    router = exercise.Router(3, 3, 2, True)
    router.weight.data = torch.eye(3)
    weights = router(torch.tensor([[0.6, 0.1, 0.3]]).log()).weights
    torch.testing.assert_close(weights, torch.tensor([[2 / 3, 1 / 3]]))


def check_equals_every_expert_on_every_token(exercise: ModuleType) -> None:
    """The result is that of running all experts on all tokens and weighing with 0 what was not chosen.
    结果应等于让所有专家处理所有词元、再给没选中的乘以 0。
    """
    for normalise in (True, False):
        layer, x = _layer(exercise, normalise=normalise), _draw(2, 5, 8)
        probabilities = (x @ layer.gate.weight.T).softmax(-1)
        kept = probabilities * (probabilities >= probabilities.topk(2).values[..., -1:])
        if normalise:
            kept = kept / kept.sum(-1, keepdim=True)
        wanted = sum(kept[..., number, None] * expert.inner(x) for number, expert in enumerate(layer.experts))
        found = layer(x)
        assert found.shape == x.shape, f"shape {tuple(found.shape)}"
        torch.testing.assert_close(found, wanted)


def check_experts_see_only_their_tokens(exercise: ModuleType) -> None:
    """10 tokens, 2 experts each: the experts compute 20 tokens in all, not 40.
    10 个词元、每个选 2 个专家：所有专家一共处理 20 个词元，而不是 40 个。
    """
    layer = _layer(exercise)
    layer(_draw(2, 5, 8))
    seen = [expert.seen for expert in layer.experts]
    assert sum(seen) == 20, f"{seen}"


def check_the_router_learns(exercise: ModuleType) -> None:
    """The weights must carry a gradient back to the router.
    梯度必须能通过权重传回路由器。
    """
    layer = _layer(exercise)
    layer(_draw(2, 5, 8)).square().sum().backward()
    assert layer.gate.weight.grad is not None, "no gradient"
    assert float(layer.gate.weight.grad.abs().max()) > 1e-3, "the gradient is 0"


def _routing(exercise: ModuleType, probabilities: list[list[float]], experts: list[list[int]]) -> Any:
    given = torch.tensor(probabilities)
    return exercise.Routing(given.log().requires_grad_(), given.gather(1, torch.tensor(experts)), torch.tensor(experts))


def check_balance_by_hand(exercise: ModuleType) -> None:
    """Shares 2/3 and 1/3, mean probabilities 1.7/3 and 1.3/3: 2 · (3.4/9 + 1.3/9) = 9.4/9.
    份额 2/3 与 1/3，平均概率 1.7/3 与 1.3/3：2 · (3.4/9 + 1.3/9) = 9.4/9。
    """
    routing = _routing(exercise, [[0.5, 0.5], [0.8, 0.2], [0.4, 0.6]], [[0], [0], [1]])
    torch.testing.assert_close(exercise.load_balancing_loss([routing]).detach(), torch.tensor(9.4 / 9))


def check_an_even_router_loses_k(exercise: ModuleType) -> None:
    """Two of four experts for each token, all visited alike, all equally probable: 2.
    四选二、各专家被访问的次数相同、概率也相同：损失为 2。
    """
    routing = _routing(exercise, [[0.25] * 4] * 2, [[0, 1], [2, 3]])
    torch.testing.assert_close(exercise.load_balancing_loss([routing]).detach(), torch.tensor(2.0))


def check_balance_has_a_gradient(exercise: ModuleType) -> None:
    """Going down the gradient makes the most visited expert less probable.
    沿梯度下降，应当使最忙的专家概率变小。
    """
    routing = _routing(exercise, [[0.7, 0.3], [0.6, 0.4]], [[0], [0]])
    exercise.load_balancing_loss([routing]).backward()
    assert routing.logits.grad is not None, "no gradient"
    assert bool((routing.logits.grad[:, 0] > 0).all()), "it pushes the wrong way"


def check_load_by_hand(exercise: ModuleType) -> None:
    """Three tokens, two to expert 0: shares 2/3 and 1/3; a row for each layer.
    三个词元中两个去了 0 号专家：份额 2/3 与 1/3；每层一行。
    """
    one = _routing(exercise, [[0.5, 0.5]] * 3, [[0], [0], [1]])
    other = _routing(exercise, [[0.5, 0.5]] * 3, [[1], [1], [1]])
    torch.testing.assert_close(exercise.expert_load([one, other]), torch.tensor([[2 / 3, 1 / 3], [0.0, 1.0]]))
