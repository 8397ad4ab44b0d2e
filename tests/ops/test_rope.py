import math

import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from danlu.ops.rope import (
    dynamic_frequencies,
    inverse_frequencies,
    linear_frequencies,
    llama3_frequencies,
    rotary_angles,
    rotate,
    yarn_attention_factor,
    yarn_frequencies,
)


def test_equals_transformers():
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 7, 16), torch.randn(2, 3, 7, 16)
    positions = torch.arange(7).expand(2, 7) + torch.tensor([[0], [5]])
    cos, sin = rotary_angles(positions, inverse_frequencies(16, 10000.0))
    theirs = apply_rotary_pos_emb(q, k, cos[:, 0], sin[:, 0])
    torch.testing.assert_close(rotate(q, cos, sin), theirs[0])
    torch.testing.assert_close(rotate(k, cos, sin), theirs[1])


def test_scores_depend_on_distance_only_and_lengths_stay():
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(at: int, other: int) -> torch.Tensor:
        frequencies = inverse_frequencies(8, 100.0)
        turned_q = rotate(q, *rotary_angles(torch.tensor([[at]]), frequencies))
        turned_k = rotate(k, *rotary_angles(torch.tensor([[other]]), frequencies))
        torch.testing.assert_close(turned_q.norm(), q.norm())
        return (turned_q * turned_k).sum()

    torch.testing.assert_close(score(3, 1), score(42, 40), atol=1e-5, rtol=1e-5)
    assert not torch.isclose(score(3, 1), score(3, 2))


def test_frequencies_by_hand():
    # head of 4, theta 100: 100^0 = 1 and 100^(-2/4) = 0.1
    torch.testing.assert_close(inverse_frequencies(4, 100.0), torch.tensor([1.0, 0.1]))


def test_linear_and_dynamic_scaling():
    plain = inverse_frequencies(8, 100.0)
    torch.testing.assert_close(linear_frequencies(plain, 4.0), plain / 4)
    torch.testing.assert_close(
        dynamic_frequencies(8, 100.0, 4.0, context=64, length=10), plain
    )  # short: nothing changes
    # 2 · 128 / 64 - 1 = 3: the slowest dial is exactly 3 times slower, the fastest as it was
    grown = dynamic_frequencies(8, 100.0, 2.0, context=64, length=128)
    torch.testing.assert_close(plain[-1] / grown[-1], torch.tensor(3.0))
    torch.testing.assert_close(grown[0], plain[0])


def test_yarn_and_llama3_keep_fast_dials_and_slow_the_others():
    plain = inverse_frequencies(64, 10000.0)
    turns = 2048 * plain / (2 * math.pi)
    yarn = yarn_frequencies(64, 10000.0, 8.0, original=2048, truncate=False)
    llama3 = llama3_frequencies(plain, 8.0, 1.0, 4.0, original=2048)
    for scaled, slow, fast in ((yarn, 1.0, 32.0), (llama3, 1.0, 4.0)):
        torch.testing.assert_close(scaled[turns > fast], plain[turns > fast])
        torch.testing.assert_close(scaled[turns < slow], plain[turns < slow] / 8)
        between = (turns > slow) & (turns < fast)
        assert between.any()
        assert (scaled[between] < plain[between]).all()
        assert (scaled[between] > plain[between] / 8).all()


def test_yarn_attention_factor_by_hand():
    assert yarn_attention_factor(1.0) == 1.0
    assert math.isclose(yarn_attention_factor(math.e), 1.1)
    assert math.isclose(yarn_attention_factor(math.e, 2.0, 1.0), 1.2 / 1.1)


def test_a_ramp_of_no_width_is_a_step():
    assert torch.isfinite(yarn_frequencies(4, 10000.0, 2.0, original=2)).all()
