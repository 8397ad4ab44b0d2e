from pathlib import Path

import pytest
from pydantic import PositiveInt

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError
from danlu.core.flags import parse


class Train(Config):
    steps: PositiveInt = doc(10, "optimiser steps", "优化步数")
    rate: float = doc(0.1, "rate", "学习率")


class Verb(Config):
    data: Path = doc(..., "what to read", "读取的数据")
    train: Train = doc(Train(), "the loop", "训练循环")
    names: tuple[str, ...] = doc((), "names", "名字")
    json_: Path | None = doc(None, "where to write", "写到哪里")


class Optional(Config):
    folder: Path = doc(Path("runs"), "where", "位置")


def read(*words: object, verb: str = "some verb") -> Verb:
    config = parse(Verb, list(map(str, words)), verb, "Does it.", "danlu some verb")
    assert config is not None
    return config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text("data: from_file\ntrain: {steps: 5, rate: 0.5}\nnames: [x, y]\njson: a.json\n", encoding="utf-8")
    return path


def test_flags_and_positions():
    assert read("d") == read("--data", "d") == read("--data=d") == Verb(data=Path("d"))
    config = read("d", "--train.steps", 3, "--names", "a", "--names", "b", "--json", "x.json")
    assert (config.train.steps, config.names, config.json_) == (3, ("a", "b"), Path("x.json"))
    assert config.train.rate == 0.1


def test_precedence_is_flag_environment_file_default(file: Path, monkeypatch: pytest.MonkeyPatch):
    assert read("--config", file) == Verb(
        data=Path("from_file"), train=Train(steps=5, rate=0.5), names=("x", "y"), json_=Path("a.json")
    )
    monkeypatch.setenv("DANLU_SOME_VERB_TRAIN_STEPS", "7")
    config = read(f"--config={file}")
    assert (config.train.steps, config.train.rate) == (7, 0.5)
    config = read("--config", file, "--train.steps", 9, "--data", "d")
    assert (config.train.steps, config.data) == (9, Path("d"))
    assert read("d", verb="other").train.steps == 10


def test_no_words_where_nothing_is_required():
    assert parse(Optional, [], "runs", "", "") == Optional()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dta", "x"], ["--dta", "--data"]),
        (["d", "--train.setps", "3"], ["--train.setps", "--train.steps"]),
        (["d", "--train.steps", "-3"], ["train.steps", "-3"]),
        (["d", "--train.steps", "many"], ["train.steps", "many"]),
        (["d", "--train.steps", "0"], ["train.steps", "0"]),
        ([], ["data"]),
        (["d", "--config"], ["--config"]),
        (["d", "--config", "none.yaml"], ["none.yaml"]),
    ],
)
def test_faults_name_the_setting(words: list[str], told: list[str]):
    with pytest.raises(ConfigError) as caught:
        parse(Verb, words, "some verb", "", "")
    assert caught.value.exit_code == 2
    for part in told:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: d\ntrain: {setps: 3}", ["settings.yaml", "'setps'", "'steps'"]),
        ("data: d\ndtaa: 3", ["settings.yaml", "'dtaa'", "'data'"]),
        ("data: d\ntrain: {steps: many}", ["train.steps", "many"]),
        ("data: d\ntrain: 3", ["train"]),
    ],
)
def test_faults_in_a_file(text: str, told: list[str], file: Path):
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read("--config", file)
    for part in told:
        assert part in str(caught.value)


def test_help_shows_every_setting_with_its_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert parse(Verb, ["--help"], "some verb", "Does it.", "danlu some verb --data x") is None
    shown = capsys.readouterr().out
    for part in (
        "Does it.",
        "danlu some verb --data x",
        "--train.steps",
        "optimiser steps",
        "DANLU_SOME_VERB_TRAIN_RATE",
        "--json",
    ):
        assert part in shown


def test_one_setting_of_a_nested_default_leaves_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    class Tuned(Config):
        """A verb that trains more gently than others."""

        train: Train = doc(Train(rate=0.002), "the loop", "训练循环")

    config = parse(Tuned, ["--train.steps", "3"], "tuned", "", "")
    assert config is not None
    assert config.train == Train(steps=3, rate=0.002)
    assert Tuned.parse({"train": {"steps": 3}}).train == Train(steps=3, rate=0.002)
    monkeypatch.setenv("COLUMNS", "160")
    parse(Tuned, ["--help"], "tuned", "", "")
    assert "[default: 0.002]" in capsys.readouterr().out


def test_a_dash_is_a_value():
    assert read("-").data == Path("-")
    assert read("--data", "-", "--names", "-", "--names", "a-b").names == ("-", "a-b")
    with pytest.raises(ConfigError, match="--x"):
        read("-", "--x")


def test_a_mistyped_environment_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DANLU_SOME_VERB_TRAIN_SETPS", "7")
    with pytest.raises(ConfigError, match=r"DANLU_SOME_VERB_TRAIN_SETPS\n.*DANLU_SOME_VERB_TRAIN_STEPS"):
        read("d")
    assert read("d", verb="other").train.steps == 10
    monkeypatch.delenv("DANLU_SOME_VERB_TRAIN_SETPS")
    monkeypatch.setenv("DANLU_SOME_VERB_TRAIN_STEPS", "many")
    with pytest.raises(ConfigError, match=r"train\.steps"):
        read("d")
