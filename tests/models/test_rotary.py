import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from danlu.core.errors import ConfigError
from danlu.models.rotary import RopeScaling, Rotary

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    "scaling",
    [
        None,
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "dynamic", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 1.5},
        {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 64,
            "mscale": 1.0,
            "mscale_all_dim": 0.8,
        },
        {"rope_type": "llama3", **LLAMA3},
    ],
)
def test_cos_and_sin_agree_with_transformers_far_beyond_the_context(scaling):
    parameters = {"rope_type": "default", "rope_theta": 500.0, **(scaling or {})}
    config = LlamaConfig(hidden_size=64, num_attention_heads=2, max_position_embeddings=256, rope_parameters=parameters)
    theirs = LlamaRotaryEmbedding(config)
    mine = Rotary(32, 500.0, 256, RopeScaling(**scaling) if scaling else None)
    for positions in (torch.arange(8)[None], torch.arange(1000)[None], torch.arange(20)[None]):  # grows, and comes back
        expected = theirs(torch.zeros(1), positions)
        for part, other in zip(mine(positions), expected, strict=True):
            torch.testing.assert_close(part[:, 0], other, atol=2e-4, rtol=0.0)  # positions of 1000 · float32


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "llama3"])
def test_what_a_kind_needs_is_named(kind):
    with pytest.raises(ConfigError, match="factor"):
        RopeScaling(rope_type=kind).check(32, 1e4)


@pytest.mark.parametrize(
    ("kind", "head_dim", "theta", "named"), [("dynamic", 2, 1e4, "head_dim"), ("yarn", 8, 1.0, "rope_theta")]
)
def test_what_cannot_be_computed_is_named(kind, head_dim, theta, named):
    with pytest.raises(ConfigError, match=named):
        RopeScaling(rope_type=kind, factor=2.0, original_max_position_embeddings=8).check(head_dim, theta)
