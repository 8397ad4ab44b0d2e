"""What a recipe reads: several sources, each with its own way, one after the other in a fixed order.

Rows get an `id` that says where they come from, without the folders of this machine, and the name of their `source`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import field_validator

from danlu.core.assets import Asset
from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.core.places import asset_of, find_place
from danlu.data.listing import files_of, root_of
from danlu.data.poems import poem_rows, read_quatrains
from danlu.data.sources import Bad, ReadReport, Row, SplitBy, column_names, read_rows

__all__ = ["POEMS", "SourceOptions", "Sources"]

POEMS = "chinese-poetry"
_OWN = ("id", "source")  # said by this module; a column of such a name is taken as uid=id
_ENOUGH = 10_000  # rows that cannot be read, with none that can, after which a source is given up
_KEPT = ("text", "messages", "html", "part")  # columns kept when none are named


class SourceOptions(Config):
    """How one source is read; what is not given is as for all sources."""

    kind: str | None = doc(
        None,
        "auto, text, html, jsonl, json, csv, mail, tagged, pickled-table, poems; default: by the file's name",
        "auto、text、html、jsonl、json、csv、mail、tagged、pickled-table、poems；默认按文件名判断",
    )
    columns: list[str] | None = doc(
        None, "columns to keep, as text or text=content", "保留的列，如 text 或 text=content"
    )
    split_by: SplitBy | None = doc(None, "what of a text file is one document", "文本文件按什么切成文档")
    encoding: str | None = doc(None, "encoding of the text; auto finds it", "文本编码；auto 表示自动判断")
    take: str | None = doc(None, "which files, such as '*.html' or 'texts/**'", "取哪些文件，如 '*.html' 或 'texts/**'")
    join: str | None = doc(None, "what joins a column that is a list of lines", "列为多行列表时，用什么连接")
    licence: str | None = doc(None, "for the data card", "许可证，写入数据卡")

    @field_validator("columns", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


@dataclass
class Sources:
    """The sources of a recipe, as a flow reads them."""

    paths: Sequence[Path]
    about: Mapping[str, SourceOptions]
    default: SourceOptions
    seed: int = 0
    max_documents: int | None = None
    bad: list[tuple[str, str, bytes]] = field(default_factory=list)
    reports: dict[str, ReadReport] = field(default_factory=dict)
    funnels: dict[str, Counter[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for options in (self.default, *self.about.values()):
            if clash := set(column_names(options.columns)) & set(_OWN):
                name = min(clash)
                raise ConfigError(
                    tr(f"a column cannot be named {name}: rows have one that says where they come from",
                       f"列不能叫 {name}:每行已有同名的列说明其出处"),
                    tr(f"give it another name: --columns u{name}={name}", f"请换个名字:--columns u{name}={name}"),
                )  # fmt: skip
        known = {str(path) for path in self.paths}
        for name in self.about:
            if name not in known:
                raise ConfigError(
                    tr(f"about: '{name}' is none of the sources", f"about:“{name}”不在来源之中"),
                    tr(f"the sources are {', '.join(sorted(known))}", f"来源有:{'、'.join(sorted(known))}"),
                )

    def assets(self) -> dict[str, Asset]:
        """The assets among the sources, by the source's name."""
        found = {str(path): asset_of(path) for path in self.paths}
        return {name: asset for name, asset in found.items() if asset is not None}

    def poems(self, path: Path) -> bool:
        """Whether a source is read as quatrains: it says so, or it is the poems of the catalogue and nothing else."""
        kind = self._options(path).kind
        return kind == "poems" or (
            kind in (None, "auto") and [str(one) for one in self.paths] == [POEMS] == list(self.assets())
        )

    def files(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, path in self._places():
            if str(path) == "-" or str(path).startswith("hf:"):
                found[name] = None
                continue
            root = root_of(path) or path.parent
            for file in files_of(path, known=False):
                told = file.stat()
                found[_valid(f"{name}/{file.relative_to(root).as_posix()}")] = [told.st_size, told.st_mtime_ns]
        return found

    def rows(self) -> Iterator[Row]:
        self.reports, self.funnels = {}, {}
        return islice(self._rows(), self.max_documents)

    def _rows(self) -> Iterator[Row]:
        for name, path in self._places():
            rows = self._quatrains(name, path) if self.poems(Path(self._given[name])) else self._plain(name, path)
            yield from rows

    def names(self) -> list[str]:
        return [name for name, _ in self._places()]

    def summary(self) -> dict[str, Any]:
        """By source what was read; for poems how many were left after each choice. Nothing of it differs by machine."""
        return {
            name: _told(report) | ({"poems": dict(self.funnels[name])} if name in self.funnels else {})
            for name, report in self.reports.items()
        }

    def _places(self) -> list[tuple[str, Path]]:
        """(name, path) of each source; a name is the last part of the path, numbered when two are alike."""
        assets = self.assets()
        self._given: dict[str, str] = {}
        places = []
        for path in self.paths:
            given = str(path)
            name = (
                given
                if given in assets
                else ("stdin" if given == "-" else given.rstrip("/").rpartition("/")[2] or given)
            )
            while name in self._given:
                name += "+"
            self._given[name] = given
            places.append((name, find_place(path)))
        return places

    def _options(self, path: Path) -> SourceOptions:
        own = self.about.get(str(path), SourceOptions())
        return self.default.model_copy(update={key: value for key, value in own if value is not None})

    def _plain(self, name: str, path: Path) -> Iterator[Row]:
        options = self._options(Path(self._given[name]))
        report = self.reports[name] = ReadReport()
        kept = column_names(options.columns) or dict.fromkeys(_KEPT)
        rows = read_rows(
            path,
            columns=options.columns,
            split=options.split_by or "file",
            encoding=options.encoding or "auto",
            kind=options.kind or "auto",
            take=options.take,
            join=options.join,
            report=report,
            quarantine=lambda bad: self._set_aside(name, report, bad),
            ids=True,
        )
        for row in rows:
            if row.get("html") is not True:
                row.pop("html", None)  # a column of that name, not a page
            found = {key: row[key] for key in kept if key in row and key not in _OWN}
            yield {"id": _valid(f"{name}/{row['id']}"), "source": _valid(name)} | found
        if report.bad and not report.rows:
            raise _nothing(name, report)

    def _set_aside(self, name: str, report: ReadReport, bad: Bad) -> None:
        self.bad.append((_valid(f"{name}/{bad.place}"), bad.reason, bad.raw))
        if not report.rows and len(self.bad) >= _ENOUGH:  # a wrong column, say: not all of it need be held to know
            raise _nothing(name, report)

    def _quatrains(self, name: str, path: Path) -> Iterator[Row]:
        funnel = self.funnels[name] = Counter()
        report = self.reports[name] = ReadReport()
        quatrains = read_quatrains(path, funnel)
        report.rows = funnel["poems"]
        for number, row in enumerate(poem_rows(quatrains, self.seed)):
            yield {"id": f"{name}/{number}", "source": name} | row


def _nothing(name: str, report: ReadReport) -> DataError:
    why = ", ".join(f"{reason} {count}" for reason, count in report.bad.items())
    return DataError(
        tr(f"nothing of {name} could be read: {why}", f"{name} 中没有一行可读:{why}"),
        tr("name its kind, columns or encoding: --kind, --columns, --encoding, or 'about' in a recipe",
           "请用 --kind、--columns、--encoding 或配方中的 about 指定类型、列与编码"),
    )  # fmt: skip


def _valid(name: str) -> str:
    """A name that UTF-8 can hold: a file's may be any bytes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _told(report: ReadReport) -> dict[str, Any]:
    """Counts and one hash over the names and contents of all files."""
    digest = hashlib.sha256()
    encodings: Counter[str] = Counter()
    for file in report.read:
        digest.update(f"{_valid(file.name)}\0{file.sha256}\n".encode())
        encodings.update([file.encoding] if file.encoding else [])
    return {
        "files": report.files,
        "rows": report.rows,
        "bytes": report.bytes,
        "sha256": digest.hexdigest() if report.read else None,
        "encodings": dict(encodings.most_common()),
        "undecodable_bytes": report.undecodable_bytes,
        "bad": dict(sorted(report.bad.items())),
        "passed_over": report.passed_over,
    }
