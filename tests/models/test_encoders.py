"""The table of encoders: every name in it is one that transformers uses, and none is missing."""

import pytest
import torch
import transformers
from transformers import AutoConfig

from danlu.models import auto
from danlu.models.encoder import Encoder, EncoderConfig
from danlu.models.encoders import ENCODERS, HEADS

SMALL = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ENCODERS)
def test_names_and_shapes_are_those_of_transformers(family, head):
    traits = ENCODERS[family]
    renamed = {traits.renamed.get(name, name): value for name, value in SMALL.items()}
    with torch.device("meta"):
        config = AutoConfig.for_model(family, **renamed, pad_token_id=0)
        theirs = getattr(transformers, traits.stem + HEADS[head])(config)
        types = getattr(config, "type_vocab_size", 2)
        mine = Encoder(
            EncoderConfig(
                family=family,
                head=head,
                max_position_embeddings=config.max_position_embeddings,
                type_vocab_size=types,
                **SMALL,
            )
        )
    expected = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in mine.state_dict().items()} == expected
    tied = getattr(theirs, "_tied_weights_keys", None) or {}
    assert mine.tied() == tied
    assert auto.state_to_save(mine).keys() == expected.keys() - tied.keys()


@pytest.mark.parametrize("family", ENCODERS)
def test_what_is_unused_is_no_part_of_any_model(family):
    traits = ENCODERS[family]
    used = set(traits.embeddings.values()) | {f"{traits.layers}.0.{path}" for path in traits.layer.values()}
    assert not used & {path.rpartition(".")[0] for path in traits.unused}


def test_every_head_has_a_plan_in_every_family():
    for name, traits in ENCODERS.items():
        assert traits.heads.keys() == HEADS.keys(), name
        assert all((plan.out is None) == (head == "none") for head, plan in traits.heads.items()), name
