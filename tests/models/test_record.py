import pytest
import torch
import transformers

from danlu.core.errors import ConfigError
from danlu.models import auto
from danlu.models.record import attention_maps
from tests.models.shapes import DECODERS, HERE, config_of
from tests.models.test_anatomy import CLASSES


@pytest.fixture
def pair(request: pytest.FixtureRequest, tmp_path):
    """The same weights, ours and theirs, through a saved folder."""
    config = config_of(request.param)
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    made._attn_implementation = "eager"
    torch.manual_seed(0)
    kind = getattr(transformers, CLASSES.get(made.model_type, "AutoModelForCausalLM"))
    theirs = kind.from_config(made) if hasattr(kind, "from_config") else kind(made)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15 if made.model_type == "t5" else 0.3)  # T5 does not divide by the root
    theirs.save_pretrained(tmp_path)
    return auto.load(tmp_path), theirs.eval(), made.model_type


@pytest.mark.parametrize("pair", HERE, indirect=True)
def test_weights_are_those_of_transformers(pair):
    ours, theirs, kind = pair
    ids = torch.randint(3, 61, (2, 40), generator=torch.Generator().manual_seed(0))
    more = {"decoder_input_ids": ids[:, :9]} if kind == "t5" else {}
    with torch.no_grad():
        told = theirs(input_ids=ids, output_attentions=True, **more)
    if kind == "t5":
        inside = [map_ for both in zip(told.decoder_attentions, told.cross_attentions, strict=True) for map_ in both]
        expected = [*told.encoder_attentions, *inside]
    else:
        expected = list(told.attentions)
    found = attention_maps(ours, {"input_ids": ids, **more})
    assert len(found) == len(expected)
    for seen, weights in zip(found, expected, strict=True):
        assert (seen.weights - weights).abs().max() <= 1e-5
        torch.testing.assert_close(seen.weights.sum(-1), torch.ones(seen.weights.shape[:-1]))
    assert max(float((seen.weights[:, 0] - seen.weights[:, 1]).abs().max()) for seen in found) > 0.05


@pytest.mark.parametrize("pair", DECODERS[:1], indirect=True)
def test_places_are_named_and_nothing_stays_behind(pair):
    ours, _, _ = pair
    ids = torch.randint(3, 61, (1, 8))
    with torch.no_grad():
        expected = ours({"input_ids": ids})
    found = attention_maps(ours, {"input_ids": ids})
    assert [seen.place for seen in found] == [f"model.layers.{layer}.self_attn" for layer in range(3)]
    assert found[0].weights.shape == (1, 4, 8, 8)  # a map for each query head, also where keys are shared
    assert not found[0].weights.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in ours.modules())
    with torch.no_grad():
        torch.testing.assert_close(ours({"input_ids": ids}), expected)


@pytest.mark.parametrize("pair", DECODERS[:1], indirect=True)
def test_what_fails_inside_leaves_no_hooks(pair):
    ours, _, _ = pair
    with pytest.raises(IndexError):
        attention_maps(ours, {"input_ids": torch.tensor([[1000]])})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in ours.modules())


@pytest.mark.parametrize("pair", DECODERS[:1], indirect=True)
def test_a_model_that_does_not_attend_is_told_about(pair, monkeypatch: pytest.MonkeyPatch):
    ours, _, _ = pair
    monkeypatch.setattr(type(ours), "hidden", lambda self, batch: None)
    with pytest.raises(ConfigError, match=r"attention of llama|llama 的注意力"):
        attention_maps(ours, {"input_ids": torch.tensor([[1]])})
