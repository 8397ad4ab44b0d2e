"""Show everything the roadmap names, and what of it works here.

展示路线图上的全部内容，以及其中哪些已经能跑。

Example: danlu roadmap --section transformer --state works
The rows live in course/roadmap.yaml; `danlu verify ID` runs one row and compares, `danlu lesson ID` explains it.
"""

import difflib
import importlib
import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from rich.console import Console
from rich.table import Table
from rich.text import Text

import danlu
from danlu.core.config import Config as BaseConfig
from danlu.core.config import describe, doc, load_yaml
from danlu.core.errors import ConfigError
from danlu.core.i18n import language, tr

__all__ = [
    "COURSE",
    "EVERY",
    "NEEDS",
    "ROOMS",
    "Config",
    "Roadmap",
    "Row",
    "Section",
    "Verify",
    "Words",
    "load_roadmap",
    "nearest",
    "resolve",
    "run",
]

COURSE = Path(danlu.__file__).parent / "course"
EVERY = "all"  # `danlu verify all`: no row may be called so

ROOMS = (
    *("core", "foundations", "ops", "tokenizer", "models", "data", "train", "generate", "tasks"),
    *("stages", "tune", "align", "compress", "evaluate", "export", "safety", "serve", "monitor", "apps"),
    *("pipeline", "learn", "studio", "course"),
)

# What a machine may lack, and what to say then.
NEEDS = {
    "cuda": ("an NVIDIA GPU", "NVIDIA 显卡"),
    "docker": ("a Docker engine", "Docker 引擎"),
    "kubernetes": ("kubectl and a cluster", "kubectl 与集群"),
    "tensorrt": ("the tensorrt package", "tensorrt 软件包"),
    "triton": ("the Triton server", "Triton 服务器"),
}


class Words(BaseConfig):
    """The same words in both languages."""

    en: str = Field(min_length=1)
    zh: str = Field(min_length=1)

    def say(self, lang: str) -> str:
        return self.zh if lang == "zh" else self.en


class Verify(BaseConfig):
    """How a row is proved: `command` writes JSON to the path put in place of {json}; `metric` is found in it."""

    command: str
    metric: str = Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$")
    expect: str = Field(pattern=r"^(>=|<=|==|>|<) -?\d+(\.\d+)?(e-?\d+)?$")
    minutes: float = Field(gt=0)

    @field_validator("command")
    @classmethod
    def _runnable(cls, command: str) -> str:
        if not command.startswith(("danlu ", "python ")):
            raise ValueError("a command begins with 'danlu' or 'python'")
        if "{json}" not in command:
            raise ValueError("a command names {json}, the path that it writes")
        return command


class Row(BaseConfig):
    """One named thing: where it lives, how it is taught, how it is proved."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: Words
    documents: list[Literal[0, 1, 2]]
    room: str
    code: str | None = Field(None, pattern=r"^danlu(\.\w+)+:\w+(\.\w+)*$")
    lesson: str | None = Field(None, pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")
    verify: Verify | None = None
    needs: list[str] = Field(default_factory=list)
    state: Literal["works", "planned"]

    @model_validator(mode="after")
    def _coherent(self) -> "Row":
        if self.id == EVERY:
            raise ValueError(f"no row may be called '{EVERY}'")
        if self.room not in ROOMS:
            raise ValueError(f"room '{self.room}' is none of {', '.join(ROOMS)}")
        if self.code and not re.match(rf"danlu\.{self.room}[.:]", self.code):
            raise ValueError(f"code '{self.code}' is not in room '{self.room}'")
        if self.documents != sorted(set(self.documents)):
            raise ValueError("documents: each once, in order")
        if unknown := set(self.needs) - set(NEEDS):
            raise ValueError(f"needs {sorted(unknown)}: none of {', '.join(NEEDS)}")
        if self.state == "works" and not (self.code and self.verify):
            raise ValueError("a row that works names its code and how to verify it")
        return self


class Section(BaseConfig):
    """A stretch of the learner's path."""

    id: str
    title: Words
    rows: list[Row] = Field(min_length=1)

    @property
    def works(self) -> int:
        return sum(row.state == "works" for row in self.rows)


class Roadmap(BaseConfig):
    """The whole path, in order."""

    sections: list[Section] = Field(min_length=1)

    @property
    def rows(self) -> list[Row]:
        return [row for section in self.sections for row in section.rows]

    def find(self, name: str) -> Row:
        """The row called `name`. Raises ConfigError that names the nearest one."""
        rows = {row.id: row for row in self.rows}
        if name in rows:
            return rows[name]
        raise ConfigError(
            tr(f"the roadmap has no row '{name}'", f"路线图里没有“{name}”这一行"),
            nearest(name, list(rows), tr("all rows: danlu roadmap", "全部条目：danlu roadmap")),
        )


