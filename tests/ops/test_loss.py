import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.ops import loss as module
from danlu.ops.loss import IGNORE, align, linear_cross_entropy, logprobs, shift


def test_shift_by_hand():
    # tokens a b c of one document, then x y of the next (first label ignored), then padding
    hidden = torch.arange(6.0)[None, :, None]
    labels = torch.tensor([[IGNORE, 11, 12, IGNORE, 22, IGNORE]])
    picked, targets = shift(hidden, labels)
    assert picked[:, 0].tolist() == [0.0, 1.0, 3.0]  # each sits one place before its target
    assert targets.tolist() == [11, 12, 22]


def test_align_keeps_every_labelled_position_where_it_is():
    hidden = torch.arange(6.0)[None, :, None]
    picked, targets = align(hidden, torch.tensor([[7, IGNORE, 8, IGNORE, IGNORE, 9]]))
    assert picked[:, 0].tolist() == [0.0, 2.0, 5.0]
    assert targets.tolist() == [7, 8, 9]


def test_logprobs_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, 5.0]])
    told = logprobs(logits, torch.tensor([1, 0]))
    torch.testing.assert_close(told, torch.tensor([math.log(0.75), math.log(0.5)]))
    assert logprobs(logits, torch.tensor([IGNORE, 0]))[0] == 0


@pytest.mark.parametrize("chunk", [1, 20, 10_000])
@pytest.mark.parametrize("biased", [False, True])
def test_linear_cross_entropy_equals_torch_whatever_the_chunk(monkeypatch, chunk, biased):
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", chunk)
    torch.manual_seed(0)
    hidden = torch.randn(13, 6, requires_grad=True)
    weight = torch.randn(10, 6, requires_grad=True)
    targets = torch.randint(0, 10, (13,))
    bias = torch.randn(10, requires_grad=True) if biased else None
    mine = linear_cross_entropy(hidden, weight, targets, bias)
    theirs = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")
    torch.testing.assert_close(mine, theirs)
    inputs = [part for part in (hidden, weight, bias) if part is not None]
    for a, b in zip(torch.autograd.grad(3 * mine, inputs), torch.autograd.grad(3 * theirs, inputs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_gradcheck():
    torch.manual_seed(0)
    hidden = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 4, 2, 2])
    # sums are kept in float32, so the numerical gradient is rough
    assert torch.autograd.gradcheck(
        lambda h, w: linear_cross_entropy(h, w, targets), (hidden, weight), eps=1e-2, atol=2e-3, rtol=1e-2
    )


def test_no_gradient_asked_none_made():
    weight = torch.randn(5, 3)
    total = linear_cross_entropy(torch.randn(4, 3), weight, torch.tensor([0, 1, 2, 3]))
    assert not total.requires_grad
    hidden = torch.randn(4, 3, requires_grad=True)
    linear_cross_entropy(hidden, weight, torch.tensor([0, 1, 2, 3])).backward()
    assert hidden.grad is not None


def test_gradient_of_the_bias_alone():
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(4, 3), torch.randn(5, 3), torch.randn(5, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 3])
    linear_cross_entropy(hidden, weight, targets, bias).backward()
    expected = (hidden @ weight.T + bias).softmax(-1).sum(0) - F.one_hot(targets, 5).sum(0)
    torch.testing.assert_close(bias.grad, expected)


def test_no_positions_is_zero():
    weight = torch.randn(5, 3, requires_grad=True)
    total = linear_cross_entropy(torch.zeros(0, 3, requires_grad=True), weight, torch.zeros(0, dtype=torch.long))
    total.backward()
    assert total == 0
    assert weight.grad.abs().sum() == 0


@settings(deadline=None, max_examples=25)
@given(st.floats(-80, 80), st.integers(2, 40))
def test_large_logits_do_not_overflow(size, vocabulary):
    hidden = torch.full((2, 1), size)
    weight = torch.linspace(-1, 1, vocabulary)[:, None]
    total = linear_cross_entropy(hidden, weight, torch.tensor([0, vocabulary - 1]))
    assert torch.isfinite(total)
    torch.testing.assert_close(total, -logprobs(hidden @ weight.T, torch.tensor([0, vocabulary - 1])).sum())


def test_autocast_products_stay_close():
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 16, requires_grad=True), torch.randn(40, 16, requires_grad=True)
    targets = torch.randint(0, 40, (50,))
    exact = linear_cross_entropy(hidden, weight, targets)
    with torch.autocast("cpu", torch.bfloat16):
        rough = linear_cross_entropy(hidden, weight, targets)
    assert rough.dtype == torch.float32
    assert abs(rough - exact) / exact < 0.01
