"""The course keeps its word: rows name code that is there, lessons have the form of the house.

A lesson says the same in both languages, quotes the code instead of pasting it, and its exercise fails until
it is solved. Each rule is a function that returns faults, tried below on planted ones.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from danlu.core.errors import DanluError
from danlu.learn.grading import checks_of, grade, load_module, solution_of
from danlu.learn.lessons import HEADINGS, LANGUAGES, QUOTE, lesson_folders, lesson_text, quoted, render, sections_of
from danlu.learn.roadmap import COURSE, Row, load_roadmap, resolve
from tests.test_architecture import SOURCE, sources

PASTED_LINES = 3  # a longer run of source lines in a lesson should be quoted by marker
CHECK_SECONDS = 60.0
ROWS = load_roadmap().rows
LESSONS = lesson_folders()

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def numbers_of(text: str) -> Counter[str]:
    """The numbers that carry a measurement: decimals, and whole numbers from 10 up (small ones may be words)."""
    found = (number.replace(",", "") for number in _NUMBER.findall(text))
    return Counter(number for number in found if not number.isdigit() or int(number) >= 10)


def parts_of(text: str) -> dict[str, int]:
    """How many figures, tables, code blocks and quotations a text has."""
    return {
        "figures": len(re.findall(r"!\[[^\]]*\]\([^)]+\)", text)),
        "tables": len(re.findall(r"^\|[ :|-]+\|$", text, re.MULTILINE)),
        "code blocks": len(_FENCE.findall(text)),
        "quotations": len(QUOTE.findall(text)),
    }


def form_faults(text: str, lang: str) -> list[str]:
    """What of the lesson's form is missing in one language."""
    faults = [] if re.match(r"# \S", text) else ["the first line is not a title (# ...)"]
    sections = sections_of(text)
    wanted = [names[LANGUAGES.index(lang)] for names in HEADINGS.values()]
    found = [heading for heading, _ in sections]
    if found != wanted:
        return [*faults, f"sections are {found}, not {wanted}"]
    faults += [f"section '{heading}' is empty" for heading, body in sections if not body]
    bodies = dict(zip(HEADINGS, (body for _, body in sections), strict=True))
    if not QUOTE.search(bodies["code"]):
        faults.append("the code is not quoted by a marker")
    if not re.search(r"^(danlu|python|make|\.venv/bin/)\b.*", _fenced(bodies["run"]), re.MULTILINE):
        faults.append("no command to run")
    if not parts_of(bodies["measured"])["tables"]:
        faults.append("no table of what was measured")
    if not re.search(r"`[^`]*(danlu|python|make) ", bodies["measured"]) and not _fenced(bodies["measured"]):
        faults.append("no command beside the measurements")
    questions = len(re.findall(r"^\d+\. ", bodies["interview"], re.MULTILINE))
    if questions != 3:
        faults.append(f"{questions} interview questions, not 3")
    return faults


def _fenced(text: str) -> str:
    return "\n".join(code for _, code in _FENCE.findall(text))


def language_faults(english: str, chinese: str) -> list[str]:
    """Where the two languages differ in content: parts and numbers, section by section."""
    faults = []
    for name, (_, one), (_, other) in zip(HEADINGS, sections_of(english), sections_of(chinese), strict=True):
        if parts_of(one) != parts_of(other):
            faults.append(f"{name}: {parts_of(one)} in English, {parts_of(other)} in Chinese")
        if only := (numbers_of(one) - numbers_of(other)) + (numbers_of(other) - numbers_of(one)):
            faults.append(f"{name}: numbers in one language only: {sorted(only)}")
    return faults


def pasted_faults(text: str, texts: list[str]) -> list[str]:
    """Code blocks that repeat more than PASTED_LINES lines of the source."""
    windows = {tuple(run) for source in texts for run in _runs(source)}
    return [
        f"pasted from the source: {run[0]}" for _, code in _FENCE.findall(text) for run in _runs(code) if run in windows
    ]


def _runs(code: str) -> list[tuple[str, ...]]:
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    return [tuple(lines[start : start + PASTED_LINES + 1]) for start in range(len(lines) - PASTED_LINES)]


def row_faults(row: Row) -> list[str]:
    """Code or a lesson that a row names and that is not there."""
    faults = []
    if row.code:
        try:
            resolve(row.code)
        except (ImportError, AttributeError) as error:
            faults.append(f"{row.id}: {row.code}: {error}")
    if row.lesson and COURSE / row.lesson not in LESSONS:
        faults.append(f"{row.id}: no lesson {row.lesson}")
    return faults


def exercise_faults(folder: Path) -> list[str]:
    """The shipped exercise must fail, the real implementation must pass."""
    check = load_module(folder / "check.py", f"check_{folder.name}")
    names = [found.name for found in checks_of(folder / "check.py")]
    if not names:
        return ["no checks"]
    exercise = load_module(folder / "exercise.py", f"exercise_{folder.name}")
    faults = []
    if all(result.ok for result in grade(check, exercise, names, CHECK_SECONDS)):
        faults.append("the shipped exercise passes")
    failed = [result for result in grade(check, solution_of(check), names, CHECK_SECONDS) if not result.ok]
    return faults + [f"the real implementation fails {result.name}: {result.message}" for result in failed]


def folder_id(folder: Path) -> str:
    return folder.relative_to(COURSE).as_posix()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(row: Row):
    assert not row_faults(row)


def test_every_lesson_has_a_row():
    named = {row.lesson for row in ROWS}
    assert not [folder_id(folder) for folder in LESSONS if folder_id(folder) not in named]


