import math

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from danlu.ops.positions import alibi_bias, alibi_slopes, relative_buckets, sinusoidal


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "reach"), [(32, 128), (8, 20), (64, 1000)])
def test_buckets_are_those_of_transformers_at_every_distance(bidirectional, buckets, reach):
    distance = torch.arange(-1500, 1501)[None]
    mine = relative_buckets(distance, buckets, reach, bidirectional=bidirectional)
    assert torch.equal(mine, T5Attention._relative_position_bucket(distance, bidirectional, buckets, reach))


def test_buckets_by_hand():
    # 8 buckets, both ways: 4 a side, of which 0 and 1 are exact; 2 and up share logarithmically, up to 16
    distance = torch.tensor([0, -1, 1, -2, 2, -5, -6, 16, -1000, 1000])
    assert relative_buckets(distance, 8, 16, bidirectional=True).tolist() == [0, 1, 5, 2, 6, 2, 3, 7, 3, 7]
    assert relative_buckets(torch.tensor([3, 1, 0, -3, -4]), 8, 16, bidirectional=False).tolist() == [0, 0, 0, 3, 4]


def test_slopes_of_the_paper():
    assert torch.equal(alibi_slopes(8), 0.5 ** torch.arange(1.0, 9.0))
    torch.testing.assert_close(alibi_slopes(16), 2 ** (-0.5 * torch.arange(1.0, 17.0)))


@pytest.mark.parametrize("heads", [1, 3, 8, 12, 16, 71])
def test_alibi_attends_as_bloom_does(heads):
    length = 9
    theirs = build_alibi_tensor(torch.ones(1, length, dtype=torch.long), heads, torch.float32)  # slope · key
    positions = torch.arange(length)
    mine = alibi_bias(alibi_slopes(heads), positions, positions)
    hidden = torch.ones(length, length).triu(1).bool()
    scores = torch.randn(heads, length, length, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        (scores + mine).masked_fill(hidden, -torch.inf).softmax(-1),
        (scores + theirs.reshape(heads, 1, length)).masked_fill(hidden, -torch.inf).softmax(-1),
    )


def test_alibi_bias_of_rows_at_their_own_positions():
    slopes = alibi_slopes(2)
    bias = alibi_bias(slopes, torch.tensor([[5], [2]]), torch.arange(6))
    assert bias.shape == (2, 2, 1, 6)
    assert bias[1, 0, 0].tolist() == [-slopes[0].item() * distance for distance in (2, 1, 0, 1, 2, 3)]


def test_sinusoidal_is_the_formula_of_the_paper():
    size, positions = 6, torch.tensor([[0, 1], [7, 500]])
    told = sinusoidal(positions, size)
    assert told.shape == (2, 2, size)
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        for i in range(size // 2):
            angle = int(positions[place]) / 10000 ** (2 * i / size)
            assert told[place][2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert told[place][2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_a_shift_is_a_rotation_of_the_waves():
    # §3.5: for any fixed offset, the encoding of pos + k is a linear function of that of pos
    size, offset = 8, 3
    here, there = sinusoidal(torch.arange(50), size), sinusoidal(torch.arange(50) + offset, size)
    solved = torch.linalg.lstsq(here.double(), there.double())
    torch.testing.assert_close(here.double() @ solved.solution, there.double(), atol=1e-5, rtol=0)
