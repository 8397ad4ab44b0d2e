import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from danlu.ops.rope import inverse_frequencies, rotary_angles, rotate


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
