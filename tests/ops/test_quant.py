import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.ops.quant import dequantise, int8_linear, quantise_rows


def test_by_hand():
    # max 2.54 -> scale 0.02: 2.54 / 0.02 = 127, -1.0 / 0.02 = -50, 0.011 / 0.02 = 0.55 -> 1
    quantised, scale = quantise_rows(torch.tensor([[2.54, -1.0, 0.011]]))
    assert quantised.tolist() == [[127, -50, 1]]
    torch.testing.assert_close(scale, torch.tensor([[0.02]]))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 1000), st.floats(1e-6, 1e6))
def test_error_is_at_most_half_a_step(rows, columns, seed, size):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    quantised, scale = quantise_rows(weight)
    assert ((dequantise(quantised, scale) - weight).abs() <= scale * 0.5001).all()


def test_row_of_zeros_stays_zero():
    quantised, scale = quantise_rows(torch.zeros(2, 3))
    assert (dequantise(quantised, scale) == 0).all()
    assert torch.isfinite(scale).all()


@pytest.mark.parametrize("rows", [1, 3, 200])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_product_equals_the_dequantised_one(rows, dtype, tolerance):
    torch.manual_seed(0)
    x = torch.randn(2, rows, 64).to(dtype)
    quantised, scale = quantise_rows(torch.randn(48, 64))
    expected = x.float() @ dequantise(quantised, scale).T
    told = int8_linear(x, quantised, scale)
    assert told.dtype == dtype
    assert (told.float() - expected).norm() / expected.norm() < tolerance