@pytest.mark.parametrize("folder", LESSONS, ids=folder_id)
def test_lesson_has_all_files(folder: Path):
    wanted = {*(f"lesson.{lang}.md" for lang in LANGUAGES), "exercise.py", "check.py"}
    assert not wanted - {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("folder", LESSONS, ids=folder_id)
def test_lesson_form(folder: Path, lang: str):
    text = lesson_text(folder, lang)
    assert not form_faults(text, lang)
    assert render(folder, lang) != text, "no quotation was expanded"
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (folder / picture).is_file(), picture


@pytest.mark.parametrize("folder", LESSONS, ids=folder_id)
def test_languages_agree(folder: Path):
    assert not language_faults(*(lesson_text(folder, lang) for lang in LANGUAGES))


@pytest.mark.parametrize("folder", LESSONS, ids=folder_id)
def test_code_is_quoted_not_pasted(folder: Path):
    texts = [file.read_text(encoding="utf-8") for file in sources()]
    for lang in LANGUAGES:
        assert not pasted_faults(lesson_text(folder, lang), texts)


def test_every_marker_in_the_source_can_be_quoted():
    for file in sources():
        names = re.findall(r"^\s*# lesson: ([\w-]+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        for name in names:
            assert quoted(f"danlu/{file.relative_to(SOURCE).as_posix()}", name)[0]


@pytest.mark.parametrize("folder", LESSONS, ids=folder_id)
def test_exercise_fails_and_the_real_code_passes(folder: Path):
    assert not exercise_faults(folder)


# The rules themselves, on planted faults.


def good_lesson(lang: str) -> str:
    place = LANGUAGES.index(lang)
    bodies = dict.fromkeys(HEADINGS, "words")
    bodies["code"] = "<!-- code: danlu/ops/attention.py#attention -->"
    bodies["run"] = "```bash\ndanlu verify attention\n```"
    bodies["measured"] = "`danlu verify attention`\n\n| a | b |\n|---|---|\n| 12.5 | 1,024 |"
    bodies["interview"] = "1. one\n2. two\n3. three"
    return (
        "# Title\n\n" + "\n\n".join(f"## {names[place]}\n\n{bodies[name]}" for name, names in HEADINGS.items()) + "\n"
    )


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_good_lesson_has_no_faults(lang: str):
    assert form_faults(good_lesson(lang), lang) == []
    assert language_faults(good_lesson("en"), good_lesson("zh")) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("# Title", "Title", "title"),
        ("## The idea", "## An idea", "sections"),
        ("## The idea\n\nwords", "", "sections"),
        ("## The idea\n\nwords", "## The idea", "empty"),
        ("<!-- code: danlu/ops/attention.py#attention -->", "words", "marker"),
        ("```bash\ndanlu verify attention\n```", "just run it", "command to run"),
        ("|---|---|", "", "table"),
        ("`danlu verify attention`\n\n|", "\n\n|", "beside"),
        ("3. three", "", "2 interview"),
    ],
)
def test_catches_a_faulty_form(old: str, new: str, fault: str):
    text = good_lesson("en")
    assert old in text
    assert any(fault in found for found in form_faults(text.replace(old, new, 1), "en"))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("12.5", "12.4", "12.4"),
        ("1,024", "1023", "1024"),
        ("| 12.5", "![p](p.svg) | 12.5", "figures"),
        ("|---|---|", "", "tables"),
    ],
)
def test_catches_languages_that_differ(old: str, new: str, fault: str):
    assert any(fault in found for found in language_faults(good_lesson("en"), good_lesson("zh").replace(old, new, 1)))


def test_numbers_ignore_small_words_and_identifiers():
    assert numbers_of("3 heads, top20 of int16, 1,024 tokens, 0.5 % and 1e-4") == Counter(["1024", "0.5", "1e-4"])
    assert numbers_of("三个头，共1024个词元，占0.5%，不超过1e-4") == Counter(["1024", "0.5", "1e-4"])


def test_catches_pasted_code():
    source = "def f(x):\n    a = x\n    b = a\n\n    return b\n"
    fence = "```python\ndef f(x):\n    a = x\n    b = a\n    return b\n```\n"
    assert pasted_faults(fence, [source])
    assert not pasted_faults(fence.replace("b = a", "b = 2 * a"), [source])


def test_catches_rows_without_code_or_lesson():
    words = {"en": "x", "zh": "某"}
    row = {"id": "x", "title": words, "documents": [], "room": "learn", "state": "planned"}
    assert not row_faults(Row.parse({**row, "code": "danlu.learn.roadmap:load_roadmap"}))
    assert row_faults(Row.parse({**row, "code": "danlu.learn.roadmap:nothing"}))
    assert row_faults(Row.parse({**row, "code": "danlu.learn.nowhere:x"}))
    assert row_faults(Row.parse({**row, "lesson": "models/nothing"}))


def test_catches_exercises_that_pass_and_solutions_that_fail(tmp_path: Path):
    check = 'SOLUTION = {{"negate": "operator:{0}"}}\n\n\ndef check_two(e):\n    """Two.\n    二。\n    """\n    assert e.negate(2) == -2\n'
    (tmp_path / "exercise.py").write_text("def negate(x):\n    return -x\n", encoding="utf-8")
    (tmp_path / "check.py").write_text(check.format("pos"), encoding="utf-8")
    assert len(exercise_faults(tmp_path)) == 2
    (tmp_path / "exercise.py").write_text("def negate(x):\n    raise NotImplementedError\n", encoding="utf-8")
    (tmp_path / "check.py").write_text(check.format("neg"), encoding="utf-8")
    assert exercise_faults(tmp_path) == []


def test_catches_a_lesson_that_quotes_nothing(tmp_path: Path):
    (tmp_path / "lesson.en.md").write_text("<!-- code: danlu/ops/attention.py#no-such-marker -->\n", encoding="utf-8")
    with pytest.raises(DanluError, match="no-such-marker"):
        render(tmp_path, "en")
