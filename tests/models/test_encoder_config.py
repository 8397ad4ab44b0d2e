import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig

from danlu.core.errors import ConfigError, DanluError
from danlu.models.encoder_config import EncoderConfig, read_encoder_config, write_encoder_config
from danlu.models.encoders import ENCODERS, HEADS

BASE = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}


def config(family: str, head: str = "masked-lm", **more):
    traits = ENCODERS[family]
    named = {traits.renamed.get(name, name): value for name, value in BASE.items()}
    return {"model_type": family, "architectures": [traits.stem + HEADS[head]], **named, **more}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ENCODERS)
def test_what_is_written_is_read_again(family, head):
    more = {"norm_bias": True, "local_attention": 10, "rope_theta": 5e4, "local_rope_theta": 500.0}
    more |= {"layer_types": ("full_attention",) * 4, "classifier_pooling": "mean"}
    shape = EncoderConfig(
        family=family,
        head=head,
        labels=("甲", "乙", "丙") if "classification" in head else ("LABEL_0", "LABEL_1"),
        pad_token_id=3,
        classifier_dropout=0.25,
        problem_type="multi_label_classification",
        **(more if family == "modernbert" else {"hidden_dropout_prob": 0.125}),
        **BASE,
    )
    shape.check()
    again = read_encoder_config(write_encoder_config(shape, "float32"), "here")
    left = {"layer_types", "layer_norm_eps"} if family != "modernbert" else set()
    assert again.model_dump(exclude=left) == shape.model_dump(exclude=left)
    assert again.kinds == shape.kinds


@pytest.mark.parametrize("family", ENCODERS)
def test_a_key_left_out_means_what_transformers_means(family):
    theirs = AutoConfig.for_model(family)
    mine = read_encoder_config(config(family, num_labels=5), "here")
    traits = ENCODERS[family]
    for name in traits.assumed:
        expected = getattr(theirs, traits.renamed.get(name, name))
        assert getattr(mine, name) == expected, name
    assert len(mine.labels) == 5
    if traits.modern:
        assert list(mine.kinds) == AutoConfig.for_model(family, num_hidden_layers=4).layer_types
        rope = theirs.rope_parameters
        assert mine.rope_theta == rope["full_attention"]["rope_theta"]
        assert mine.local_rope_theta == rope["sliding_attention"]["rope_theta"]


def test_modernbert_in_older_words():
    older = {"global_rope_theta": 1e5, "local_rope_theta": 2e4, "global_attn_every_n_layers": 2, "layer_norm_eps": 1e-5}
    shape = read_encoder_config(config("modernbert", **older), "here")
    assert (shape.rope_theta, shape.local_rope_theta) == (1e5, 2e4)
    assert shape.kinds == ("full_attention", "sliding_attention") * 2


def test_what_only_older_files_say_is_passed_over():
    read_encoder_config(
        config("bert", directionality="bidi", pooler_type="first_token_transform", position_embedding_type="absolute"),
        "here",
    )


@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention"),
        ("bert", {"hidden_act": "swoosh"}, "hidden_act"),
        ("bert", {"hidden_size": None}, "hidden_size"),
        ("bert", {"hidden_size": "wide"}, "hidden_size"),
        ("bert", {"hidden_size": 33}, "num_attention_heads"),
        ("bert", {"embedding_size": 128}, "embedding_size"),
        ("bert", {"local_attention": 128}, "local_attention"),
        ("bert", {"architectures": ["BertForQuestionAnswering"]}, "BertForQuestionAnswering"),
        ("bert", {"architectures": None}, "architectures"),
        ("bert", {"architectures": ["BertModel", "BertForMaskedLM"]}, "architectures"),
        ("bert", {"architectures": "BertModel"}, "architectures"),
        ("bert", {"id2label": {"1": "a", "2": "b"}}, "id2label"),
        ("bert", {"id2label": ["a"]}, "id2label"),
        ("bert", {"num_labels": -3}, "num_labels"),
        ("bert", {"num_labels": 2**30}, "num_labels"),
        ("modernbert", {"num_hidden_layers": 2**31}, "num_hidden_layers"),
        ("bert", {"problem_type": "guessing"}, "problem_type"),
        ("roberta", {"max_position_embeddings": 2}, "max_position_embeddings"),
        ("distilbert", {"hidden_size": 64}, "hidden_size"),
        ("distilbert", {"layer_norm_eps": 1e-5}, "layer_norm_eps"),
        ("modernbert", {"attention_dropout": 0.1}, "attention_dropout"),
        ("modernbert", {"embedding_dropout": 0.1}, "embedding_dropout"),
        ("modernbert", {"mlp_dropout": 0.1}, "mlp_dropout"),
        ("modernbert", {"rope_parameters": {"rope_type": "default"}}, "rope_parameters"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 2.0}}}, "yarn"),
        ("modernbert", {"layer_types": ["full_attention"]}, "layer_types"),
        ("modernbert", {"classifier_pooling": "max"}, "classifier_pooling"),
        ("modernbert", {"hidden_size": 36}, "odd"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(family, change, named):
    with pytest.raises(DanluError, match=named) as caught:
        read_encoder_config(config(family) | change, "here")
    assert "here" in caught.value.what


@settings(deadline=None, max_examples=200)
@given(
    family=st.sampled_from(sorted(ENCODERS)),
    changes=st.dictionaries(
        st.sampled_from(
            [
                *("architectures", "hidden_size", "dim", "n_layers", "id2label", "layer_types", "rope_parameters"),
                *("dropout", "pad_token_id", "global_attn_every_n_layers", "num_hidden_layers", "local_attention"),
                *("labels", "head", "num_labels", "problem_type"),
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=4,
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_any_config_is_read_or_refused_never_a_traceback(family, changes):
    try:
        shape = read_encoder_config(config(family) | changes, "here")
    except DanluError:
        return
    shape.check()


def test_settings_of_another_family_are_refused():
    with pytest.raises(ConfigError, match="classifier_pooling"):
        EncoderConfig(classifier_pooling="mean").check()
    with pytest.raises(ConfigError, match="family"):
        EncoderConfig(family="electra").check()
    with pytest.raises(ConfigError, match="hidden_dropout_prob"):
        EncoderConfig(family="modernbert", hidden_dropout_prob=0.1).check()


def test_dropout_before_a_classifier_is_the_blocks_own_unless_told():
    assert EncoderConfig(hidden_dropout_prob=0.1).dropout_of("classifier_dropout") == 0.1
    assert EncoderConfig(hidden_dropout_prob=0.1, classifier_dropout=0.0).dropout_of("classifier_dropout") == 0.0
    assert EncoderConfig(hidden_dropout_prob=0.1).dropout_of(None) == 0.0
