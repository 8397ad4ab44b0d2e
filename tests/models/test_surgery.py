import pytest
import torch
from torch import nn

from danlu.core.errors import ConfigError
from danlu.models.surgery import replace
from tests.conftest import tiny_decoder


def test_replaces_what_matches_and_names_it():
    model = tiny_decoder(20)
    names = replace(model, lambda name, _: name.endswith("mlp"), lambda *_: nn.Identity())
    assert names == ["model.layers.0.mlp", "model.layers.1.mlp"]
    assert isinstance(model.model.layers[1].mlp, nn.Identity)
    model({"input_ids": torch.zeros(1, 3, dtype=torch.long)})


def test_nothing_matched_is_an_error_that_shows_what_there_is():
    with pytest.raises(ConfigError) as caught:
        replace(tiny_decoder(20), lambda _, module: isinstance(module, nn.Conv1d), lambda *_: nn.Identity())
    assert "Linear" in caught.value.do
