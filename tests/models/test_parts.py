import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN

from danlu.core.errors import ConfigError
from danlu.models.parts import ACTIVATIONS, Parts, activation_of, graft, mix_heads, start_normal
from danlu.models.surgery import replace
from danlu.ops.attention import additive


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_transformers(name):
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(activation_of(name)(x), ACT2FN[name](x), atol=1e-6, rtol=1e-6)


def test_an_unknown_activation_is_named_with_its_setting():
    with pytest.raises(ConfigError, match="classifier_activation 'swoosh'"):
        activation_of("swoosh", "classifier_activation")


def test_graft_makes_the_way_and_keeps_what_stands_there():
    root = nn.Module()
    graft(root, "a.b.one", nn.Linear(2, 3))
    graft(root, "a.b.two", nn.Parameter(torch.zeros(4)))
    graft(root, "a.c", nn.Linear(3, 1, bias=False))
    assert list(root.state_dict()) == ["a.b.two", "a.b.one.weight", "a.b.one.bias", "a.c.weight"]


def test_parts_are_found_by_role_also_after_surgery():
    def layer(places: dict[str, str]) -> Parts:
        torch.manual_seed(0)
        return Parts(places, {"query": nn.Linear(2, 2), "out": nn.Linear(2, 2)})

    one = layer({"query": "attention.self.query", "out": "attention.output.dense", "key": "unused"})
    other = layer({"query": "q_lin", "out": "out_lin"})
    x = torch.randn(3, 2)
    assert torch.equal(one["query"](x), other["query"](x))
    assert "key" not in one
    replace(one, lambda name, _: name.endswith("query"), lambda *_: nn.Identity())
    assert one["query"](x) is x


def test_mix_heads_without_dropout_is_attention():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 5, 8)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(mix_heads(q, k, v, None, causal=True), expected)


@pytest.mark.parametrize("causal", [True, False])
def test_mix_heads_drops_weights_and_keeps_their_mean(causal):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    whole = mix_heads(q, k, v, None, causal=causal)
    drawn = torch.stack([mix_heads(q, k, v, None, causal=causal, dropout=0.25) for _ in range(4000)])
    assert (drawn[0] - drawn[1]).abs().max() > 0.1
    assert (drawn.mean(0) - whole).abs().max() < 0.1
    # each weight is 0 or grown by 1 / (1 - 0.25): with values that are one-hot the weights themselves are told
    eye = torch.eye(5).expand(1, 2, 5, 5)
    weights = mix_heads(q, k, eye, None, causal=causal)
    kept = mix_heads(q, k, eye, None, causal=causal, dropout=0.25)
    near = torch.isclose(kept, weights / 0.75, atol=1e-6) | (kept == 0)
    assert near.all()


def test_mix_heads_honours_a_mask_under_dropout():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 4, 8)
    mask = additive(torch.tensor([True, True, False, False]).expand(4, 4), torch.float32)
    poisoned = v.clone()
    poisoned[:, :, 2:] = 1e6
    assert mix_heads(q, k, poisoned, mask, dropout=0.5).abs().max() < 100


def test_start_normal():
    model = nn.Sequential(nn.Linear(200, 300), nn.LayerNorm(300), nn.Linear(300, 200))
    start_normal(model, torch.Generator().manual_seed(0), ("2.weight",), depth=8)
    assert model[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model[2].weight.std().item() == pytest.approx(0.005, rel=0.05)
    assert (model[1].weight == 1).all()
    assert not any(bias.any() for bias in (model[0].bias, model[1].bias))
