"""A small course on disk, shared by the tests of this folder."""

from pathlib import Path

import yaml

LESSON = """# Negation

## The question
How?

<!-- code: danlu/ops/attention.py#attention -->
"""

CHECK = '''"""Checks of the exercise."""

SOLUTION = {"negate": "operator:neg"}


def check_two(exercise):
    """Two becomes minus two.
    二变成负二。
    """
    assert exercise.negate(2) == -2


def check_nothing(exercise):
    """Nothing stays nothing.
    零还是零。
    """
    assert exercise.negate(0) == 0, "zero stays zero"
'''

EXERCISE = '''"""Fill in the missing part."""


def negate(x):
    """Minus x."""
    raise NotImplementedError
'''


def row(name: str, **fields: object) -> dict[str, object]:
    """A valid planned row, changed by `fields`."""
    base = {"id": name, "title": {"en": name, "zh": "某项"}, "documents": [0], "room": "ops", "state": "planned"}
    return {**base, **fields}


def working(name: str, command: str, metric: str, expect: str, **fields: object) -> dict[str, object]:
    """A row that works, proved by `command`."""
    proof = {"command": command, "metric": metric, "expect": expect, "minutes": 0.05}
    return row(name, code="danlu.ops.attention:attention", verify=proof, state="works", **fields)


def write_roadmap(course: Path, *rows: dict[str, object]) -> Path:
    """roadmap.yaml with one section of these rows."""
    section = {"id": "part", "title": {"en": "Part", "zh": "部分"}, "rows": list(rows)}
    path = course / "roadmap.yaml"
    course.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"sections": [section]}, allow_unicode=True), encoding="utf-8")
    return path
