"""Loading takes little more than the weights, imports no compiler, and refuses what does not fit before reading it."""

import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from danlu.core.errors import FolderError
from danlu.core.folder import Stored
from danlu.models import auto
from danlu.models.loading import (
    check_counts,
    check_dtypes,
    check_types,
    common_dtype,
    fill_tied,
    weightless,
)
from tests.conftest import tiny_decoder

MEASURE = """
import gc, importlib, json, sys, torch
from danlu.models import auto
for name in ("danlu.models.gguf", "danlu.models.decoder", "safetensors.torch"):
    importlib.import_module(name)
path, dtype = sys.argv[1], getattr(torch, sys.argv[2])
def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))
torch.ones(64, 64) @ torch.ones(64, 64)
gc.collect()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the highest mark begins anew
before = status("VmRSS")
model = auto.load(path, dtype=dtype)
sums = [float(weight.sum()) for weight in model.parameters()]  # mapped weights count once they are used
print(json.dumps({
    "weights": sum(weight.nbytes for weight in model.parameters()), "peak": status("VmHWM") - before,
    "dtypes": sorted({str(weight.dtype) for weight in model.parameters()}), "sum": sum(sums),
    "compiler": "torch._dynamo" in sys.modules,
}))
"""
SHAPE = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 2048}


def measure(path: Path, dtype: str) -> dict:
    """In a process of its own: bytes of the weights, and how far the highest resident memory rose."""
    command = [sys.executable, "-c", MEASURE, str(path), dtype]
    told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 54 million weights in bfloat16, all of them 1/64, and the same as a GGUF file in blocks of 8 bits."""
    path = tmp_path_factory.mktemp("large")
    config = {"model_type": "llama", "vocab_size": 60000, "rms_norm_eps": 1e-5, "max_position_embeddings": 64, **SHAPE}
    config |= {"num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True}
    with weightless():
        model = auto.build(config)
    shapes = {name: tensor.shape for name, tensor in auto.state_to_save(model).items()}
    (path / "config.json").write_text(json.dumps(config))
    save_file({name: torch.full(shape, 1 / 64, dtype=torch.bfloat16) for name, shape in shapes.items()}, path / "model.safetensors")  # fmt: skip
    write_gguf(path / "large.gguf", shapes)
    return path


def write_gguf(path: Path, shapes: dict[str, torch.Size]) -> None:
    from danlu.models.gguf import gguf_name

    writer = gguf.GGUFWriter(path, "llama")
    counts = {"vocab_size": 60000, "context_length": 64, "embedding_length": 512, "block_count": 6}
    counts |= {"feed_forward_length": 2048, "attention.head_count": 8, "rope.dimension_count": 64}
    for key, value in counts.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    block = np.frombuffer(np.float16(1 / 64).tobytes() + b"\1" * 32, np.uint8)  # 1/64 times 32 ones
    for name, shape in shapes.items():
        if len(shape) == 1:
            writer.add_tensor(str(gguf_name(name)), np.full(shape, 1 / 64, np.float32))
        else:
            rows = np.tile(block, (shape[0], shape[1] // 32))
            writer.add_tensor(str(gguf_name(name)), rows, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="measured in /proc")
@pytest.mark.parametrize("kind", ["cast", "as stored", "GGUF"])
def test_loading_takes_little_more_than_the_weights(kind: str, large: Path):
    """Highest resident growth of the process, mapped files included: at most 1.15 times the weights."""
    told = measure(large / "large.gguf" if kind == "GGUF" else large, "bfloat16" if kind == "as stored" else "float32")
    assert told["weights"] > (100e6 if kind == "as stored" else 200e6)
    assert told["peak"] <= 1.15 * told["weights"], told
    assert told["peak"] > 0.9 * told["weights"]  # the measure itself sees the weights
    assert told["dtypes"] == ["torch.bfloat16" if kind == "as stored" else "torch.float32"]
    assert not told["compiler"]
    if kind != "as stored":
        assert told["sum"] == pytest.approx(told["weights"] / 4 / 64, rel=1e-3)


def test_weightless_modules_have_shapes_only():
    with weightless():
        layer = torch.nn.Linear(3, 5)
        table = torch.nn.Embedding(7, 2)
    assert layer.weight.is_meta
    assert layer.bias.is_meta
    assert (layer.weight.shape, table.weight.shape) == ((5, 3), (7, 2))
    assert not torch.nn.Linear(3, 5).weight.is_meta  # over when the block is


@pytest.mark.parametrize("key", ["num_hidden_layers", "num_experts", "n_layer"])
def test_more_modules_than_tensors(key: str):
    check_counts({key: 20}, 20, "here")
    with pytest.raises(FolderError, match=key):
        check_counts({key: 10**12}, 20, "here")


@pytest.mark.parametrize(
    ("given", "written"),
    [(True, 1), (1, True), ("4", 4), ([4], 4), (4, [4]), ({"a": 1}, 4), (4, {"a": 1}), (0.5, "gelu")],
)
def test_a_setting_of_another_type_is_named(given: object, written: object):
    check_types({"key": written, "other": given}, {"key": written}, "here")
    check_types({"key": None}, {"key": written}, "here")
    with pytest.raises(FolderError, match="key is a"):
        check_types({"key": given}, {"key": written}, "here")


def test_types_within_rope_parameters():
    written = {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}
    check_types({"rope_parameters": {"rope_theta": 10000}}, written, "here")
    with pytest.raises(FolderError, match="rope_parameters: rope_theta"):
        check_types({"rope_parameters": {"rope_theta": True}}, written, "here")


def test_dtypes_that_do_not_compute_are_named():
    model = tiny_decoder(20)
    stored = {name: Stored(tuple(tensor.shape), tensor.dtype) for name, tensor in model.state_dict().items()}
    check_dtypes(model, stored, "here")
    stored["model.norm.weight"] = Stored((32,), torch.int64)
    with pytest.raises(FolderError, match=r"model\.norm\.weight int64"):
        check_dtypes(model, stored, "here")


def test_mixed_dtypes_meet_in_one_that_holds_both():
    model = tiny_decoder(20)
    stored = {name: Stored(tuple(tensor.shape), torch.bfloat16) for name, tensor in model.state_dict().items()}
    assert common_dtype(model, stored) is None
    stored["model.norm.weight"] = Stored((32,), torch.float16)
    assert common_dtype(model, stored) == torch.float32


def test_tied_tensors_that_differ_are_refused():
    model = tiny_decoder(20)
    state = dict(auto.state_to_save(model))
    fill_tied(model, state, "here")
    assert state["lm_head.weight"] is state["model.embed_tokens.weight"]
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    fill_tied(model, state, "here")
    state["lm_head.weight"] += 1
    with pytest.raises(FolderError, match="tie_word_embeddings"):
        fill_tied(model, state, "here")
