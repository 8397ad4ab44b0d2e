import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from danlu.core.errors import ConfigError, FolderError
from danlu.core.folder import Lineage
from danlu.models import auto
from danlu.models.adapters import AdapterBank, read_adapter
from danlu.models.packed import PackedDecoder
from tests.conftest import tiny_decoder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    auto.save(tiny_decoder(60, hidden_size=64), folder, lineage=Lineage(verb="test"))
    return folder


def lora(base, path, seed: int, **settings):
    """An adapter that peft made and saved, and the model it makes."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj", "down_proj"], **settings)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(path)
    return model


@torch.no_grad()
def test_each_run_of_tokens_is_what_peft_says_with_its_adapter(base, tmp_path):
    theirs = {"a": lora(base, tmp_path / "a", 1), "b": lora(base, tmp_path / "b", 2, use_rslora=True)}
    plain = AutoModelForCausalLM.from_pretrained(base)
    mine = auto.load(base)
    bank = AdapterBank(mine, {name: read_adapter(tmp_path / name) for name in theirs})
    ids = torch.randint(0, 60, (4, 7))
    batch = {
        "input_ids": ids.view(1, -1),
        "position_ids": torch.arange(7).repeat(4)[None],
        "segment_ids": torch.arange(1, 5).repeat_interleave(7)[None],
    }
    with bank.select([("a", 7), (None, 7), ("b", 7), ("a", 7)]):
        told = mine(batch)[0].view(4, 7, -1)
    torch.testing.assert_close(mine({"input_ids": ids[:1]}), plain(ids[:1]).logits, atol=1e-5, rtol=1e-5)
    wanted = [theirs["a"](ids[:1]), plain(ids[1:2]), theirs["b"](ids[2:3]), theirs["a"](ids[3:])]
    for row, answer in enumerate(wanted):
        torch.testing.assert_close(told[row], answer.logits[0], atol=1e-5, rtol=1e-5)
    assert (wanted[0].logits - plain(ids[:1]).logits).abs().max() > 0.1


def test_what_is_no_lora_folder_is_named(base, tmp_path):
    with pytest.raises(FolderError, match="adapter_config"):
        read_adapter(base)
    lora(base, tmp_path / "dora", 1, use_dora=True)
    with pytest.raises(FolderError, match="use_dora"):
        read_adapter(tmp_path / "dora")
    lora(base, tmp_path / "bad", 1)
    config = json.loads((tmp_path / "bad" / "adapter_config.json").read_text())
    (tmp_path / "bad" / "adapter_config.json").write_text(json.dumps(config | {"r": 0}))
    with pytest.raises(FolderError, match="r 0"):
        read_adapter(tmp_path / "bad")


def test_an_adapter_of_another_model_and_packed_weights_are_refused(base, tmp_path):
    lora(base, tmp_path / "a", 1)
    adapter = read_adapter(tmp_path / "a")
    with pytest.raises(ConfigError, match="adapter a does not fit|适配器 a"):
        AdapterBank(tiny_decoder(60), {"a": adapter})
    with pytest.raises(ConfigError, match="packed|打包"):
        AdapterBank(PackedDecoder(auto.load(base), "int8"), {"a": adapter})
