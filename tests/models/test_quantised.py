import pytest
import torch

from danlu.core.errors import FolderError
from danlu.core.folder import Lineage
from danlu.models import auto
from danlu.models.quantised import INT8_CONFIG, Int8Linear, is_quantisable, prepare_quantised
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
