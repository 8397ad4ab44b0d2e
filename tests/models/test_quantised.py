import pytest
import torch
from safetensors.torch import load_file, save_file

from danlu.core.errors import FolderError
from danlu.core.folder import Lineage
from danlu.models import auto
from danlu.models.quantised import INT8_CONFIG, Int8Linear, int8_config, is_quantisable, prepare_quantised
from danlu.models.surgery import replace
from danlu.ops.quant import dequantise
from tests.conftest import tiny_decoder


@pytest.fixture
def quantised():
    model = tiny_decoder(40)
    replace(model, is_quantisable, Int8Linear.replacing)
    return model


def test_equals_a_float_model_with_the_rounded_weights(quantised):
    plain = tiny_decoder(40)
    for name, module in quantised.named_modules():
        if isinstance(module, Int8Linear):
            plain.get_submodule(name).weight.data = dequantise(module.weight, module.weight_scale)
    ids = torch.randint(0, 40, (2, 7))
    with torch.no_grad():
        torch.testing.assert_close(quantised({"input_ids": ids}), plain({"input_ids": ids}), atol=1e-4, rtol=1e-4)


def test_save_and_load_round_trip(quantised, tmp_path):
    auto.save(quantised, tmp_path / "q", lineage=Lineage(verb="int8"), config={"quantization_config": INT8_CONFIG})
    again = auto.load(tmp_path / "q")
    assert isinstance(again.model.layers[0].mlp.up_proj, Int8Linear)
    ids = torch.randint(0, 40, (1, 7))
    with torch.no_grad():
        assert torch.equal(again({"input_ids": ids}), quantised({"input_ids": ids}))


def test_another_quantisation_is_refused():
    with pytest.raises(FolderError, match="gptq"):
        prepare_quantised(tiny_decoder(20), {"quant_method": "gptq"})


def test_what_stays_is_named():
    """The layers that the config does not ignore are exactly those that are int8."""
    plain = tiny_decoder(20)
    assert int8_config(plain) == INT8_CONFIG
    replace(plain, is_quantisable, Int8Linear.replacing)
    assert int8_config(plain) == INT8_CONFIG
    with pytest.raises(FolderError, match="ignore"):
        prepare_quantised(tiny_decoder(20), INT8_CONFIG | {"ignore": []})


@pytest.mark.parametrize("value", ["int8", 8, None, [], {"ignore": None}])
def test_a_quantisation_that_is_no_such_thing(value):
    with pytest.raises(FolderError):
        prepare_quantised(tiny_decoder(20), value)


def test_a_bias_is_added():
    layer = torch.nn.Linear(6, 4)
    small = Int8Linear.replacing("0", layer)
    x = torch.randn(3, 6)
    rounded = dequantise(small.weight, small.weight_scale)
    torch.testing.assert_close(small(x), x @ rounded.T + layer.bias, atol=1e-5, rtol=1e-5)


def test_int8_weights_lie_where_the_kernel_can_read_them(quantised, tmp_path):
    """Wherever the file's header happens to end: at 8 modulo 16 torch's kernel for bf16 would end the process."""
    auto.save(quantised, tmp_path / "q", lineage=Lineage(verb="int8"), config={"quantization_config": INT8_CONFIG})
    (tmp_path / "q" / "danlu.json").unlink()
    file = tmp_path / "q" / "model.safetensors"
    tensors, starts = load_file(file), set()
    for length in range(16):
        save_file(tensors, file, metadata={"note": "x" * length})
        starts.add((8 + int.from_bytes(file.read_bytes()[:8], "little")) % 16)
        again = auto.load(tmp_path / "q", dtype=torch.bfloat16)
        found = [module.weight for module in again.modules() if isinstance(module, Int8Linear)]
        assert not any(weight.data_ptr() % 16 for weight in found)
        assert torch.isfinite(again({"input_ids": torch.randint(0, 40, (1, 7))})).all()
    assert starts == {0, 8}
