"""The learner's way: start, fail with hints, pass."""

import json
from pathlib import Path

import pytest

from danlu.core.errors import ConfigError, DanluError
from danlu.learn import check
from danlu.learn.check import Config, grade_apart, run


def test_start_copies_once(lesson: Path, capsys: pytest.CaptureFixture[str]):
    run(Config(id="negation", start=True))
    copy = Path("exercises/minus_one.py")
    assert copy.read_text() == (lesson / "exercise.py").read_text()
    assert "danlu check negation" in capsys.readouterr().out
    copy.write_text("my work")
    with pytest.raises(ConfigError, match="minus_one"):
        run(Config(id="negation", start=True))
    assert copy.read_text() == "my work"


def test_untouched_exercise_fails_with_hints(
    lesson: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "120")
    run(Config(id="negation", start=True))
    with pytest.raises(DanluError, match="2"):
        run(Config(id="negation", json_=Path("result.json")))
    shown = capsys.readouterr().out
    assert "minus two" in shown or "负二" in shown
    result = json.loads(Path("result.json").read_text())
    assert (result["passed"], result["total"], result["rate"]) == (0, 2, 0.0)
    assert [found["name"] for found in result["checks"]] == ["check_two", "check_nothing"]


def test_right_answer_passes(lesson: Path, capsys: pytest.CaptureFixture[str]):
    Path("mine.py").write_text("def negate(x):\n    return -x\n")
    run(Config(id="minus-one", file=Path("mine.py"), json_=Path("result.json")))
    assert json.loads(Path("result.json").read_text())["rate"] == 1.0
    assert "✗" not in capsys.readouterr().out


def test_solution_passes(lesson: Path):
    run(Config(id="negation", solution=True, json_=Path("result.json")))
    assert json.loads(Path("result.json").read_text())["passed"] == 2


def test_no_copy_yet_says_how_to_begin(lesson: Path):
    with pytest.raises(ConfigError) as caught:
        run(Config(id="negation"))
    assert "danlu check negation --start" in caught.value.do


def test_file_that_does_not_parse_is_named(lesson: Path):
    Path("broken.py").write_text("def negate(x)\n")
    with pytest.raises(DanluError, match=r"broken\.py.*SyntaxError"):
        run(Config(id="negation", file=Path("broken.py")))


def test_file_that_exits_on_import_is_named(lesson: Path):
    Path("exits.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(DanluError, match=r"exits\.py.*SystemExit"):
        run(Config(id="negation", file=Path("exits.py")))


def test_endless_loop_ends(lesson: Path):
    Path("endless.py").write_text("def negate(x):\n    while x:\n        pass\n    return 0\n")
    endless, fine = grade_apart(lesson, Path("endless.py"), seconds=0.3)
    assert (endless.ok, fine.ok) == (False, True)


def test_loop_that_no_signal_stops_is_ended_with_its_process(lesson: Path, monkeypatch: pytest.MonkeyPatch):
    Path("deaf.py").write_text(
        "import signal\n\ndef negate(x):\n    signal.signal(signal.SIGALRM, signal.SIG_IGN)\n    while True:\n        pass\n"
    )
    monkeypatch.setattr(check, "_STARTUP_SECONDS", 2.5)
    first, second = grade_apart(lesson, Path("deaf.py"), seconds=0.1)
    assert (first.ok, second.ok) == (False, False)
    assert "3" in first.message
    assert second.message in ("not run", "没有运行")


def test_crash_fails_the_check_that_ran(lesson: Path):
    Path("crash.py").write_text("import os\n\ndef negate(x):\n    os._exit(7) if x == 0 else None\n    return -x\n")
    first, second = grade_apart(lesson, Path("crash.py"), seconds=5)
    assert first.ok
    assert not second.ok
    assert "7" in second.message


def test_lesson_without_exercise(lesson: Path):
    (lesson / "exercise.py").unlink()
    with pytest.raises(ConfigError, match="negation"):
        run(Config(id="negation"))
