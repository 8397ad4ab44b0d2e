"""Quotations cannot go stale: a marker that names no code is an error."""

from pathlib import Path

import pytest

from danlu.core.errors import ConfigError
from danlu.learn.lessons import find_lesson, lesson_folders, quoted, render, sections_of

SOURCE = """import math


class Curve:
    # lesson: area
    def area(self, r):
        # a comment
        return math.pi * r**2

    # end lesson


# lesson: twice
x = 1
# end lesson
# lesson: twice
# end lesson
# lesson: open
y = 2
# lesson: inner
z = 3
# end lesson
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "danlu").mkdir()
    (tmp_path / "danlu" / "curve.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "secret.py").write_text("# lesson: a\nx\n# end lesson\n", encoding="utf-8")
    return tmp_path


def test_quoted_code_is_dedented_and_placed(source: Path):
    code, first, last = quoted("danlu/curve.py", "area", source)
    assert code == "def area(self, r):\n    # a comment\n    return math.pi * r**2"
    lines = SOURCE.splitlines()
    assert lines[first - 1].endswith("def area(self, r):")
    assert lines[last - 1].endswith("return math.pi * r**2")


def test_code_in_c_is_quoted_too(source: Path):
    text = "int a;\n// lesson: sum\nint b = 1;\n// end lesson\n"
    (source / "danlu" / "sum.cpp").write_text(text, encoding="utf-8")
    assert quoted("danlu/sum.cpp", "sum", source) == ("int b = 1;", 3, 3)


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("danlu/curve.py", "nothing", "0"),
        ("danlu/curve.py", "twice", "2"),
        ("danlu/curve.py", "open", "end lesson"),
        ("danlu/straight.py", "area", "straight"),
        ("danlu/../secret.py", "a", "secret"),
        ("../../etc/passwd", "a", "passwd"),
    ],
)
def test_a_marker_that_names_no_code(source: Path, file: str, name: str, message: str):
    with pytest.raises(ConfigError, match=message):
        quoted(file, name, source)


def test_render_expands(lesson: Path):
    text = render(lesson, "zh")
    assert "def attention_weights(" in text
    assert "```python" in text
    assert "danlu/ops/attention.py" in text
    assert "<!--" not in text
    assert "(zh)" in text


@pytest.mark.parametrize(
    "line",
    [
        "<!-- code: danlu/ops/attention.py -->",
        "<!--code: danlu/ops/attention.py#attention-->",
        "  <!-- code: /etc/passwd#x -->",
    ],
)
def test_render_refuses_a_malformed_quotation(lesson: Path, line: str):
    (lesson / "lesson.en.md").write_text(f"# T\n\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"malformed|格式不对"):
        render(lesson, "en")


def test_render_needs_the_language(lesson: Path):
    (lesson / "lesson.zh.md").unlink()
    with pytest.raises(ConfigError, match=r"lesson\.zh\.md"):
        render(lesson, "zh")


def test_sections_do_not_take_code_for_headings():
    text = "# T\n\nintro\n\n## One\n\na\n\n```bash\n## not a heading\n```\n\n## Two\n\nb\n"
    assert sections_of(text) == [("One", "a\n\n```bash\n## not a heading\n```"), ("Two", "b")]


@pytest.mark.parametrize("name", ["negation", "models/minus-one", "minus-one"])
def test_find_by_row_folder_or_topic(lesson: Path, name: str):
    assert find_lesson(name) == lesson
    assert lesson_folders() == [lesson]


def test_find_names_the_nearest(lesson: Path):
    with pytest.raises(ConfigError) as caught:
        find_lesson("negatoin")
    assert "negation" in caught.value.do
    with pytest.raises(ConfigError, match=r"no lesson yet|还没有课程") as caught:
        find_lesson("other")
    assert "negation" in caught.value.do
