"""Every step of the data workshop: pure, deterministic, and the same whatever parts a corpus is cut into."""

import copy
import importlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from danlu.core.config import Config
from danlu.data import prepare
from danlu.data.classifier import Config as ClassifierConfig
from danlu.data.classifier import run as train_classifier
from danlu.data.step import CorpusStep, Drop, RowStep, make_step, step_config, step_names

RECIPES = Path(prepare.__file__).parents[1] / "recipes"
TEXTS = [
    "The old man the boats, and the young man the oars; that is what everybody had said before the flood of 1998. " * 4,
    "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。",
    "<html><body><nav>Home</nav><p>Call 138 0013 8000 or write to li.hua@example.com, she said to him.</p></body></html>",
    "def fold(values):\n    total = 0\n    for value in values:\n        total += value\n    return total\n" * 3,
    "BUY NOW!!!!! ＡＢＣ１２３ \x00\u200b weird\ud800 text \ufffd\ufffd",
    "",
    " \n\n ",
    "同样的段落在两篇文章里都出现，所以第二次出现时应当去掉，这一段写得足够长，可以被认出来。\n\n另一段，各不相同。"
    * 2,
    "。" * 300,
    "a" * 5000,
]


def rows() -> list[dict]:
    found = [{"id": f"s/{n}", "source": "st"[n % 2], "text": text} for n, text in enumerate(TEXTS * 2)]
    said = [{"role": "user", "content": TEXTS[0]}, {"role": "assistant", "content": TEXTS[1]}]
    return [*found, {"id": "s/chat", "source": "s", "messages": said}]


@pytest.fixture(scope="module")
def needed(tmp_path_factory) -> dict[str, dict]:
    """Settings of the steps that cannot do without."""
    folder = tmp_path_factory.mktemp("needed")
    (folder / "words.txt").write_text("oars\n霜\n", encoding="utf-8")
    (folder / "set.jsonl").write_text(json.dumps({"question": TEXTS[0]}), encoding="utf-8")
    for name, text in (("good", TEXTS[0]), ("bad", "BUY cheap pills now cheap pills")):
        lines = [json.dumps({"text": f"{text} {number}"}) for number in range(60)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    told = {"good": [str(folder / "good.jsonl")], "bad": [str(folder / "bad.jsonl")], "out": str(folder / "model")}
    train_classifier(ClassifierConfig.parse(told))
    return {
        "sensitive": {"lists": [str(folder / "words.txt")]},
        "decontaminate": {"sets": [str(folder / "set.jsonl")]},
        "classify": {"model": str(folder / "model")},
    }


def made(name: str, needed: dict[str, dict]) -> RowStep | CorpusStep:
    return make_step(name, step_config(name, needed.get(name)))


NAMES = [name for name in step_names() if name != "semantic"]  # which needs a model; its own test has one


@pytest.mark.parametrize("name", step_names())
def test_a_step_is_documented_and_all_its_settings_are(name):
    module = importlib.import_module(f"danlu.data.steps.{name}")
    assert issubclass(module.Config, Config)
    assert module.__doc__
    assert all(field.description for field in module.Config.model_fields.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_changes_nothing_that_it_was_given_and_does_the_same_again(name, needed):
    step = made(name, needed)
    given = rows()
    before = copy.deepcopy(given)
    results = []
    for one in (step, step, made(name, needed)):
        tally = Counter()
        if isinstance(one, CorpusStep):
            (decision,) = one.decide([one.keys(given)])
            results.append((one.settle(given, decision, tally), tally))
        else:
            results.append(([one.apply(row, tally) for row in given], tally))
        assert given == before
    assert results[0] == results[1] == results[2]
    for row, result in zip(given, results[0][0], strict=True):
        if isinstance(result, Drop):
            assert result.reason.replace("_", "").isalnum()
            assert result.reason == result.reason.lower()
        else:
            for one in result if isinstance(result, list) else [result]:
                assert one["source"] == row["source"]
                assert one["id"].partition("~")[0] == row["id"]
                assert ("text" in one, "messages" in one) == ("text" in row, "messages" in row)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if hasattr(importlib.import_module(f"danlu.data.steps.{name}").Step, "decide")]
)
@pytest.mark.parametrize("cuts", [[], [1], [3, 3, 11], [20]])
def test_a_decision_does_not_depend_on_the_parts(name, cuts, needed):
    step = made(name, needed)
    given = rows()
    whole = step.settle(given, step.decide([step.keys(given)])[0], Counter())
    borders = [0, *cuts, len(given)]
    parts = [given[start:end] for start, end in zip(borders, borders[1:], strict=False)]
    decisions = step.decide([step.keys(part) for part in parts])
    assert len(decisions) == len(parts)
    settled = [
        one
        for part, decision in zip(parts, decisions, strict=True)
        for one in step.settle(part, np.asarray(decision), Counter())
    ]
    assert settled == whole


@pytest.mark.parametrize("file", sorted((RECIPES / "data-prepare").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_recipes_parse(file):
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert prepare.Config.parse({**settings, "out": "x"}, str(file)).named()
