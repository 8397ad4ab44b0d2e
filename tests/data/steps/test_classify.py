"""Rows below the classifier's threshold are dropped with the reason and the score."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from danlu.core.errors import ConfigError, FolderError
from danlu.data.classifier import Classifier, fit, hash_features
from danlu.data.step import Drop, make_step, step_config

GOOD = [f"The river {word} slowly through the old town." for word in ("runs", "winds", "flows", "goes", "moves")]
BAD = [f"click {word} free win prize $$$" for word in ("here", "now", "this", "fast", "today")]


@pytest.fixture
def model(tmp_path: Path) -> str:
    labels = np.asarray([1] * len(GOOD) + [0] * len(BAD))
    weight, bias = fit(hash_features(GOOD + BAD, 12), labels, 2, 12)
    Classifier(weight, bias, ("bad", "good"), "good", 0.5).save(tmp_path / "model")
    return str(tmp_path / "model")


def test_keep_and_drop(model: str):
    step = make_step("classify", step_config("classify", {"model": model, "reason": "spam"}))
    row = {"id": "1", "source": "s", "text": "The river turns slowly through the green valley."}
    assert step.apply(row, Counter()) is row
    dropped = step.apply({**row, "text": "click below free prize $$$"}, Counter())
    assert isinstance(dropped, Drop)
    assert dropped.reason == "spam"
    assert 0 <= float(dropped.detail) < 0.5


def test_threshold_and_column(model: str):
    row = {"id": "1", "source": "s", "text": GOOD[0]}
    step = make_step("classify", step_config("classify", {"model": model, "column": "quality"}))
    assert step.apply(row, Counter())["quality"] > 0.5
    strict = make_step("classify", step_config("classify", {"model": model, "threshold": 1}))
    assert isinstance(strict.apply(row, Counter()), Drop)


def test_faults(tmp_path: Path):
    with pytest.raises(FolderError, match="absent"):
        make_step("classify", step_config("classify", {"model": str(tmp_path / "absent")}))
    with pytest.raises(ConfigError, match="reason"):
        step_config("classify", {"model": "x", "reason": "Not Snake"})
