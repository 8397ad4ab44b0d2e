"""Reads documents from txt, jsonl and parquet files, from folders and from standard input.

A row is a plain dictionary. Text files give `{"text": ...}`; jsonl and parquet rows keep all their
columns. Nothing here cleans or drops anything: what cannot be decoded is counted in a `ReadReport`.
"""

import codecs
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from danlu.core.errors import DataError, MissingExtraError
from danlu.core.i18n import tr

__all__ = ["ReadReport", "Row", "SplitBy", "column_names", "files_of", "read_rows"]

Row = dict[str, Any]
SplitBy = Literal["file", "line", "blank"]

_TEXT = (".txt", ".text", ".md")
_JSONL = (".jsonl", ".ndjson")
_PARQUET = (".parquet",)
_KNOWN = (*_TEXT, *_JSONL, *_PARQUET)
_EITHER = ("text", "messages")  # what a row needs when no column is named
_PLACES = 20  # faults shown one by one; the rest is counted


@dataclass
class ReadReport:
    """What was read: counts, and the places where bytes could not be decoded.

    `undecodable_bytes` counts the replaced bytes (each run of them stands as U+FFFD in the text);
    `places` holds the first few as 'file: n bytes, the first at byte 17'.
    """

    files: int = 0
    rows: int = 0
    undecodable_bytes: int = 0
    places: list[str] = field(default_factory=list)

    def note(self, name: str, count: int, first: int, hint: str) -> None:
        self.undecodable_bytes += count
        if len(self.places) < _PLACES:
            at = tr(f"{name}: {count} undecodable bytes, the first at byte {first}{hint}",
                    f"{name}:{count} 个字节无法解码,第一个在第 {first} 字节处{hint}")  # fmt: skip
            self.places.append(at)


def read_rows(
    paths: Path | str | Sequence[Path | str],
    *,
    columns: Sequence[str] | None = None,
    split: SplitBy = "file",
    encoding: str = "utf-8",
    report: ReadReport | None = None,
) -> Iterator[Row]:
    """Yield the rows of files, of folders (recursively, known suffixes, in sorted order) and of '-', standard input.

    A text file is one document with `split="file"`, the default because it never cuts a text in two;
    "line" makes every line a document, "blank" every paragraph between empty lines. `columns` names
    what each row must have, as 'text' or as 'text=content' to take it from the column `content`;
    without it a row needs `text` or `messages`.

    Raises DataError for a missing path, a row without its column (file and line are named), a column
    of the wrong kind, or when nothing at all was found; MissingExtraError for parquet without pyarrow.
    """
    report = ReadReport() if report is None else report
    reader = _Reader(column_names(columns), split, encoding, report)
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    before = report.rows
    for path in several:
        for file in [None] if str(path) == "-" else files_of(Path(path)):
            report.files += 1
            for row in reader.file(file) if file else reader.stdin():
                report.rows += 1
                yield row
    if report.rows == before:
        where = ", ".join(str(path) for path in several)
        raise DataError(
            tr(f"no documents in {where}", f"{where} 中没有任何文档"),
            tr(
                f"give text files or folders holding {', '.join(_KNOWN)}",
                f"请提供文本文件,或含有 {'、'.join(_KNOWN)} 的文件夹",
            ),
        )


