"""The manifest is strict, and the table tells the truth about it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from danlu.core.errors import ConfigError
from danlu.learn.roadmap import NEEDS, ROOMS, Config, load_roadmap, resolve, run
from tests.learn.course import row, working, write_roadmap

PROOF = {"command": "danlu doctor --json {json}", "metric": "a.b", "expect": ">= 0.5", "minutes": 1}


def test_shipped_roadmap_loads_and_covers_the_documents():
    roadmap = load_roadmap()
    rows = roadmap.rows
    assert 150 <= len(rows) <= 400
    assert len({row.id for row in rows}) == len(rows)
    for document in (0, 1, 2):
        assert sum(document in row.documents for row in rows) >= 40
    assert {row.room for row in rows} <= set(ROOMS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": {"en": "x", "zh": "x"}}, "did you mean 'title'|是不是想写“title”"),
        ({"title": {"en": "x"}}, "title.zh"),
        ({"title": {"en": "x", "zh": ""}}, "title.zh"),
        ({"documents": [3]}, "documents.0"),
        ({"documents": [1, 0]}, "each once, in order"),
        ({"room": "attic"}, "attic"),
        ({"room": "models", "code": "danlu.ops.attention:attention"}, "is not in room"),
        ({"code": "danlu.ops.attention"}, "code"),
        ({"lesson": "attention"}, "lesson"),
        ({"needs": ["luck"]}, "luck"),
        ({"state": "maybe"}, "state"),
        ({"state": "works"}, "names its code and how to verify"),
        ({"state": "works", "code": "danlu.ops.attention:attention"}, "names its code and how to verify"),
        ({"verify": {**PROOF, "expect": "about 3"}}, "expect"),
        ({"verify": {**PROOF, "command": "danlu doctor"}}, "json"),
        ({"verify": {**PROOF, "command": "rm {json}"}}, "begins with"),
        ({"verify": {**PROOF, "metric": "a b"}}, "metric"),
        ({"verify": {**PROOF, "minutes": 0}}, "minutes"),
        ({"verify": {**PROOF, "comand": "x"}}, "command"),
        ({"id": "Capital"}, "id"),
        ({"id": "all"}, "all"),
    ],
)
def test_faulty_row_is_named(tmp_path: Path, change: dict[str, object], message: str):
    faulty = {**row("good"), **change}
    with pytest.raises(ConfigError, match=message) as caught:
        load_roadmap(write_roadmap(tmp_path, faulty))
    assert f"roadmap.yaml: {faulty['id']}" in caught.value.what


def test_valid_rows_pass(tmp_path: Path):
    path = write_roadmap(tmp_path, row("a", needs=["cuda"]), working("b", "danlu x {json}", "m", "<= 1e-4"))
    roadmap = load_roadmap(path)
    assert [found.id for found in roadmap.rows] == ["a", "b"]
    assert roadmap.sections[0].works == 1


def test_an_id_stands_once(tmp_path: Path):
    with pytest.raises(ConfigError, match="same"):
        load_roadmap(write_roadmap(tmp_path, row("same"), row("same")))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "sections: 3",
        "sections: [{id: a, title: {en: A, zh: 甲}}]",
        "sections: [{id: a, rows: []}]",
        "sections: [",
        "sections: [1]",
    ],
)
def test_other_shapes_are_refused(tmp_path: Path, text: str):
    (tmp_path / "roadmap.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"roadmap\.yaml"):
        load_roadmap(tmp_path / "roadmap.yaml")


def test_find_names_the_nearest(tmp_path: Path):
    roadmap = load_roadmap(write_roadmap(tmp_path, row("attention"), row("rope")))
    assert roadmap.find("rope").id == "rope"
    with pytest.raises(ConfigError) as caught:
        roadmap.find("atention")
    assert "attention" in caught.value.do


def test_resolve():
    assert resolve("danlu.learn.roadmap:Roadmap.find").__name__ == "find"
    with pytest.raises(AttributeError):
        resolve("danlu.learn.roadmap:nothing")
    with pytest.raises(ImportError):
        resolve("danlu.learn.nowhere:x")


def test_json_has_counts_and_filtered_rows(use_course: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    use_course(row("a"), working("b", "danlu x {json}", "m", "<= 1"), row("c"))
    run(Config(state="works", json_=True))
    shown = json.loads(capsys.readouterr().out)
    assert (shown["works"], shown["total"]) == (1, 3)
    assert [found["id"] for found in shown["sections"][0]["rows"]] == ["b"]
    assert (shown["sections"][0]["works"], shown["sections"][0]["total"]) == (1, 3)


def test_table_in_both_languages(
    use_course: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "120")
    use_course(row("a", needs=["cuda"]), working("b", "danlu x {json}", "m", "<= 1"))
    run(Config(lang="zh"))
    chinese = capsys.readouterr().out
    assert "部分" in chinese
    assert "1/2" in chinese
    assert "2 项中 1 项能跑（50 %）" in chinese
    assert NEEDS["cuda"][1] in chinese
    assert chinese.count("█") == chinese.count("░") == 30
    run(Config(lang="en", state="planned"))
    english = capsys.readouterr().out
    assert "1 of 2 work (50 %)" in english
    assert " a " in english
    assert "✓" not in english


def test_unknown_section_names_the_nearest(use_course: Callable[..., Path]):
    use_course(row("a"))
    with pytest.raises(ConfigError) as caught:
        run(Config(section="pat"))
    assert "part" in caught.value.do


def test_yaml_is_plain():
    """The manifest needs no YAML feature that another reader might lack."""
    text = (Path(__file__).parents[2] / "src/danlu/course/roadmap.yaml").read_text(encoding="utf-8")
    tokens = {type(token) for token in yaml.scan(text)}
    assert not tokens & {yaml.AnchorToken, yaml.AliasToken, yaml.TagToken}
