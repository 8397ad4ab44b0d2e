import numpy as np
import pytest
import torch
from scipy import stats

from danlu.ops.sampling import filter_probabilities, penalise_repetition, sample


def settings(rows: int, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    return (
        torch.full((rows,), temperature),
        torch.full((rows,), top_k, dtype=torch.long),
        torch.full((rows,), top_p),
        torch.full((rows,), min_p),
    )


def test_filters_by_hand():
    sorted_down = torch.tensor([[0.5, 0.3, 0.15, 0.05]])

    def kept(**wish):
        _, top_k, top_p, min_p = settings(1, **wish)
        return (filter_probabilities(sorted_down, top_k, top_p, min_p) > 0).sum().item()

    assert kept() == 4
    assert kept(top_k=2) == 2
    assert kept(top_p=0.5) == 1  # 0.5 reaches it
    assert kept(top_p=0.51) == 2
    assert kept(min_p=0.3) == 3  # at least 0.15
    assert kept(top_k=3, min_p=0.59) == 2
    assert kept(top_p=1e-9) == 1  # the best always stays


def test_penalty_by_hand():
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    seen = torch.tensor([[True, True, False]])
    assert penalise_repetition(logits, seen, torch.tensor([2.0])).tolist() == [[1.0, -4.0, 1.0]]


@pytest.mark.parametrize("wish", [{}, {"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.2}, {"temperature": 0.5, "top_k": 8}])
def test_draws_follow_the_distribution(wish):
    torch.manual_seed(0)
    logits = torch.randn(1, 12)
    number = 20_000
    temperature, *limits = settings(number, **wish)
    drawn = sample(logits.expand(number, -1), torch.rand(number), temperature, *limits)
    probabilities, order = (logits / temperature[0]).softmax(-1).sort(descending=True)
    wanted = filter_probabilities(probabilities, *(limit[:1] for limit in limits))[0]
    wanted = wanted.double().numpy()
    counts = np.array([(drawn == token).sum().item() for token in order[0]])
    assert counts[wanted == 0].sum() == 0
    some = wanted > 0
    assert stats.chisquare(counts[some], wanted[some] / wanted[some].sum() * number).pvalue > 1e-4


def test_a_row_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    logits, uniform = torch.randn(6, 50), torch.rand(6)
    together = sample(logits, uniform, *settings(6, top_p=0.9))
    alone = [sample(logits[i : i + 1], uniform[i : i + 1], *settings(1, top_p=0.9)).item() for i in range(6)]
    assert together.tolist() == alone


def test_zero_temperature_is_greedy_also_beside_sampling_rows():
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    temperature = torch.tensor([0.0, 1.0])
    drawn = sample(logits, torch.tensor([0.0, 0.0]), temperature, *settings(2)[1:])
    assert drawn.tolist() == [1, 0]  # u = 0 takes the first token of positive probability


def test_uniform_close_to_one_stays_inside():
    drawn = sample(torch.zeros(1, 4), torch.tensor([1 - 2**-24]), *settings(1))
    assert drawn.item() == 3
