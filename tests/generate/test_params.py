import pytest
from pydantic import ValidationError

from danlu.core.errors import ConfigError
from danlu.generate.params import SamplingParams


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 2},
        {"stop": ("",)},
        {"repetition_penalty": 0},
    ],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SamplingParams(**wrong)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        SamplingParams.parse({"temprature": 1})
    assert "temperature" in caught.value.do
