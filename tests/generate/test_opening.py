import pytest
import torch

from danlu.compress import int8
from danlu.core.errors import ConfigError
from danlu.core.folder import Lineage
from danlu.generate import opening
from danlu.generate.engine import Engine
from danlu.generate.opening import EngineConfig, load_model, new_paged, page_count
from danlu.generate.params import SamplingParams
from danlu.models import auto, packed
from danlu.models.packed import PackedDecoder
from tests.conftest import tiny_decoder


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_weights_are_packed_when_asked_for(tmp_path, bits, tokenizer):
    model = tiny_decoder(tokenizer.vocab_size, hidden_size=64)
    auto.save(model, tmp_path / "model", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    engine = Engine.open(tmp_path / "model", EngineConfig(weights=bits))
    assert isinstance(engine.model, PackedDecoder)
    assert engine.model.dtype_name == bits
    assert engine.generate(["春"], SamplingParams(max_tokens=5))[0].ids


def test_as_stored_unless_told_otherwise(folder):
    assert load_model(folder, EngineConfig()).dtype_name == "float32"
    assert load_model(folder, EngineConfig(dtype="bf16")).dtype_name == "bfloat16"
    with pytest.raises(ConfigError, match="fp7"):
        load_model(folder, EngineConfig(dtype="fp7"))


def test_the_cache_is_as_large_as_told_or_as_the_model_can_use(tokenizer):
    model = tiny_decoder(50, max_position_embeddings=64)
    assert page_count(model, EngineConfig(cache_tokens=100)) == 7
    assert page_count(model, EngineConfig(max_rows=2)) == 2 * 64 // 16 + 1
    assert page_count(model, EngineConfig(max_rows=10**6)) <= 32768 // 16 + 1


def test_pages_have_the_models_shape_and_precision():
    model = tiny_decoder(50).to(torch.bfloat16)
    cache = new_paged(model, 3)
    kept = model.new_cache(1, 1).keys
    assert cache.keys.dtype == torch.bfloat16
    assert cache.keys.shape == (kept.shape[0], 3, kept.shape[2], kept.shape[4], 16)


@pytest.fixture
def int8_folder(tmp_path, tokenizer):
    auto.save(
        tiny_decoder(tokenizer.vocab_size, hidden_size=64),
        tmp_path / "f",
        lineage=Lineage(verb="test"),
        save_tokenizer=tokenizer.save,
    )
    int8.run(int8.Config(base=tmp_path / "f", out=tmp_path / "q"))
    return next((tmp_path / "q").rglob("config.json")).parent


def test_what_is_stored_in_8_bits_is_packed_as_it_is(int8_folder):
    model = load_model(int8_folder, EngineConfig())
    assert isinstance(model, PackedDecoder)
    ids = {"input_ids": torch.randint(0, 50, (1, 20))}
    told, wanted = model(ids), auto.load(int8_folder)(ids)
    assert (told - wanted).square().mean().sqrt() < 0.03 * wanted.square().mean().sqrt()
    assert not isinstance(load_model(int8_folder, EngineConfig(weights="float")), PackedDecoder)
    assert load_model(int8_folder, EngineConfig(dtype="fp32")).dtype_name == "float32"


def test_without_kernels_it_says_so_once_and_computes_in_float(int8_folder, monkeypatch, capsys):
    for module in (opening, packed.kernels):
        monkeypatch.setattr(module, "kernel_fault", lambda: "no compiler")
    opening._say_once.cache_clear()
    for _ in range(2):
        assert not isinstance(load_model(int8_folder, EngineConfig(weights="int8")), PackedDecoder)
    assert capsys.readouterr().err.count("no compiler") == 1


def test_what_cannot_be_packed_is_refused_when_asked_for_and_float_otherwise(folder):
    with pytest.raises(ConfigError, match="width 8|宽度为 8"):
        load_model(folder, EngineConfig(weights="int4"))
