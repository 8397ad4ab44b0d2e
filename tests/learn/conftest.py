"""A course in a temporary folder in place of the one that comes with danlu."""

from collections.abc import Callable
from pathlib import Path

import pytest

from danlu.learn import lessons, roadmap
from tests.learn.course import CHECK, EXERCISE, LESSON, row, write_roadmap


@pytest.fixture
def use_course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make these rows the roadmap; work in an empty folder."""

    def use(*rows: dict[str, object]) -> Path:
        course = tmp_path / "course"
        write_roadmap(course, *rows)
        monkeypatch.setattr(roadmap, "COURSE", course)
        monkeypatch.setattr(lessons, "COURSE", course)
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        monkeypatch.chdir(work)
        return course

    return use


@pytest.fixture
def lesson(use_course: Callable[..., Path]) -> Path:
    """The course with one lesson, models/minus-one, of the row 'negation'."""
    folder = use_course(row("negation", lesson="models/minus-one"), row("other")) / "models" / "minus-one"
    folder.mkdir(parents=True)
    for lang in ("en", "zh"):
        (folder / f"lesson.{lang}.md").write_text(f"{LESSON}\n({lang})\n", encoding="utf-8")
    (folder / "exercise.py").write_text(EXERCISE, encoding="utf-8")
    (folder / "check.py").write_text(CHECK, encoding="utf-8")
    return folder
