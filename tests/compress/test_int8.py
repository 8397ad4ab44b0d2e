import pytest
import torch
from transformers import AutoModelForCausalLM

from danlu.compress.int8 import Config, run
from danlu.core.errors import ConfigError
from danlu.core.folder import ModelFolder
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
