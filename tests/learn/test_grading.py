"""What the grader says of good, wrong, broken and endless exercises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from danlu.learn.grading import checks_of, grade, load_module, solution_of


@pytest.fixture
def check_file(lesson: Path) -> Path:
    return lesson / "check.py"


def test_checks_are_read_in_order_with_both_hints(check_file: Path):
    checks = checks_of(check_file)
    assert [check.name for check in checks] == ["check_two", "check_nothing"]
    assert checks[0].hint == ("Two becomes minus two.", "二变成负二。")


def test_a_hint_has_two_lines(tmp_path: Path):
    (tmp_path / "check.py").write_text('def check_one(exercise):\n    """Only English."""\n')
    with pytest.raises(ValueError, match="check_one"):
        checks_of(tmp_path / "check.py")


def test_solution_passes_and_exercise_fails(lesson: Path, check_file: Path):
    check = load_module(check_file, "check_under_test")
    names = [found.name for found in checks_of(check_file)]
    assert all(result.ok for result in grade(check, solution_of(check), names, 5))
    exercise = load_module(lesson / "exercise.py", "exercise_under_test")
    results = list(grade(check, exercise, names, 5))
    assert [result.ok for result in results] == [False, False]
    assert "not written yet" in results[0].message or "还没写" in results[0].message


@pytest.mark.parametrize(
    ("named", "attribute"),
    [("operator", "neg"), ("danlu.learn.roadmap:Row", "say_nothing"), ({"negate": "operator:neg"}, "negate")],
)
def test_solution_is_a_module_an_object_or_a_table(check_file: Path, named: object, attribute: str):
    check = load_module(check_file, "check_under_test")
    check.SOLUTION = named
    assert hasattr(solution_of(check), attribute) == (attribute != "say_nothing")


def test_wrong_and_endless_answers(tmp_path: Path, check_file: Path):
    file = tmp_path / "answer.py"
    file.write_text(
        "def negate(x):\n    while x:\n        try:\n            x = 2\n        except Exception:\n            pass\n    return 1\n"
    )
    check = load_module(check_file, "check_under_test")
    endless, wrong = grade(check, load_module(file, "answer"), ["check_two", "check_nothing"], 0.3, file)
    assert not endless.ok
    assert "0.3" in endless.message
    assert not wrong.ok
    assert "zero stays zero" in wrong.message


def test_an_error_is_placed_in_the_learners_file(tmp_path: Path, check_file: Path):
    file = tmp_path / "answer.py"
    file.write_text("def negate(x):\n    y = x\n    return y.wings\n")
    check = load_module(check_file, "check_under_test")
    (result,) = grade(check, load_module(file, "answer"), ["check_two"], 5, file)
    assert "AttributeError" in result.message
    assert "3" in result.message


def test_command_line_writes_results_as_they_come(tmp_path: Path, check_file: Path):
    file = tmp_path / "answer.py"
    file.write_text("import os\ndef negate(x):\n    if not x:\n        os._exit(7)\n    return -x\n")
    out = tmp_path / "results.jsonl"
    argv = [sys.executable, "-m", "danlu.learn.grading", str(check_file), str(file), "5", str(out)]
    assert subprocess.run(argv, check=False).returncode == 7
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"name": "check_two", "ok": True, "message": ""}
    ]
