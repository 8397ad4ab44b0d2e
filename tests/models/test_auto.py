import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from danlu.core.errors import DanluError, FolderError
from danlu.core.folder import Lineage, ModelFolder
from danlu.models import auto
from tests.conftest import tiny_decoder


def save_plain(path, tensors, config):
    """A folder without danlu.json, as from elsewhere."""
    path.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))


@pytest.fixture
def parts():
    model = tiny_decoder(40)
    return dict(auto.state_to_save(model)), model.hf_config()


def test_round_trip_is_exact(tmp_path):
    model = tiny_decoder(40)
    auto.save(model, tmp_path / "m", lineage=Lineage(verb="test"))
    again = auto.load(tmp_path / "m")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert again.lm_head.weight is again.model.embed_tokens.weight


def test_shards_are_read_as_one(tmp_path, monkeypatch):
    from danlu.core import folder as module

    monkeypatch.setattr(module, "_SHARD_BYTES", 10_000)
    model = tiny_decoder(40)
    auto.save(model, tmp_path / "m", lineage=Lineage(verb="test"))
    assert len(ModelFolder.open(tmp_path / "m").weight_files()) > 2
    torch.testing.assert_close(auto.load(tmp_path / "m").state_dict(), model.state_dict())
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    ids = torch.randint(0, 40, (1, 5))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model({"input_ids": ids}), atol=1e-5, rtol=1e-4)


def test_every_misfit_is_named_at_once(tmp_path, parts):
    tensors, config = parts
    tensors["surplus.weight"] = torch.zeros(2)
    del tensors["model.norm.weight"]
    tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].T
    save_plain(tmp_path / "m", tensors, config)
    with pytest.raises(FolderError) as caught:
        auto.load(tmp_path / "m")
    for name in ("surplus.weight", "model.norm.weight", "layers.0.mlp.up_proj"):
        assert name in caught.value.what


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mamba"},
        {"sliding_window": 8},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}},
        {"hidden_size": "wide"},
        {"quantization_config": {"quant_method": "gptq"}},
    ],
)
def test_what_is_not_implemented_is_refused_by_name(tmp_path, parts, change):
    tensors, config = parts
    save_plain(tmp_path / "m", tensors, config | change)
    with pytest.raises(DanluError, match="|".join([*change, "gptq", "longrope"])):
        auto.load(tmp_path / "m")


def test_truncated_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(FolderError, match=r"model\.safetensors"):
        auto.load(folder)
    (folder / "danlu.json").unlink()  # without a manifest the file's own header tells
    with pytest.raises(FolderError, match=r"damaged|损坏"):
        auto.load(folder)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_an_error_never_another_model(tmp_path_factory, parts, data):
    tensors, config = parts
    path = tmp_path_factory.mktemp("fuzz") / "m"
    save_plain(path, tensors, config)
    file = path / "model.safetensors"
    content = bytearray(file.read_bytes())
    header = int.from_bytes(content[:8], "little") + 8
    kind = data.draw(st.sampled_from(["cut", "header", "drop"]))
    if kind == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    elif kind == "header":
        content[data.draw(st.integers(0, header - 1))] ^= data.draw(st.integers(1, 255))
    else:
        left = dict(load_file(file))
        del left[data.draw(st.sampled_from(sorted(left)))]
        save_file(left, file)
        content = bytearray(file.read_bytes())
    file.write_bytes(content)
    try:
        loaded = auto.load(path)
    except DanluError:
        return
    # a flipped bit in a space or in metadata may leave the same model; never another one
    torch.testing.assert_close(auto.state_to_save(loaded), tensors)


def test_dtype_is_cast(folder):
    assert auto.load(folder, dtype=torch.bfloat16).model.norm.weight.dtype == torch.bfloat16
