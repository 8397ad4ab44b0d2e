import pytest
import torch

from danlu.ops.attention import (
    additive,
    attention,
    attention_weights,
    cache_mask,
    causal_mask,
    mutual_mask,
    packed_mask,
)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("trains", [False, True])
def test_equals_the_textbook_formula_with_grouped_heads(groups, trains):
    torch.manual_seed(0)
    q = torch.randn(2, 4, 5, 8, requires_grad=trains)
    k, v = torch.randn(2, groups, 5, 8), torch.randn(2, groups, 5, 8)
    mask = additive(packed_mask(torch.tensor([[1, 1, 2, 2, 0], [1, 1, 1, 1, 1]])), torch.float32)
    expected = torch.empty(2, 4, 5, 8)
    for batch in range(2):
        for head in range(4):
            own = head // (4 // groups)
            scores = q[batch, head] @ k[batch, own].T / 8**0.5 + mask[batch, 0]
            expected[batch, head] = torch.softmax(scores, -1) @ v[batch, own]
    torch.testing.assert_close(attention(q, k, v, mask), expected)
    torch.testing.assert_close(attention_weights(q, k, mask).sum(-1), torch.ones(2, 4, 5))


def test_both_paths_give_the_same_gradients():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 6, 4, requires_grad=True) for _ in range(3))
    mask = additive(packed_mask(torch.ones(1, 6, dtype=torch.long)), torch.float32)
    exact = torch.autograd.grad(attention(q, k, v, causal=True).square().sum(), (q, k, v))
    masked = torch.autograd.grad(attention(q, k, v, mask).square().sum(), (q, k, v))
    low = [part.detach().bfloat16().requires_grad_() for part in (q, k, v)]
    plain = torch.autograd.grad(attention(*low, mask.bfloat16()).float().square().sum(), low)
    for one, other, rough in zip(exact, masked, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        assert (rough.float() - one).norm() / one.norm() < 0.03  # bfloat16 keeps three digits


def test_packed_mask_keeps_documents_apart():
    mask = packed_mask(torch.tensor([[1, 1, 2, 0]]))[0, 0]
    assert mask.tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],  # padding sees itself: a row of nothing would be NaN
    ]


def test_cache_mask_hides_what_comes_later_or_is_stale():
    mask = cache_mask(torch.tensor([[2], [0]]), 4)[:, 0, 0]
    assert mask.tolist() == [[True, True, True, False], [True, False, False, False]]


@pytest.mark.parametrize("window", [1, 3, 9])
def test_a_window_by_hand(window):
    segments = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 0, 0]])
    length = segments.shape[1]
    allowed, alone = packed_mask(segments, window)[0, 0], causal_mask(length, window, torch.device("cpu"))[0, 0]
    positions = torch.tensor([[4, 7]])
    cached = cache_mask(positions, length, window)[0, 0]
    for query in range(length):
        for key in range(length):
            near = 0 <= query - key < window
            assert bool(alone[query, key]) == near
            assert bool(allowed[query, key]) == (near and segments[0, query] == segments[0, key])
            if query in (4, 7):
                assert bool(cached[[4, 7].index(query), key]) == near
    assert torch.equal(packed_mask(segments, length), packed_mask(segments))


@pytest.mark.parametrize("reach", [None, 1])
def test_mutual_mask_sees_both_sides_of_its_own_document(reach):
    segments = [[1, 1, 1, 2, 2, 0, 0]]
    allowed = mutual_mask(torch.tensor(segments), reach)[0, 0]
    for query, own in enumerate(segments[0]):
        for key, other in enumerate(segments[0]):
            near = reach is None or abs(query - key) <= reach
            assert allowed[query, key] == (own == other and near)
