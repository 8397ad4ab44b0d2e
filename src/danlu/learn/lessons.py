"""The lessons' files: where they lie, how they are built, and the code they quote."""

import re
import textwrap
from pathlib import Path

import danlu
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.learn.roadmap import COURSE, load_roadmap, nearest

__all__ = [
    "HEADINGS",
    "LANGUAGES",
    "QUOTE",
    "find_lesson",
    "lesson_folders",
    "lesson_text",
    "quoted",
    "render",
    "sections_of",
]

LANGUAGES = ("en", "zh")

# The sections of a lesson, in order; each stands as a second-level heading: `## The question`.
HEADINGS = {
    "question": ("The question", "问题"),
    "idea": ("The idea", "思路"),
    "code": ("The code", "代码"),
    "run": ("Run it", "动手运行"),
    "measured": ("What was measured", "实测结果"),
    "wrong": ("What goes wrong", "容易出错的地方"),
    "used": ("Where it is used", "用在哪里"),
    "interview": ("Three interview questions", "三道面试题"),
}

# A line of its own: <!-- code: danlu/ops/attention.py#attention -->
QUOTE = re.compile(r"^<!-- code: (?P<file>danlu(?:/[\w.-]+)+)#(?P<name>[\w-]+) -->$", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*<!--[ \t]*code\b.*$", re.MULTILINE)
_BEGIN = re.compile(r"^\s*(?:#|//) lesson: ([\w-]+)$")  # Python or C++
_END = re.compile(r"^\s*(?:#|//) end lesson$")


def lesson_folders() -> list[Path]:
    """Every folder of the course that holds a lesson, in alphabetical order."""
    return sorted({file.parent for file in COURSE.glob("*/*/lesson.*.md")})


def find_lesson(name: str) -> Path:
    """The folder of a lesson by row id ('attention'), folder ('models/attention') or topic.

    Raises ConfigError that names the nearest lesson, or says that the row has none.
    """
    folders = {folder.relative_to(COURSE).as_posix(): folder for folder in lesson_folders()}
    rows = {row.id: row for row in load_roadmap().rows}
    if name in rows and rows[name].lesson in folders:
        return folders[str(rows[name].lesson)]
    if name in folders:
        return folders[name]
    topics = {folder.name: folder for folder in folders.values()}
    if name in topics:
        return topics[name]
    known = sorted({row.id for row in rows.values() if row.lesson in folders} | set(topics))
    listed = tr(f"lessons: {', '.join(known)}", f"现有课程：{'、'.join(known)}")
    if name in rows:
        raise ConfigError(tr(f"'{name}' has no lesson yet", f"“{name}”还没有课程"), listed)
    raise ConfigError(tr(f"there is no lesson '{name}'", f"没有名为“{name}”的课程"), nearest(name, known, listed))


def lesson_text(folder: Path, lang: str) -> str:
    """The lesson as it was written. Raises ConfigError when that language is missing."""
    path = folder / f"lesson.{lang}.md"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(tr(f"the lesson is missing: {path}", f"缺少课文：{path}")) from None


def render(folder: Path, lang: str) -> str:
    """The lesson as Markdown, each quotation replaced by the code it names and where that stands.

    Raises ConfigError when a marker is malformed or names no code.
    """
    text = lesson_text(folder, lang)
    where = f"{folder.name}/lesson.{lang}.md"
    for line in _COMMENT.findall(text):
        if not QUOTE.match(line):
            raise ConfigError(
                tr(f"{where}: malformed quotation: {line}", f"{where}：引用格式不对：{line}"),
                "<!-- code: danlu/ops/attention.py#attention -->",
            )

    def quote(match: re.Match[str]) -> str:
        code, first, last = quoted(match["file"], match["name"])
        language = "python" if match["file"].endswith(".py") else Path(match["file"]).suffix[1:]
        return f"```{language}\n{code}\n```\n\n*`{match['file']}`, {first}-{last}*"

    return QUOTE.sub(quote, text)


def quoted(file: str, name: str, source: Path | None = None) -> tuple[str, int, int]:
    """The code between `# lesson: name` and `# end lesson` in `file` (under `source`, by default
    where danlu lies), and its first and last line.

    Raises ConfigError when the file or the marker is missing, stands twice, or does not end.
    """
    source = (source or Path(danlu.__file__).parents[1]).resolve()
    path = (source / file).resolve()
    if not path.is_relative_to(source / "danlu") or not path.is_file():
        raise ConfigError(tr(f"a lesson quotes a file that is not there: {file}", f"课文引用的文件不存在：{file}"))
    lines = path.read_text(encoding="utf-8").splitlines()
    begins = [number for number, line in enumerate(lines) if (found := _BEGIN.match(line)) and found[1] == name]
    if len(begins) != 1:
        raise ConfigError(
            tr(
                f"{file} has {len(begins)} markers '# lesson: {name}', not one",
                f"{file} 里有 {len(begins)} 个“# lesson: {name}”标记，应当只有一个",
            )
        )
    first = begins[0] + 1
    last = next(
        (number for number in range(first, len(lines)) if _END.match(lines[number]) or _BEGIN.match(lines[number])),
        None,
    )
    if last is None or not _END.match(lines[last]):
        raise ConfigError(
            tr(
                f"{file}: '# lesson: {name}' has no '# end lesson'",
                f"{file}：“# lesson: {name}”没有以“# end lesson”结束",
            )
        )
    while last > first and not lines[last - 1].strip():
        last -= 1
    return textwrap.dedent("\n".join(lines[first:last])), first + 1, last


def sections_of(text: str) -> list[tuple[str, str]]:
    """(heading, body) of each second-level section, in order; code blocks are not searched for headings."""
    found: list[tuple[str, list[str]]] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if line.startswith("## ") and not fenced:
            found.append((line[3:].strip(), []))
        elif found:
            found[-1][1].append(line)
    return [(heading, "\n".join(body).strip()) for heading, body in found]
