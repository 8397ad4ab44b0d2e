"""Checks for a recurrent step and for attention: hand computations, torch's own RNN, and how far a gradient reaches."""

import math
from types import ModuleType

import torch
from torch import Tensor, nn

SOLUTION = {"rnn_tanh_cell": "torch:rnn_tanh_cell", "attention_weights": "danlu.ops.attention:attention_weights"}


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check_a_step_by_hand(exercise: ModuleType) -> None:
    """Input 1, state 0.5, weights 2 and -1: tanh(2 - 0.5) = 0.905.
    输入 1、状态 0.5、权重 2 和 -1：tanh(2 - 0.5) = 0.905。
    """
    one = torch.ones(1, 1)
    found = exercise.rnn_tanh_cell(one, 0.5 * one, 2 * one, -one)
    torch.testing.assert_close(found, torch.tensor([[math.tanh(1.5)]]))


def check_a_row_is_that_of_torch(exercise: ModuleType) -> None:
    """Step after step over a row it gives what torch.nn.RNN gives.
    沿着一行逐步计算，应与 torch.nn.RNN 的结果相同。
    """
    torch.manual_seed(0)
    torchs, x = nn.RNN(5, 7, bias=False, batch_first=True), _draw(3, 9, 5)
    h = torch.zeros(3, 7)
    for t in range(9):
        h = exercise.rnn_tanh_cell(x[:, t], h, torchs.weight_ih_l0, torchs.weight_hh_l0)
    torch.testing.assert_close(h, torchs(x)[0][:, -1])


def check_what_is_far_fades(exercise: ModuleType) -> None:
    """With w_hh = 0.5 each step at least halves what came before: after 20 steps under 2^-20 is left.
    w_hh = 0.5 时，每一步至少让先前的内容减半：20 步之后剩下不到 2^-20。
    """
    first = torch.full((1, 1), 0.3, requires_grad=True)
    h = first
    for _ in range(20):
        h = exercise.rnn_tanh_cell(torch.zeros(1, 1), h, torch.ones(1, 1), torch.full((1, 1), 0.5))
    h.sum().backward()
    assert first.grad is not None, "no gradient"
    assert 0 < float(first.grad) <= 2**-20, f"{float(first.grad):.2g}"


def check_a_look_by_hand(exercise: ModuleType) -> None:
    """Scores 2 and 0, divided by √4: 1 and 0, so e / (e + 1) and 1 / (e + 1).
    分数 2 和 0，除以 √4 得 1 和 0，权重为 e / (e + 1) 和 1 / (e + 1)。
    """
    q, k = torch.tensor([[[[1.0, 1, 0, 0]]]]), torch.tensor([[[[2.0, 0, 0, 0], [0, 0, 1, 0]]]])
    weights = exercise.attention_weights(q, k)
    assert weights.shape == (1, 1, 1, 2), f"shape {tuple(weights.shape)}"
    torch.testing.assert_close(weights.flatten(), torch.tensor([math.e / (math.e + 1), 1 / (math.e + 1)]))


def check_distance_does_not_matter(exercise: ModuleType) -> None:
    """The same key, next door or 500 places away, gets the same weight.
    同一个键，在隔壁还是在 500 个位置之外，权重都一样。
    """
    q, k = _draw(1, 1, 1, 8), _draw(1, 1, 501, 8, seed=1)
    far = exercise.attention_weights(q, k)[0, 0, 0]
    near = exercise.attention_weights(q, k.flip(2))[0, 0, 0]
    torch.testing.assert_close(far[0], near[-1])


def check_all_queries_at_once(exercise: ModuleType) -> None:
    """All tokens at once give what each gives alone: nobody waits for anybody.
    所有词元一起算，与各自单独算的结果相同：谁也不用等谁。
    """
    q, k = _draw(2, 3, 6, 8), _draw(2, 3, 9, 8, seed=1)
    alone = torch.cat([exercise.attention_weights(q[:, :, t : t + 1], k) for t in range(6)], dim=2)
    torch.testing.assert_close(exercise.attention_weights(q, k), alone)