def files_of(path: Path) -> list[Path]:
    """The readable files at `path`, sorted; hidden ones are passed over. Raises DataError when there is nothing."""
    if path.is_dir():
        inside = (file for file in sorted(path.rglob("*")) if file.suffix.lower() in _KNOWN and file.is_file())
        return [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not path.exists():
        raise DataError(
            tr(f"no such file or folder: {path}", f"没有这个文件或文件夹:{path}"), tr("check the path", "请检查路径")
        )
    if path.suffix.lower() not in _KNOWN:
        raise DataError(
            tr(
                f"cannot read {path}: unknown kind of file '{path.suffix}'",
                f"无法读取 {path}:未知的文件类型“{path.suffix}”",
            ),
            tr(f"known: {', '.join(_KNOWN)}", f"可读的有:{'、'.join(_KNOWN)}"),
        )
    return [path]


def column_names(columns: Sequence[str] | None) -> dict[str, str]:
    """`['text=content', 'label']` as `{'text': 'content', 'label': 'label'}`; raises DataError for an empty name."""
    names = {}
    for column in columns or ():
        name, _, source = column.partition("=")
        if not name or (not source and "=" in column):
            raise DataError(
                tr(f"column '{column}' has no name", f"列“{column}”没有名称"),
                tr("write NAME or NAME=COLUMN_IN_THE_FILE", "请写成 名称 或 名称=文件中的列名"),
            )
        names[name] = source or name
    return names


@dataclass(frozen=True)
class _Reader:
    """How to read: `names` as danlu's name: column in the file."""

    names: dict[str, str]
    split: SplitBy
    encoding: str
    report: ReadReport

    def file(self, file: Path) -> Iterator[Row]:
        try:
            yield from self._file(file)
        except OSError as error:
            raise DataError(
                tr(f"cannot read {file}: {error.strerror or error}", f"无法读取 {file}:{error.strerror or error}"),
                tr("is it complete, and may you read it?", "文件是否完整?是否有读取权限?"),
            ) from None

    def _file(self, file: Path) -> Iterator[Row]:
        suffix = file.suffix.lower()
        if suffix in _PARQUET:
            yield from _read_parquet(file, self.names)
        elif suffix in _JSONL:
            with open(file, "rb") as lines:
                yield from self.jsonl(lines, str(file))
        else:
            yield from self.text(file.read_bytes(), str(file))

    def stdin(self) -> Iterator[Row]:
        """Standard input is jsonl when it begins with '{', else text."""
        place = tr("standard input", "标准输入")
        data = sys.stdin.buffer.read()
        if data.lstrip()[:1] == b"{":
            return self.jsonl(data.splitlines(keepends=True), place)
        return self.text(data, place)

    def text(self, data: bytes, place: str) -> Iterator[Row]:
        if missing := ", ".join(sorted(set(self.names.values()) - {"text"})):
            raise DataError(
                tr(f"{place} is plain text and has no column {missing}", f"{place} 是纯文本,没有列 {missing}"),
                tr("use jsonl for rows of several columns", "多列数据请用 jsonl"),
            )
        for part in _parts(self.decode(data, place), self.split):
            if part.strip():
                yield dict.fromkeys(self.names or ["text"], part)

    def jsonl(self, lines: Iterable[bytes], place: str) -> Iterator[Row]:
        for number, line in enumerate(lines, 1):
            text = self.decode(line, f"{place}:{number}")
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                raise DataError(
                    tr(f"{place}:{number} is not JSON: {error.msg}", f"{place}:{number} 不是合法的 JSON:{error.msg}"),
                    tr("each line must be one JSON object", "每行应是一个 JSON 对象"),
                ) from None
            yield _checked(row, self.names, f"{place}:{number}")

    def decode(self, data: bytes, place: str) -> str:
        """Decode; undecodable bytes become U+FFFD and are counted in the report."""
        try:
            return data.decode(self.encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            first = error.start
        except LookupError:
            raise DataError(
                tr(f"unknown encoding '{self.encoding}'", f"未知的编码“{self.encoding}”"),
                tr("common ones: utf-8, gb18030, utf-16", "常用的有:utf-8、gb18030、utf-16"),
            ) from None
        lost = 0

        def count(error: UnicodeError) -> tuple[str, int]:
            nonlocal lost
            assert isinstance(error, UnicodeDecodeError)
            lost += error.end - error.start
            return "\ufffd", error.end

        codecs.register_error("danlu-count", count)
        text = data.decode(self.encoding, errors="danlu-count")
        self.report.note(place, lost, first, _guess(data, self.encoding))
        return text.removeprefix("\ufeff")


def _parts(text: str, split: SplitBy) -> Iterable[str]:
    if split == "file":
        return [text]
    if split == "line":
        return text.splitlines()
    paragraphs: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip():
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    return ["\n".join(lines) for lines in paragraphs]


def _guess(data: bytes, encoding: str) -> str:
    """A hint when another common encoding reads all the bytes."""
    for other in ("utf-8", "gb18030"):
        if other != encoding and data:
            try:
                data.decode(other)
            except UnicodeDecodeError:
                continue
            return tr(f" (it reads as {other}: --encoding {other})", f"(按 {other} 可以读通:--encoding {other})")
    return ""


def _read_parquet(file: Path, names: dict[str, str]) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "data") from None
    number = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield _checked(row, names, tr(f"{file} row {number}", f"{file} 第 {number} 行"))
    except ArrowException as error:
        raise DataError(
            tr(f"cannot read {file}: {error}", f"无法读取 {file}:{error}"), tr("is the file complete?", "文件是否完整?")
        ) from None


def _checked(row: Any, names: dict[str, str], place: str) -> Row:
    """The row under danlu's names; raises DataError naming the place when a column is missing or of the wrong kind."""
    if not isinstance(row, dict):
        raise DataError(
            tr(f"{place} is not a row of columns", f"{place} 不是由列组成的一行"),
            tr('write {"text": "..."} on each line', '每行请写成 {"text": "..."}'),
        )
    for source in names.values():
        if row.get(source) is None:
            raise _missing(place, source, row)
    if not names and not any(row.get(name) is not None for name in _EITHER):
        raise _missing(place, "text", row)
    row = {name: value for name, value in row.items() if value is not None}
    row |= {name: row[source] for name, source in names.items()}
    for name, kind in (("text", str), ("messages", list)):
        if name in row and not isinstance(row[name], kind):
            got = type(row[name]).__name__
            raise DataError(
                tr(f"{place}: column '{name}' should be {kind.__name__}, not {got}",
                   f"{place}:列“{name}”应为 {kind.__name__},而不是 {got}"),
                tr("correct that row, or name another column with --columns", "请改正这一行,或用 --columns 指定别的列"),
            )  # fmt: skip
    return row


def _missing(place: str, column: str, row: Row) -> DataError:
    there = ", ".join(row)
    return DataError(
        tr(f"{place} has no column '{column}'", f"{place} 没有列“{column}”"),
        tr(
            f"it has: {there}; name another with --columns text=COLUMN",
            f"该行有:{there};可用 --columns text=列名 指定别的列",
        ),
    )
