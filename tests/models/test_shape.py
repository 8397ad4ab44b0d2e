import pytest

from danlu.core.errors import ConfigError
from danlu.models.rotary import RopeScaling
from danlu.models.shape import DecoderConfig


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"family": "gpt9"}, "gpt9"),
        ({"num_experts": 4}, "num_experts"),
        ({"family": "qwen2", "mlp_bias": True}, "mlp_bias"),
        ({"family": "mixtral", "num_experts": 4, "norm_topk_prob": False}, "norm_topk_prob"),
        ({"family": "mixtral"}, "num_experts"),
        ({"family": "mixtral", "num_experts": 2, "num_experts_per_tok": 3}, "num_experts_per_tok"),
        ({"family": "gemma3_text"}, "sliding_window"),
        ({"family": "qwen3", "sliding_window": 8}, "layer_types"),
        ({"family": "qwen3", "layer_types": ("full_attention",)}, "num_hidden_layers"),
        ({"family": "qwen3", "layer_types": ("sliding_attention",) * 6}, "sliding_window"),
        ({"family": "qwen3_moe", "num_experts": 4, "mlp_only_layers": (9,)}, "mlp_only_layers"),
        ({"rope_scaling": RopeScaling(rope_type="llama3", factor=8.0)}, "low_freq_factor"),
    ],
)
def test_what_a_family_has_not_or_needs_is_named(settings, named):
    with pytest.raises(ConfigError, match=named):
        DecoderConfig(**settings).check()


def test_kinds_of_layers():
    gemma = DecoderConfig(family="gemma3_text", sliding_window=8, num_hidden_layers=12)
    assert [number for number, kind in enumerate(gemma.kinds) if kind == "full_attention"] == [5, 11]
    assert set(DecoderConfig(family="mistral", sliding_window=8).kinds) == {"sliding_attention"}
    assert set(DecoderConfig(family="mistral").kinds) == {"full_attention"}


def test_sparse_layers():
    shape = DecoderConfig(
        family="qwen3_moe", num_experts=4, decoder_sparse_step=2, mlp_only_layers=(3,), num_hidden_layers=6
    )
    assert [shape.is_sparse(layer) for layer in range(6)] == [False, True, False, False, False, True]
    assert not DecoderConfig().is_sparse(1)
