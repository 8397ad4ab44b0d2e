"""A lesson is readable in the terminal."""

from pathlib import Path

import pytest

from danlu.core.errors import ConfigError
from danlu.learn.lesson import Config, run


def test_shows_headings_code_and_the_next_step(lesson: Path, capsys: pytest.CaptureFixture[str]):
    run(Config(id="negation", lang="en"))
    shown = capsys.readouterr().out
    assert "The question" in shown
    assert "attention_weights" in shown
    assert "danlu check negation --start" in shown
    assert "<!--" not in shown


def test_raw_is_markdown(lesson: Path, capsys: pytest.CaptureFixture[str]):
    run(Config(id="negation", lang="zh", raw=True))
    shown = capsys.readouterr().out
    assert "## The question" in shown
    assert "(zh)" in shown


def test_unknown(lesson: Path):
    with pytest.raises(ConfigError):
        run(Config(id="nothing-like-it"))
