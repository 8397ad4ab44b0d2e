import pytest
from transformers import T5Config as TheirConfig

from danlu.core.errors import ConfigError, FolderError
from danlu.models.t5_shape import T5Config, read_t5, write_t5

# What `google-t5/t5-small` and `google/flan-t5-small` say, numbers as in Raffel et al. 2020 and Chung et al. 2022.
SMALL = {
    "architectures": ["T5ForConditionalGeneration"],
    "d_ff": 2048,
    "d_kv": 64,
    "d_model": 512,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "n_positions": 512,
    "num_heads": 8,
    "num_layers": 6,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "task_specific_params": {"summarization": {"prefix": "summarize: "}},
    "vocab_size": 32128,
}
FLAN = {
    **{key: value for key, value in SMALL.items() if key != "task_specific_params"},
    "d_ff": 1024,
    "feed_forward_proj": "gated-gelu",
    "num_decoder_layers": 8,
    "num_heads": 6,
    "num_layers": 8,
    "relative_attention_max_distance": 128,
    "tie_word_embeddings": False,
    "transformers_version": "4.23.1",
    "use_cache": True,
}


def test_the_layouts_are_told_apart():
    small, flan = read_t5(SMALL, "config.json"), read_t5(FLAN, "config.json")
    assert (small.feed_forward_proj, small.tie_word_embeddings, small.scales) == ("relu", True, True)
    assert (flan.feed_forward_proj, flan.tie_word_embeddings, flan.scales) == ("gated-gelu", False, False)
    assert small.decoder_layers == 6
    assert small.relative_attention_max_distance == 128  # which the first files did not say


@pytest.mark.parametrize("given", [SMALL, FLAN])
def test_transformers_reads_what_is_written(given):
    shape = read_t5(given, "config.json")
    written = write_t5(shape, "float32")
    mine, theirs = TheirConfig.from_dict(written).to_dict(), TheirConfig.from_dict(given).to_dict()
    said = {key for key in theirs if key in T5Config.model_fields} | {"is_gated_act", "dense_act_fn"}
    assert {key: mine[key] for key in said} == {key: theirs[key] for key in said}
    assert read_t5(written, "config.json").model_dump() == {
        **shape.model_dump(),
        "num_decoder_layers": shape.decoder_layers,
        "scale_decoder_outputs": shape.scales,
    }
    assert read_t5(TheirConfig.from_dict(given).to_dict(), "config.json").scales == shape.scales


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_heads": None}, "num_heads is missing"),
        ({"num_heads": 0}, "num_heads"),
        ({"d_ff": 2**40}, "d_ff"),
        ({"feed_forward_proj": "swish"}, "feed_forward_proj"),
        ({"is_gated_act": True}, "is_gated_act True is not implemented"),
        ({"cross_layers": 3}, "cross_layers 3"),
        ({"relative_attention_max_distance": 16}, "32 buckets that reach 16"),
    ],
)
def test_what_is_wrong_is_named(change, told):
    with pytest.raises((ConfigError, FolderError), match=told) as found:
        read_t5({**SMALL, **change}, "folder/config.json")
    assert "folder/config.json" in found.value.what
