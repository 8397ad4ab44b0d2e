"""ModernBERT's layer: what local attention reaches, and the whole layer against the one of transformers."""

import pytest
import torch
from transformers import ModernBertConfig
from transformers.models.modernbert.modeling_modernbert import ModernBertEncoderLayer, ModernBertRotaryEmbedding

from danlu.models.blocks import View
from danlu.models.encoder import Encoder, EncoderConfig
from danlu.models.modernbert import ModernLayer, modern_norm
from danlu.models.rotary import Rotary

SHAPE = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize("number", [0, 1])
@torch.no_grad()
def test_a_layer_is_that_of_transformers(number):
    torch.manual_seed(0)
    theirs = ModernBertEncoderLayer(ModernBertConfig(**SHAPE, attn_implementation="eager"), number).eval()
    mine = ModernLayer(EncoderConfig(family="modernbert", layer_norm_eps=1e-5, **SHAPE), number)
    mine.load_state_dict(theirs.state_dict())
    x, positions = torch.randn(2, 9, 32), torch.arange(9).expand(2, 9)
    angles = ModernBertRotaryEmbedding(theirs.config)(x, positions, "full_attention")
    told = mine(x, View(Rotary(8, 160000.0, 64)(positions), None))
    torch.testing.assert_close(told, theirs(x, position_embeddings=angles), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reach", [1, 3])
def test_a_local_layer_sees_so_far_to_either_side_and_no_further(reach):
    config = EncoderConfig(
        family="modernbert",
        local_attention=2 * reach,
        layer_types=("sliding_attention",) * 2,
        layer_norm_eps=1e-5,
        **SHAPE,
    )
    one = config.model_copy(update={"num_hidden_layers": 1, "layer_types": ("sliding_attention",)})
    model = Encoder(one)
    model.initialise(torch.Generator().manual_seed(0))
    ids = torch.randint(0, 40, (1, 15))
    embedded = model["norm"](model["word"](ids)).detach().requires_grad_()
    view = model._view("sliding_attention", {}, torch.arange(15)[None], embedded)
    layer = model.get_submodule("model.layers.0")
    layer(embedded, view)[0, 7].sum().backward()
    assert embedded.grad is not None
    touched = embedded.grad[0].abs().sum(-1).nonzero().flatten().tolist()
    assert touched == list(range(7 - reach, 8 + reach))


def test_norms_have_a_bias_only_where_asked():
    plain = EncoderConfig(family="modernbert", **SHAPE)
    assert modern_norm(plain).bias is None
    assert modern_norm(plain.model_copy(update={"norm_bias": True})).bias is not None
