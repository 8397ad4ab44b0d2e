import json
from pathlib import Path

import pytest
import torch
import transformers

from danlu.core.errors import ConfigError, FolderError
from danlu.models.anatomy import PARTS, Look, dissect, examine, open_anatomy
from tests.models.shapes import HERE, built, config_of

CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
    "t5": "T5ForConditionalGeneration",
}


def theirs(name: str) -> torch.nn.Module:
    config = config_of(name)
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    kind = getattr(transformers, CLASSES.get(made.model_type, "AutoModelForCausalLM"))
    with torch.device("meta"):
        return kind.from_config(made) if hasattr(kind, "from_config") else kind(made)


@pytest.mark.parametrize("name", HERE)
def test_counts_are_those_of_transformers(name: str):
    anatomy = dissect(config_of(name))
    assert anatomy.total == sum(parameter.numel() for parameter in theirs(name).parameters())
    assert sum(anatomy.parts.values()) == anatomy.total
    assert set(anatomy.parts) <= set(PARTS)


def test_parts_by_hand():
    told = dissect(config_of("llama"))
    layer = 32 * 32 * 2 + 32 * 16 * 2  # q and o are 32 x 32; k and v, of 2 heads, 16 x 32
    expected = {"embedding": 61 * 32, "attention": 3 * layer, "mlp": 3 * 3 * 32 * 48, "norms": 7 * 32, "head": 61 * 32}
    assert told.parts == expected
    assert told.active == expected
    assert told.output == 61 * 32
    assert told.in_layers == 3 * (layer + 3 * 32 * 48)
    assert told.tensors == 3 + 3 * 9
    shape = told.shape
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim) == (3, 32, 4, 2, 8)
    assert shape.gated
    assert shape.rms
    assert not shape.tied
    assert shape.looks == (Look(True),) * 3


def test_a_shared_embedding_counts_once():
    told = dissect(config_of("llama tied"))
    assert "head" not in told.parts
    assert told.output == 61 * 32
    assert told.shape.tied


@pytest.mark.parametrize(("name", "experts", "wide"), [("mixtral", 4, 48), ("qwen3_moe", 8, 24)])
def test_a_token_meets_the_chosen_experts_only(name: str, experts: int, wide: int):
    told = dissect(config_of(name))
    sparse = 2 if name == "qwen3_moe" else 3  # the other layer of qwen3_moe is dense
    assert told.parts["experts"] == sparse * experts * 3 * 32 * wide
    assert told.active["experts"] == sparse * 2 * 3 * 32 * wide
    assert told.parts["router"] == told.active["router"] == sparse * experts * 32
    assert told.total - told.total_active == told.parts["experts"] - told.active["experts"]
    shape = told.shape
    assert (shape.sparse, shape.experts, shape.chosen, shape.expert_inner) == (sparse, experts, 2, wide)
    assert shape.gated


def test_who_sees_whom():
    assert dissect(config_of("mistral")).shape.looks == (Look(True, 20),) * 3
    assert [look.window for look in dissect(config_of("gemma3_text")).shape.looks] == [20] * 5 + [None, 20]
    assert dissect(config_of("qwen2")).shape.looks == (Look(True),) * 3


def test_who_sees_whom_in_encoders():
    told = dissect(config_of("bert")).shape
    assert told.looks == (Look(False),) * 3
    assert not told.gated
    assert not told.rms
    modern = dissect(config_of("modernbert")).shape
    assert [look.window for look in modern.looks] == [None, 17, 17]
    assert modern.gated


def test_who_sees_whom_in_an_encoder_decoder():
    told = dissect(config_of("t5")).shape
    assert told.looks == (Look(False),) * 2 + (Look(True), Look(False)) * 3
    assert told.layers == 5
    assert told.encoder_decoder
    assert told.gated


@pytest.mark.parametrize("name", HERE)
def test_matrices_and_tensors_are_all_there(name: str):
    model = built(name)
    told = examine(model)
    assert told == dissect(config_of(name))
    assert told.tensors == len(list(model.parameters()))
    flat = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    looked_up = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding))
    own_output = told.output if not told.shape.tied else 0
    assert sum(matrix.size for matrix in told.matrices) == told.total - flat - looked_up - own_output


def test_a_folder_is_opened_without_its_weights(folder: Path, model):
    expected = examine(model)
    (folder / "model.safetensors").unlink()
    assert open_anatomy(folder) == expected
    assert open_anatomy(folder / "config.json") == expected


def test_a_gguf_file_is_opened(folder: Path, model, tmp_path: Path):
    pytest.importorskip("gguf")
    from danlu.export import gguf as export

    export.run(export.Config(folder=folder, out=tmp_path / "model.gguf"))
    told = open_anatomy(tmp_path / "model.gguf")
    assert told.parts == examine(model).parts
    assert told.shape == examine(model).shape


@pytest.mark.parametrize("name", ["num_local_experts", "num_experts"])
def test_more_modules_than_memory_are_refused_before_they_are_made(name: str):
    vast = {**config_of("mixtral"), "num_hidden_layers": 4000, name: 4000}
    if name == "num_experts":
        vast.pop("num_local_experts")
    with pytest.raises(ConfigError, match=r"4,000"):
        dissect(vast)


def test_what_cannot_be_opened(tmp_path: Path):
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "other.json").write_text(json.dumps({"model_type": "mamba"}))
    for name, told in (("list.json", "list.json"), ("other.json", "mamba"), ("absent", "absent")):
        with pytest.raises((FolderError, ConfigError), match=told):
            open_anatomy(tmp_path / name)
