from typing import Any

import pytest
from pydantic import ValidationError

from danlu.core.errors import ConfigError
from danlu.core.flags import parse
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
        {"typical_p": 0},
        {"typical_p": 1.1},
        {"stop": ("",)},
        {"repetition_penalty": 0},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"logit_bias": {"5": 101}},
        {"logit_bias": {"-5": 1}},
        {"logit_bias": {"five": 1}},
        {"logit_bias": [5]},
        {"bad_words": ("",)},
        {"stop_token_ids": (-1,)},
        {"logprobs": -1},
        {"min_tokens": -1},
        {"min_tokens": 257},
        {"min_tokens": 6, "max_tokens": 5},
        {"n": 0},
        {"n": 2, "temperature": 0},
        {"best_of": 2, "temperature": 0},
        {"best_of": 2, "n": 3},
    ],
)
def test_impossible_values_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SamplingParams(**wrong)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        SamplingParams.parse({"temprature": 1})
    assert "temperature" in caught.value.do


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"min_tokens": 6, "max_tokens": 5}, "c: min_tokens: is above max_tokens, 5 (got 6)"),
        ({"best_of": 2, "n": 3}, "c: best_of: is below n, 3: there are not so many to give (got 2)"),
        ({"logit_bias": {"a{b": 1}}, "c: logit_bias: 'a{b' is no token id (got {'a{b': 1})"),
    ],
)
def test_contradictions_are_told_in_one_line(wrong: dict[str, Any], told: str):
    with pytest.raises(ConfigError) as caught:
        SamplingParams.parse(wrong, "c")
    assert caught.value.what == told


def test_the_defaults_change_nothing_and_n_may_be_one_at_temperature_zero():
    params = SamplingParams()
    assert (params.n, params.best_of, params.logprobs, params.min_tokens, params.logit_bias) == (1, None, None, 0, {})
    assert (params.typical_p, params.presence_penalty, params.frequency_penalty) == (1.0, 0.0, 0.0)
    assert SamplingParams(temperature=0, n=1, best_of=1).n == 1
    assert SamplingParams(n=2, best_of=2).best_of == 2


def test_a_bias_has_ids_from_python_json_and_flags():
    wanted = {5: -100.0, 12: 1.5}
    params = SamplingParams(logit_bias={5: -100, 12: 1.5})  # pyright: ignore[reportArgumentType]
    assert params.biases == wanted
    assert SamplingParams.model_validate_json(params.model_dump_json()).biases == wanted
    assert SamplingParams.parse(params.plain()).biases == wanted
    flags = ["--logit-bias.5", "-100", "--logit-bias.12", "1.5", "--stop-token-ids", "3", "--bad-words", "山"]
    told = parse(SamplingParams, flags, "try", "", "")
    assert told is not None
    assert (told.biases, told.stop_token_ids, told.bad_words) == (wanted, (3,), ("山",))
