import pytest
from pydantic import ValidationError

from danlu.core.errors import ConfigError
from danlu.train.config import TrainConfig


def test_default_rate_depends_on_the_optimiser():
    assert TrainConfig().peak_lr == 1e-2
    assert TrainConfig(optimizer="adamw").peak_lr == 1e-3
    assert TrainConfig(optimizer="adamw", lr=0.5).peak_lr == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"lr": -1},
        {"floor": 2},
        {"decay": 0},
        {"momentum": 1.0},
        {"batch_size": 0},
        {"seed": -1},
        {"betas": (0.9, 1.0)},
    ],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        TrainConfig.parse({"batchsize": 3}, "my.yaml")
    assert "batchsize" in caught.value.what
    assert "batch_size" in caught.value.do
