import pytest

from danlu.core.errors import ConfigError
from danlu.data.step import content, make_step, step_config, step_names


def test_every_step_is_found_by_its_file():
    assert {"clean", "exact", "near"} <= set(step_names())
    assert not [name for name in step_names() if name.startswith("_")]


def test_unknown_names_are_told_with_a_near_one():
    with pytest.raises(ConfigError, match="'clean'"):
        step_config("claen", {})
    with pytest.raises(ConfigError, match=r"steps\[2\]: clean"):
        step_config("clean", {"unicod": "NFC"}, "steps[2]")


def test_files_of_a_step_may_be_named_as_assets(monkeypatch, tmp_path):
    words = tmp_path / "asset" / "words.txt"
    words.parent.mkdir()
    words.write_text("verboten\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("danlu.core.places.asset_path", lambda name: tmp_path / "asset")
    step = make_step("sensitive", step_config("sensitive", {"lists": ["jionlp/words.txt"]}))
    from collections import Counter

    assert step.apply({"id": "1", "source": "s", "text": "this is verboten here"}, Counter()).reason


def test_content_of_text_and_of_messages():
    assert content({"text": "a"}) == "a"
    assert content({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}) == "a\nb"
    assert content({}) == ""
