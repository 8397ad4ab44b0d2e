"""Against transformers' logits processors and warpers, one setting for all rows and one for each."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy import stats
from torch import Tensor

from danlu.ops import sampling
from danlu.ops.sampling import (
    distribution,
    greedy,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    penalise_frequency,
    penalise_repetition,
    sample,
)

OUT = float("-inf")
NO_IDS: Any = None
WARPERS = {
    "temperature": transformers.TemperatureLogitsWarper,
    "top_k": transformers.TopKLogitsWarper,
    "top_p": transformers.TopPLogitsWarper,
    "min_p": transformers.MinPLogitsWarper,
    "typical_p": transformers.TypicalLogitsWarper,
}
KEEP = {"top_k": keep_top_k, "top_p": keep_top_p, "min_p": keep_min_p, "typical_p": keep_typical}


def random_logits(*shape: int, seed: int = 0, spread: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


def settings(rows: int, temperature: float = 1.0, **wish: float) -> dict[str, Tensor]:
    return {name: torch.full((rows,), value) for name, value in {"temperature": temperature, **wish}.items()}


def warped(logits: Tensor, **wish: float) -> Tensor:
    """What transformers makes of them, in its order."""
    for name, warper in WARPERS.items():
        if name in wish:
            logits = warper(wish[name])(NO_IDS, logits)
    return logits


def exact(name: str, value: float, logits: Tensor) -> Tensor:
    """One filter of transformers in float64: in float32 its sums are not exact enough to find the border."""
    return WARPERS[name](value)(NO_IDS, logits.double()).float()


@pytest.mark.parametrize("vocab", [40, 5000])  # below and above the few that are looked at first
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("top_k", [1, 2, 7, 39, 1000]),
        ("top_p", [1e-6, 0.1, 0.5, 0.9, 0.99]),
        ("min_p", [0.001, 0.05, 0.5, 1.0]),
        ("typical_p", [1e-6, 0.1, 0.5, 0.9, 0.99]),
    ],
)
def test_a_filter_keeps_what_transformers_keeps(name, values, vocab):
    logits = random_logits(16, vocab)
    told = [KEEP[name](logits, torch.full((16,), value)) for value in values]
    for value, mine in zip(values, told, strict=True):
        assert torch.equal(mine, exact(name, value, logits)), value
    one_each = torch.stack([mine[row] for row, mine in enumerate(told)])
    assert torch.equal(KEEP[name](logits[: len(values)], torch.tensor(values)), one_each)


@pytest.mark.parametrize("name", KEEP)
def test_a_filter_that_is_off_keeps_all_and_a_flat_row_needs_all_columns(name):
    off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}[name]
    logits = random_logits(2, 3000, spread=0.01)
    value = {"top_k": 2500, "top_p": 0.9, "min_p": 0.995, "typical_p": 0.9}[name]
    mine = KEEP[name](logits, torch.tensor([off, value]))
    assert torch.equal(mine[0], logits[0])
    assert torch.equal(mine[1:], exact(name, value, logits[1:]))


@pytest.mark.parametrize("name", KEEP)
def test_what_is_excluded_stays_excluded(name):
    logits = random_logits(3, 50).index_fill(1, torch.arange(0, 50, 2), OUT)
    value = {"top_k": 40, "top_p": 0.99, "min_p": 1e-4, "typical_p": 0.99}[name]
    mine = KEEP[name](logits, torch.full((3,), value))
    assert torch.equal(mine, exact(name, value, logits))
    assert (mine[:, ::2] == OUT).all()
    assert (mine > OUT).any(-1).all()


def test_by_hand():
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()

    def kept(keep, value) -> list[int]:
        return (keep(logits, torch.tensor([value])) > OUT).nonzero()[:, 1].tolist()

    assert kept(keep_top_k, 2) == [1, 3]
    assert kept(keep_top_p, 0.49) == [1]
    assert kept(keep_top_p, 0.51) == [1, 3]
    assert kept(keep_min_p, 0.29) == [0, 1, 3]  # at least 0.145
    # Entropy 1.142 nats; surprises 1.897, 0.693, 2.996, 1.204: 3 is the nearest, then 1.
    assert kept(keep_typical, 0.29) == [3]
    assert kept(keep_typical, 0.31) == [1, 3]


def test_ties_at_a_border_stay_together():
    logits = torch.tensor([[1.0, 2.0, 1.0, 0.0, 1.0]])
    assert (keep_top_k(logits, torch.tensor([2])) > OUT).tolist() == [[True, True, True, False, True]]
    assert (keep_top_p(logits, torch.tensor([0.5])) > OUT).tolist() == [[True, True, True, False, True]]
    assert greedy(torch.tensor([[0.0, 2.0, 1.0, 2.0]])).item() == 1  # the lowest id


def test_penalties():
    logits, ids = random_logits(8, 40), torch.randint(0, 40, (8, 12))
    seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, ids, True)
    for penalty in (0.7, 1.3):
        theirs = transformers.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
        torch.testing.assert_close(penalise_repetition(logits, seen, torch.full((8,), penalty)), theirs)
    counts = torch.tensor([[0.0, 1.0, 3.0]])
    mine = penalise_frequency(torch.zeros(1, 3), counts, torch.tensor([0.5]), torch.tensor([0.25]))
    assert mine.tolist() == [[0.0, -0.75, -1.25]]


WISHES = [
    {},
    {"temperature": 0.5, "top_k": 5},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"typical_p": 0.6},
    {"temperature": 1.4, "top_k": 8, "top_p": 0.8, "min_p": 0.05, "typical_p": 0.9},
]


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_the_distribution_is_that_of_transformers(wish):
    logits = random_logits(10, 60)
    mine = distribution(logits, **settings(10, **wish))
    torch.testing.assert_close(mine, warped(logits, **wish).softmax(-1))


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_draws_follow_the_distribution(wish):
    logits, number = random_logits(1, 12, spread=1.0), 20_000
    uniform = torch.rand(number, generator=torch.Generator().manual_seed(0))
    drawn = sample(logits.expand(number, -1), uniform, **settings(number, **wish))
    wanted = warped(logits, **wish).softmax(-1)[0].double().numpy()
    counts = np.bincount(drawn.numpy(), minlength=12)
    some = wanted > 0
    assert counts[~some].sum() == 0
    if some.sum() > 1:
        assert stats.chisquare(counts[some], wanted[some] / wanted[some].sum() * number).pvalue > 1e-4


def test_the_draw_is_where_the_cumulative_probability_passes_the_number():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log().expand(7, -1)
    uniform = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 0.99, 1 - 2**-24])
    assert sample(logits, uniform, torch.ones(7)).tolist() == [0, 0, 1, 1, 2, 2, 2]


def test_a_row_does_not_depend_on_its_neighbours(monkeypatch):
    """Rows with a k alone look at a few columns only; beside one without, at all of them."""
    rows = 60
    logits = random_logits(rows, 3000).round(decimals=1)  # with ties
    uniform = torch.rand(rows, generator=torch.Generator().manual_seed(1))
    kinds = [(1.0, 5, 1.0), (0.7, 50, 0.9), (1.2, 0, 0.8), (0.0, 0, 1.0), (1.0, 1, 1.0), (1.0, 0, 1.0)]
    temperature, top_k, top_p = (torch.tensor(part * (rows // 6)) for part in zip(*kinds, strict=True))
    together = sample(logits, uniform, temperature, top_k, top_p)
    monkeypatch.setattr(sampling, "_AT_ONCE", 21_000)  # seven rows at a time
    assert torch.equal(sample(logits, uniform, temperature, top_k, top_p), together)
    alone = [sample(*(part[i : i + 1] for part in (logits, uniform, temperature, top_k, top_p))) for i in range(rows)]
    assert together.tolist() == torch.cat(alone).tolist()
    assert Counter(together.tolist()).most_common(1)[0][1] < rows / 2


def test_zero_temperature_is_greedy_also_beside_sampling_rows():
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    temperature = torch.tensor([0.0, 1.0])
    assert sample(logits, torch.zeros(2), temperature).tolist() == [1, 0]
    assert sample(logits, torch.zeros(2), temperature, torch.tensor([0, 2])).tolist() == [1, 1]  # 0 is excluded
    assert distribution(logits, temperature)[0].tolist() == [0, 1, 0]


def test_greedy_costs_one_look_and_a_small_k_never_sorts(monkeypatch):
    monkeypatch.setattr(sampling, "_heated", None)
    logits = random_logits(4, 3000)
    off = settings(4, temperature=0.0, top_k=5, top_p=0.9)
    assert torch.equal(sample(logits, torch.zeros(4), **off), logits.argmax(-1))
    monkeypatch.undo()
    monkeypatch.setattr(Tensor, "sort", _few(Tensor.sort))
    monkeypatch.setattr(torch, "softmax", None)
    sample(logits, torch.zeros(4), **settings(4, top_k=20, top_p=0.9, typical_p=0.9))


def _few(function):
    def checked(self, *args, **kwargs):
        assert self.shape[-1] <= 32
        return function(self, *args, **kwargs)

    return checked