def nearest(name: str, known: list[str], otherwise: str) -> str:
    """'did you mean ...?' with the closest known names, else `otherwise`."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    close = close or [word for word in known if name and name in word][:3]
    if not close:
        return otherwise
    names = tr(", ", "、").join(close)
    return tr(f"did you mean: {names}?", f"是不是想写：{names}？")


def load_roadmap(path: Path | None = None) -> Roadmap:
    """Read and check the manifest (default: the one that comes with danlu).

    Raises ConfigError that names the file, the row and the field at fault, or the id that stands twice.
    """
    path = path or COURSE / "roadmap.yaml"
    values = load_yaml(path)
    sections = []
    for number, section in enumerate(_list(values, "sections", str(path))):
        name = _name(section, number)
        rows = [
            Row.parse(row, f"{path.name}: {_name(row, place)}")
            for place, row in enumerate(_list(section, "rows", f"{path.name}: {name}"))
        ]
        sections.append(_build(Section, {**section, "rows": rows}, f"{path.name}: {name}"))
    roadmap = _build(Roadmap, {**values, "sections": sections}, path.name)
    for kind, ids in (("section", [s.id for s in sections]), ("row", [row.id for row in roadmap.rows])):
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ConfigError(tr(f"{path.name}: {kind} id given twice: {twice}", f"{path.name}：编号重复：{twice}"))
    return roadmap


def _list(values: Any, key: str, where: str) -> list[Any]:
    found = values.get(key) if isinstance(values, dict) else None
    if not isinstance(found, list):
        raise ConfigError(tr(f"{where}: expected a list under '{key}'", f"{where}：“{key}”下应为列表"))
    return found


def _name(values: Any, number: int) -> str:
    return str(values.get("id", number)) if isinstance(values, dict) else str(number)


def _build(cls: type, values: dict[str, Any], where: str) -> Any:
    try:
        return cls(**values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error)}") from None


def resolve(code: str) -> Any:
    """The object that 'module:symbol' names. Raises ImportError or AttributeError."""
    module, _, path = code.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


class Config(BaseConfig):
    """What to show of the roadmap."""

    section: str | None = doc(None, "only this section", "只看这一部分")
    state: Literal["works", "planned"] | None = doc(None, "only rows in this state", "只看处于该状态的条目")
    lang: Literal["en", "zh"] | None = doc(
        None, "language of the titles (default: yours)", "标题语言（默认：你的语言）"
    )
    json_: bool = doc(False, "print JSON instead of a table", "输出 JSON 而不是表格")


def run(config: Config) -> None:
    """Print the rows by section, the counts, and how much of the whole works."""
    roadmap = load_roadmap()
    sections = roadmap.sections
    if config.section:
        sections = [section for section in sections if section.id == config.section]
        if not sections:
            known = [section.id for section in roadmap.sections]
            otherwise = tr(f"sections: {', '.join(known)}", f"共有这些部分：{'、'.join(known)}")
            raise ConfigError(
                tr(f"the roadmap has no section '{config.section}'", f"路线图里没有“{config.section}”这一部分"),
                nearest(config.section, known, otherwise),
            )
    if config.json_:
        print(json.dumps(_plain(roadmap, sections, config.state), ensure_ascii=False, indent=2))
        return
    lang = config.lang or language()
    console = Console()
    for section in sections:
        rows = [row for row in section.rows if config.state in (None, row.state)]
        if rows:
            console.print(_table(section, rows, lang))
    console.print(_summary(roadmap, lang))


def _plain(roadmap: Roadmap, sections: list[Section], state: str | None) -> dict[str, Any]:
    shown = []
    for section in sections:
        rows = [row.plain() for row in section.rows if state in (None, row.state)]
        shown.append({**section.plain(), "works": section.works, "total": len(section.rows), "rows": rows})
    works = sum(section.works for section in roadmap.sections)
    return {"works": works, "total": len(roadmap.rows), "sections": shown}


def _table(section: Section, rows: list[Row], lang: str) -> Table:
    title = Text.assemble(
        (section.title.say(lang), "bold"), f"  {section.id}  ", (f"{section.works}/{len(section.rows)}", "cyan")
    )
    heads = (
        ("", "ID", "内容", "位置", "文档", "还需要") if lang == "zh" else ("", "id", "what", "where", "docs", "needs")
    )
    table = Table(title=title, title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, head in enumerate(heads):
        table.add_column(head, overflow="fold", no_wrap=number in (1, 3))
    for row in rows:
        mark, style = ("✓", "green") if row.state == "works" else ("·", "dim")
        needs = ", ".join(NEEDS[need][lang == "zh"] for need in row.needs)
        documents = " ".join(map(str, row.documents))
        what = Text(row.title.say(lang), style="" if row.state == "works" else "dim")
        table.add_row(Text(mark, style), row.id, what, f"{row.room}/", documents, needs)
    table.add_section()
    return table


def _summary(roadmap: Roadmap, lang: str) -> Text:
    works, total = sum(section.works for section in roadmap.sections), len(roadmap.rows)
    share = f"{100 * works / total:.0f}"
    words = (
        f"{total} 项中 {works} 项能跑（{share} %），其余在计划中"
        if lang == "zh"
        else f"{works} of {total} work ({share} %), the rest are planned"
    )
    hint = (
        "运行并核对一项：danlu verify ID    读一课：danlu lesson ID"
        if lang == "zh"
        else "run one and compare: danlu verify ID    read about it: danlu lesson ID"
    )
    bar = "█" * (done := round(60 * works / total)) + "░" * (60 - done)
    return Text.assemble("\n", (words, "bold"), "\n", (bar, "green"), "\n", (hint, "dim"))
