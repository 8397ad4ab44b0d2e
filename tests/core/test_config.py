from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PositiveInt, ValidationError

from danlu.core.config import Config, Input, Output, doc, load_yaml, paths_of
from danlu.core.errors import ConfigError


class Inner(Config):
    lr: float = doc(0.1, "rate", "学习率", gt=0)
    steps: PositiveInt | None = None


class Outer(Config):
    data: Input
    out: Output = Path("runs")
    more: list[Input] = []
    also: Input | None = None
    train: Inner = Inner()
    maybe: Inner | None = None
    parts: tuple[Inner, ...] = ()
    json_: Output | None = None


VALUES: dict[str, Any] = {"data": "a", "train": {"lr": 0.5}, "parts": [{"steps": 3}], "json": "b.json"}


def test_parses_nested_values():
    config = Outer.parse(VALUES)
    assert (config.data, config.train.lr, config.parts[0].steps, config.json_) == (Path("a"), 0.5, 3, Path("b.json"))


def test_plain_values_make_the_same_config_again():
    config = Outer.parse(VALUES)
    assert Outer.model_validate(config.plain()) == config


def test_frozen():
    with pytest.raises(ValidationError):
        Inner().lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"dta": "a"}, ("'dta'", "'data'")),
        ({"data": "a", "train": {"setps": 3}}, ("train", "'setps'", "'steps'")),
        ({"data": "a", "maybe": {"stpes": 3}}, ("maybe", "'stpes'", "'steps'")),
        ({"data": "a", "parts": [{}, {"ler": 3}]}, ("parts[1]", "'ler'", "'lr'")),
        ({"data": "a", "json_": "b"}, ("'json_'", "'json'")),
        ({"data": "a", "xyz": 1}, ("'xyz'", "known: data, out")),
        ({"data": "a", 3: 1}, ("'3'",)),
    ],
)
def test_an_unknown_setting_names_its_place_and_the_nearest(values: dict[str, Any], told: tuple[str, ...]):
    with pytest.raises(ConfigError) as caught:
        Outer.parse(values, "my.yaml")
    assert caught.value.what.startswith("my.yaml")
    for part in told:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "data: Field required"),
        ({"data": "a", "train": {"lr": -1}}, r"train\.lr: .*greater than 0 \(got -1\)"),
        ({"data": "a", "train": {"steps": "many"}}, r"train\.steps: .*'many'"),
        ({"data": "a", "train": 5}, r"train: .*5"),
        ({"train": {"lr": -1}}, "data: .*; train.lr: "),
    ],
)
def test_a_wrong_value_names_the_field(values: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=told):
        Outer.parse(values)


@pytest.mark.parametrize("values", [[], "text", None, 3])
def test_what_is_no_mapping_is_refused(values: Any):
    with pytest.raises(ConfigError, match="mapping"):
        Outer.parse(values)


def test_yaml(tmp_path: Path):
    file = tmp_path / "a.yaml"
    file.write_text("data: 诗\ntrain: {lr: 2.0e-2}\n", encoding="utf-8")
    assert Outer.from_yaml(file).train.lr == 0.02
    file.write_text("", encoding="utf-8")
    assert load_yaml(file) == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: [", "line 1"),
        (b"- a\n", "mapping"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"a: !!python/object:os.x {}", "YAML"),
    ],
)
def test_bad_yaml_names_the_file(content: bytes, told: str, tmp_path: Path):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=told) as caught:
        load_yaml(file)
    assert "bad.yaml" in caught.value.what


def test_missing_yaml_and_a_folder(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no such file: .*none\.yaml"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        load_yaml(tmp_path)


@given(st.dictionaries(st.text(max_size=6), st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers())))
def test_any_mapping_is_parsed_or_told(values: dict[str, Any]):
    values = yaml.safe_load(yaml.safe_dump(values))
    try:
        Outer.parse(values)
    except ConfigError as error:
        assert error.what.startswith("config")


def test_paths_of():
    config = Outer.parse({"data": "a", "more": ["b", "c"], "also": "d", "json": "e"})
    assert paths_of(config, "input") == {
        "data": Path("a"),
        "more[0]": Path("b"),
        "more[1]": Path("c"),
        "also": Path("d"),
    }
    assert paths_of(config, "output") == {"out": Path("runs"), "json_": Path("e")}
    assert paths_of(Outer(data=Path("a")), "input") == {"data": Path("a")}
