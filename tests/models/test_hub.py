import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import DanluError
from danlu.models.families import DECODERS
from danlu.models.hub import read_config, write_config
from danlu.models.rotary import RopeScaling
from danlu.models.shape import DecoderConfig

BASE = {
    "vocab_size": 40,
    "hidden_size": 128,
    "intermediate_size": 48,
    "num_hidden_layers": 7,
    "num_attention_heads": 32,
    "max_position_embeddings": 64,
}


def config(model_type: str, **settings):
    return {"model_type": model_type, **BASE, **settings}


@pytest.mark.parametrize("family", DECODERS)
def test_what_is_written_is_read_again(family):
    more = {"num_experts": 4} if DECODERS[family].experts else {}
    more |= {"sliding_window": 8} if DECODERS[family].slides in ("all", "five of six") else {}
    shape = DecoderConfig(family=family, rope_scaling=RopeScaling(rope_type="linear", factor=2.0), **BASE, **more)
    shape.check()
    again = read_config(write_config(shape, "float32"), "here")
    assert write_config(again, "float32") == write_config(shape, "float32")
    assert (again.kinds, again.rope_scaling, again.sliding_window) == (
        shape.kinds,
        shape.rope_scaling,
        shape.sliding_window,
    )


@pytest.mark.parametrize("family", DECODERS)
def test_a_key_left_out_means_what_transformers_means(family):
    from transformers import AutoConfig

    theirs = AutoConfig.for_model(family, **BASE)
    mine = read_config(config(family), "here")
    for name in ("rms_norm_eps", "tie_word_embeddings", "sliding_window"):
        assert getattr(mine, name) == getattr(theirs, name, None), name
    assert mine.kv_heads == theirs.num_key_value_heads
    assert mine.width_of_head == (getattr(theirs, "head_dim", None) or 4)
    rope = theirs.rope_parameters
    assert mine.rope_theta == rope.get("full_attention", rope)["rope_theta"]
    if hasattr(theirs, "layer_types"):
        assert list(mine.kinds) == theirs.layer_types
    if DECODERS[family].experts:
        assert (mine.num_experts, mine.num_experts_per_tok) == (theirs.num_experts, theirs.num_experts_per_tok)
        assert mine.router_aux_loss_coef == theirs.router_aux_loss_coef
    empty = AutoConfig.for_model(family)
    bare = {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}
    told = read_config({"model_type": family, **{name: getattr(empty, name) for name in bare}}, "here")
    assert told.max_position_embeddings == empty.max_position_embeddings


def test_older_spellings_of_rope():
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    shape = read_config(config("qwen2", rope_theta=1e6, rope_scaling=scaling), "here")
    assert shape.rope_theta == 1e6
    assert shape.rope_scaling is not None
    assert (shape.rope_scaling.rope_type, shape.rope_scaling.factor) == ("yarn", 4.0)
    gemma = read_config(
        config(
            "gemma3_text",
            rope_theta=5e5,
            rope_local_base_freq=2e4,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
            sliding_window_pattern=2,
        ),
        "here",
    )
    assert (gemma.rope_theta, gemma.local_theta, gemma.kinds.count("full_attention")) == (5e5, 2e4, 3)
    assert gemma.rope_scaling is not None
    assert gemma.rope_scaling.factor == 8.0


def test_yarn_and_llama3_fall_back_on_the_context():
    shape = read_config(config("llama", rope_scaling={"rope_type": "yarn", "factor": 2.0}), "here")
    assert shape.rope_scaling is not None
    assert shape.rope_scaling.original_max_position_embeddings == 64
    ratio = read_config(
        config("llama", rope_scaling={"rope_type": "yarn", "original_max_position_embeddings": 16}), "here"
    )
    assert ratio.rope_scaling is not None
    assert ratio.rope_scaling.factor == 4.0


@pytest.mark.parametrize(
    ("model_type", "change", "named"),
    [
        ("llama", {"attention_dropout": 0.1}, "attention_dropout"),
        ("llama", {"pretraining_tp": 2}, "pretraining_tp"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("llama", {"auto_map": {"AutoModel": "x.y"}}, "auto_map"),
        ("llama", {"sliding_window": 16}, "sliding_window"),
        ("llama", {"rope_interleaved": True}, "rope_interleaved"),
        ("llama", {"hidden_size": None}, "hidden_size"),
        ("llama", {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "longrope"),
        ("llama", {"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "wobble": 1}}, "wobble"),
        (
            "llama",
            {"rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4, "high_freq_factor": 1}},
            "high_freq_factor",
        ),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("mistral", {"layer_types": ["full_attention"] * 7}, "layer_types"),
        ("mistral", {"attention_bias": True}, "attention_bias"),
        ("qwen2", {"layer_types": ["full_attention"] * 3}, "layer_types"),
        ("qwen2", {"layer_types": ["chunked_attention"] * 7}, "layer_types"),
        ("qwen3", {"hidden_act": "gelu"}, "hidden_act"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "sliding_attention",
        ),
        ("mixtral", {"router_jitter_noise": 0.1}, "router_jitter_noise"),
        ("mixtral", {"num_local_experts": 1}, "num_experts_per_tok"),
        ("qwen3_moe", {"num_experts": 0}, "num_experts"),
        ("qwen3_moe", {"shared_expert_intermediate_size": 64}, "shared_expert_intermediate_size"),
    ],
)
def test_what_would_change_the_computation_is_refused_by_name(model_type, change, named):
    with pytest.raises(DanluError, match=named) as caught:
        read_config(config(model_type, **change), "here.json")
    assert "here.json" in caught.value.what


def test_a_config_of_the_wild_is_read():
    told = {
        "architectures": ["LlamaForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "hidden_act": "silu",
        "is_llama_config": True,
        "pretraining_tp": 1,
        "rope_interleaved": False,
        "rope_scaling": None,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.42.3",
    }
    assert read_config(config("llama", **told), "here").rope_scaling is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**12) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rope_type", "type", "factor", "rope_theta", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=300)
@given(family=st.sampled_from(sorted(DECODERS)), data=st.data())
def test_any_config_is_a_shape_or_a_named_error(family, data):
    whole = config(family) | data.draw(
        st.sampled_from([{}, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, {"use_sliding_window": True}])
    )
    keys = [
        *whole,
        "sliding_window",
        "layer_types",
        "rope_theta",
        "rope_parameters",
        "num_experts",
        "num_key_value_heads",
        "max_window_layers",
    ]
    for key in data.draw(st.lists(st.sampled_from(keys), max_size=3)):
        if key != "model_type":
            whole[key] = data.draw(json_values)
    told = None
    try:
        shape = read_config(whole, "here")
    except DanluError as error:
        told = error.what
    if told is None:
        assert read_config(write_config(shape, "float32"), "again").kinds == shape.kinds
    else:
        assert "here" in told
