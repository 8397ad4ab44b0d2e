import pytest
import torch
from transformers import AutoModelForCausalLM

from danlu.compress.int8 import Config, run
from danlu.core.errors import ConfigError
from danlu.core.folder import Lineage, ModelFolder
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.models.quantised import Int8Linear


@pytest.fixture
def quantised(folder, tmp_path):
    return run(Config(base=folder, out=tmp_path / "q"))


def test_a_folder_that_loads_again_smaller_and_close(folder, quantised):
    before, after = ModelFolder.open(folder), ModelFolder.open(quantised)
    assert after.weight_bytes < before.weight_bytes
    assert after.lineage.verb == "int8"
    assert after.lineage.parent == before.hash
    assert after.generation == before.generation
    small, whole = auto.load(quantised, dtype=torch.float32), auto.load(folder)
    assert isinstance(small.model.layers[0].self_attn.q_proj, Int8Linear)
    ids = torch.randint(0, whole.config.vocab_size, (2, 9))
    with torch.no_grad():
        gap = (small({"input_ids": ids}) - whole({"input_ids": ids})).norm() / whole({"input_ids": ids}).norm()
    assert gap < 0.03


def test_transformers_reads_it_too(quantised):
    theirs = AutoModelForCausalLM.from_pretrained(quantised, dtype=torch.float32)
    mine = auto.load(quantised, dtype=torch.float32)
    ids = torch.randint(0, mine.config.vocab_size, (1, 9))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, mine({"input_ids": ids}), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_layers_with_biases_are_int8_too(family, tokenizer, tmp_path):
    """q, k and v of qwen2, every layer of a llama that says so: what quantization_config tells is what is there."""
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"intermediate_size": 96, "head_dim": 16, "max_position_embeddings": 64, "tie_word_embeddings": False}
    biased = {"attention_bias": True, "mlp_bias": True} if family == "llama" else {}
    model = auto.build({"model_type": family, "vocab_size": tokenizer.vocab_size, **shape, **biased})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    auto.save(model.eval(), tmp_path / "m", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    path = run(Config(base=tmp_path / "m", out=tmp_path / "q", rest="fp32"))
    mine = auto.load(path)
    kinds = {name: type(module) for name, module in mine.named_modules() if name.endswith("_proj")}
    assert set(kinds.values()) == {Int8Linear}
    assert any(module.bias is not None for module in mine.modules() if isinstance(module, Int8Linear))
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ids = torch.randint(0, tokenizer.vocab_size, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, mine({"input_ids": ids}), atol=1e-3, rtol=1e-3)


def test_the_engine_runs_it_and_a_second_call_does_nothing(folder, quantised, tmp_path):
    written = (quantised / "model.safetensors").stat().st_mtime_ns
    assert run(Config(base=folder, out=tmp_path / "q")) == quantised
    assert (quantised / "model.safetensors").stat().st_mtime_ns == written
    answer = Engine.open(quantised).generate(["春"], SamplingParams(max_tokens=5, seed=0))[0]
    assert answer.ids


def test_the_rest_may_stay_as_precise_as_it_was(folder, tmp_path):
    path = run(Config(base=folder, out=tmp_path / "q", rest="fp32"))
    kept, whole = auto.load(path), auto.load(folder)
    assert torch.equal(kept.model.embed_tokens.weight, whole.model.embed_tokens.weight)
    assert kept.model.layers[0].mlp.up_proj.weight.dtype == torch.int8
    half = auto.load(run(Config(base=folder, out=tmp_path / "half")))
    assert half.model.embed_tokens.weight.dtype == torch.bfloat16


def test_what_was_measured_is_written_down(folder, quantised, capsys):
    measured = ModelFolder.open(quantised).lineage.measured
    layers = [name for name, _ in auto.load(folder).named_parameters() if name.endswith("_proj.weight")]
    assert measured["layers"] == len(layers)
    ratio = ModelFolder.open(quantised).weight_bytes / ModelFolder.open(folder).weight_bytes
    assert measured["size_ratio"] == pytest.approx(ratio, abs=1e-4)


def test_quantising_twice_is_told(quantised, tmp_path):
    with pytest.raises(ConfigError, match="no module"):
        run(Config(base=quantised, out=tmp_path / "again"))
    assert not (tmp_path / "again" / "model").exists()
