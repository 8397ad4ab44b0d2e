import pytest
import torch

from danlu.ops.pooling import POOLINGS, pool

HIDDEN = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [8.0, -9.0]], [[9.0, 9.0], [2.0, -6.0], [4.0, -1.0]]])
COUNTED = torch.tensor([[True, True, False], [False, True, True]])  # padded on the right, and on the left


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("cls", [[1.0, -4.0], [2.0, -6.0]]),
        ("lasttoken", [[3.0, -2.0], [4.0, -1.0]]),
        ("max", [[3.0, -2.0], [4.0, -1.0]]),
        ("mean", [[2.0, -3.0], [3.0, -3.5]]),
        ("weightedmean", [[(1 + 6) / 3, (-4 - 4) / 3], [(2 + 8) / 3, (-6 - 2) / 3]]),
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, -6 / 2**0.5], [6 / 2**0.5, -7 / 2**0.5]]),
    ],
)
def test_by_hand(how, expected):
    torch.testing.assert_close(pool(HIDDEN, COUNTED, how), torch.tensor(expected))


@pytest.mark.parametrize("how", POOLINGS)
def test_padding_neither_counts_nor_gets_a_gradient(how):
    hidden = HIDDEN.clone().masked_fill(~COUNTED[..., None], torch.inf).requires_grad_()
    told = pool(hidden, COUNTED, how)
    assert torch.equal(told, pool(HIDDEN, COUNTED, how))
    told.sum().backward()
    assert hidden.grad is not None
    assert not hidden.grad[~COUNTED].any()
    assert torch.isfinite(hidden.grad).all()


def test_half_precision_is_summed_in_float32():
    hidden = torch.full((1, 4096, 1), 1.001).bfloat16()
    told = pool(hidden, torch.ones(1, 4096, dtype=torch.bool), "mean")
    assert told.dtype == torch.bfloat16
    assert told.item() == hidden[0, 0, 0].item()
