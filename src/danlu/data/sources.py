"""Reads rows from files of many kinds, from archives, folders, standard input and Hugging Face data sets.

A row is a plain dictionary. Text files give `{"text": ...}`; rows of columns keep them all. Nothing here cleans or drops
anything: what cannot be read is an error, or goes to a quarantine with its reason, and a `ReadReport` counts it. Memory is
bounded whatever the size of a file, nothing is written, unpickled or executed.
"""

import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from danlu.core.archive import matches
from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.columns import read_hub
from danlu.data.containers import COMPRESSED, Member, Stream, base_name, is_archive, members
from danlu.data.content import Content, FoundRow
from danlu.data.encodings import check_encoding, detect
from danlu.data.faults import Bad, Fault
from danlu.data.formats import KINDS, kind_of, rows_of
from danlu.data.listing import KNOWN, files_of, root_of, unknown_in
from danlu.data.texts import SplitBy

__all__ = [
    "MAX_ROW_BYTES", "Bad", "FileRead", "ReadReport", "Row", "SplitBy", "column_names", "files_of", "read_rows",
]  # fmt: skip

Row = dict[str, Any]
MAX_ROW_BYTES = 16 << 20

_EITHER = ("text", "messages")  # what a row needs when no column is named
_PLACES = 20  # faults shown one by one; the rest is counted


@dataclass
class FileRead:
    """A file that was read to its end: what it was, and the encoding found (its texts' worst confidence, 1 is certain)."""

    name: str
    bytes: int
    mtime_ns: int
    sha256: str
    rows: int = 0
    encoding: str = ""  # '' for what is no text; several are separated by commas
    confidence: float = 1.0


@dataclass
class ReadReport:
    """What was read: counts, the files, and the places where bytes could not be decoded.

    `undecodable_bytes` counts the replaced bytes (each run of them stands as U+FFFD in the text);
    `places` holds the first few as 'file: n bytes, the first at byte 17'. `bad` counts what went to the quarantine, by
    reason; `passed_over` the files and members of no known kind (or not asked for) and the hidden ones in archives.
    """

    files: int = 0
    rows: int = 0
    undecodable_bytes: int = 0
    places: list[str] = field(default_factory=list)
    bytes: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    passed_over: int = 0
    read: list[FileRead] = field(default_factory=list)

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
    encoding: str = "auto",
    kind: str = "auto",
    take: str | None = None,
    join: str | None = None,
    report: ReadReport | None = None,
    quarantine: Callable[[Bad], None] | None = None,
    ids: bool = False,
    max_row_bytes: int = MAX_ROW_BYTES,
) -> Iterator[Row]:
    """Yield the rows of files, folders (recursively, sorted), globs, archives, '-' (standard input) and 'hf:org/name'.

    A file's kind is told by its name, or by `kind` (one of `KINDS`) for all; `take` is a glob for the files of a folder or
    the members of an archive ('**' spans folders). A text is one document with `split="file"`, the default because it never
    cuts a text in two; "line" makes every line a document, "blank" every paragraph between empty lines. One longer than
    `max_row_bytes` is cut into rows numbered by `part`; a longer row of columns is bad. A page of html is a row with
    `html: true`. `columns` names what each row must have, as 'text' or as 'text=content' to take it from the column
    `content`; without it a row needs `text` or `messages`. `join` joins a column that is a list of texts. `ids` adds an
    `id` such as 'folder/a.jsonl:17', 'a.zip!b.txt' or 'a.txt#2' (a part), the same on every machine.

    What is bad is given to `quarantine`, and reading goes on. Without it, and always for a missing path, a file that
    changes while it is read, or when nothing at all was found, raises DataError (naming file and line);
    MissingExtraError for a kind whose package is absent.
    """
    report = ReadReport() if report is None else report
    check_encoding(encoding)
    if kind != "auto" and kind not in KINDS:
        raise DataError(tr(f"unknown kind of file '{kind}'", f"未知的文件类型“{kind}”"), f"auto, {', '.join(KINDS)}")
    names = column_names(columns)
    reader = _Reader(names, split, encoding, kind, take, join, report, quarantine, ids, max_row_bytes)
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    before = report.rows + sum(report.bad.values())
    for path in several:
        yield from reader.source(str(path))
    if report.rows + sum(report.bad.values()) == before:
        where = ", ".join(str(path) for path in several)
        raise DataError(
            tr(f"no documents in {where}", f"{where} 中没有任何文档"),
            tr(
                f"give text files or folders holding {', '.join(KNOWN)}",
                f"请提供文本文件,或含有 {'、'.join(KNOWN)} 的文件夹",
            ),
        )


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


@dataclass
class _Reader:
    """How to read: `names` as danlu's name: column in the file."""

    names: dict[str, str]
    split: SplitBy
    encoding: str
    kind: str
    take: str | None
    join: str | None
    report: ReadReport
    quarantine: Callable[[Bad], None] | None
    ids: bool
    limit: int
    seen: dict[str, int] = field(
        default_factory=dict
    )  # names of files, so that ids differ when sources have equal ones

    def source(self, path: str) -> Iterator[Row]:
        if path == "-":
            self.report.files += 1
            told = FileRead("-", 0, 0, "")
            yield from self._counted(told, self._stdin(told))
        elif path.startswith("hf:"):
            self.report.files += 1
            folder = Path(path[3:].partition(":")[0])
            name = path.replace(str(folder), folder.name) if folder.is_dir() else path
            told = FileRead(name, 0, 0, "")
            yield from self._counted(told, self._checked(read_hub(path[3:]), name, path))
        else:
            for file, name in self._files(Path(path)):
                self.report.files += 1
                again = self.seen[name] = self.seen.get(name, 0) + 1
                yield from self._file(file, name if again == 1 else f"{name}@{again}")

    def _files(self, path: Path) -> Iterator[tuple[Path, str]]:
        """Each file, and its name without the folders above the source."""
        chosen = self.kind != "auto" or self.take is not None
        files = files_of(path, known=not chosen)
        root = root_of(path)
        if root is None:
            yield path, path.name
            return
        self.report.passed_over += unknown_in(path) if path.is_dir() and not chosen else 0
        for file in files:
            name = file.relative_to(root).as_posix()
            if self.take is None or not path.is_dir() or matches(name, self.take):
                yield file, name
            else:
                self.report.passed_over += 1

    def _file(self, file: Path, name: str) -> Iterator[Row]:
        try:
            with open(file, "rb") as opened:
                before = os.fstat(opened.fileno())
                told = FileRead(name, before.st_size, before.st_mtime_ns, "")
                hashed = _Hashed(opened)
                yield from self._counted(told, self._members(file, name, hashed, told, before.st_size))
                if stat.S_ISREG(before.st_mode):
                    told.sha256 = hashed.finish()
                    _unchanged(file, before)
        except OSError as error:
            fault = Fault("unreadable", f"{error.strerror or error}")
            if self.quarantine is None:
                raise fault.error(str(file)) from None
            self._bad(fault, name, str(file))

    def _counted(self, told: FileRead, rows: Iterator[Row]) -> Iterator[Row]:
        self.report.read.append(told)
        self.report.bytes += told.bytes
        for row in rows:
            self.report.rows += 1
            told.rows += 1
            yield row

    def _members(self, file: Path, name: str, hashed: "_Hashed", told: FileRead, size: int) -> Iterator[Row]:
        """The rows of a file, or of each member of an archive; a fault ends the member or, between members, the file."""
        place = str(file)
        straight = not is_archive(name) and not name.lower().endswith(COMPRESSED)
        opened = hashed.file if is_archive(name) and base_name(name).endswith(".zip") else hashed
        inside = members(opened, name, size, self._wanted)  # pyright: ignore[reportArgumentType]
        while True:
            try:
                member = next(inside, None)
            except Fault as fault:
                self._bad(fault, name, place)
                return
            if member is None:
                return
            if isinstance(member, Fault):
                self._bad(member, f"{name}!{member.detail}", f"{place}!{member.detail}")
                continue
            inner = f"!{member.name}" if member.name else ""
            try:
                yield from self._member(member, name + inner, place + inner, told, file if straight else None)
            except Fault as fault:
                self._bad(fault, name + inner, place + inner)
                if fault.reason == "bomb":
                    return

    def _wanted(self, name: str, base: str) -> bool:
        """Whether a member of an archive is read."""
        hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
        if self.take is not None:
            wanted = matches(name, self.take)
        else:
            wanted = not hidden and (self.kind != "auto" or bool(kind_of(base)) or is_archive(name))
        self.report.passed_over += not wanted
        return wanted

    def _member(self, member: Member, name: str, place: str, told: FileRead, path: Path | None) -> Iterator[Row]:
        kind = self.kind if self.kind != "auto" else kind_of(member.base) or "text"
        yield from self._content(kind, member.stream, member.base, name, place, told, path)

    def _content(
        self, kind: str, stream: Stream, base: str, name: str, place: str, told: FileRead, path: Path | None = None
    ) -> Iterator[Row]:
        def note(number: int, count: int, first: int, data: bytes) -> None:
            at = f"{place}:{number}" if number else place
            self.report.note(at, count, first, _guess(data, self.encoding))

        wanted = frozenset(self.names.values())
        content = Content(
            stream, path, base, wanted, self.split, self.encoding, self.limit, self.quarantine is None, note
        )
        yield from self._checked(rows_of(kind, content), name, place)
        if kind not in ("parquet", "pickled-table"):
            found = {*told.encoding.split(", "), content.decoder.found.encoding, *content.others} - {""}
            told.encoding = ", ".join(sorted(found))
            told.confidence = min(told.confidence, content.decoder.found.confidence)

    def _stdin(self, told: FileRead) -> Iterator[Row]:
        """Standard input is jsonl when it begins with '{', else text."""
        place = tr("standard input", "标准输入")
        stream = _Ahead(sys.stdin.buffer)
        kind = self.kind if self.kind != "auto" else "jsonl" if stream.head.lstrip()[:1] == b"{" else "text"
        try:
            yield from self._content(kind, stream, "-", "-", place, told)
        except Fault as fault:
            self._bad(fault, "-", place)

    def _checked(self, found: Iterator[FoundRow], name: str, place: str) -> Iterator[Row]:
        names, join, ids = self.names, self.join, self.ids
        for number, row, raw in found:
            plain = not names and type(row) is dict and type(row.get("text")) is str
            if plain and "messages" not in row and None not in row.values():
                checked: Row | Fault = row  # the usual one, at the usual speed
            else:
                checked = row if isinstance(row, Fault) else _checked(row, names, join, raw)
            if isinstance(checked, Fault):
                at = f":{number}" if number else ""
                self._bad(checked, name + at, place + at)
                continue
            if ids:
                at = f"{name}:{number}" if number else name
                yield {**checked, "id": f"{at}#{checked['part']}" if checked.get("part") else at}
            else:
                yield checked

    def _bad(self, fault: Fault, name: str, place: str) -> None:
        """Set it aside, or raise it."""
        if self.quarantine is None:
            raise fault.error(place) from None
        self.report.bad[fault.reason] = self.report.bad.get(fault.reason, 0) + 1
        self.quarantine(fault.bad(name))


class _Hashed:
    """Reads a file and hashes what is read, so that its hash costs no second reading."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self._hash, self._count = file, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self._hash.update(data)
        self._count += len(data)
        return data

    def seekable(self) -> bool:
        return False

    def finish(self) -> str:
        """The hash of the whole; what was not read yet (a zip's, a parquet's bytes) is read now."""
        self.file.seek(self._count)
        while self.read(1 << 20):
            pass
        return self._hash.hexdigest()


class _Ahead:
    """A stream of which the first bytes were looked at."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.head = stream, stream.read(1 << 16)
        self._rest = self.head

    def read(self, size: int) -> bytes:
        data, self._rest = (self._rest[:size], self._rest[size:]) if self._rest else (self._stream.read(size), b"")
        return data


def _checked(row: Any, names: dict[str, str], join: str | None, raw: bytes) -> Row | Fault:
    """The row under danlu's names, or what is wrong with it: a column is missing or of the wrong kind."""
    if not isinstance(row, dict):
        return Fault("not_a_row", "", raw)
    missing = next((source for source in names.values() if row.get(source) is None), None)
    if missing is None and not names and not any(row.get(name) is not None for name in _EITHER):
        missing = "text"
    if missing is not None:
        there = ", ".join(map(str, list(row)[:20]))
        return Fault("missing_column", missing, raw or _bytes(row), tr(f"it has {there}; ", f"该行有 {there};"))
    row = {name: value for name, value in row.items() if value is not None}
    row |= {name: row[source] for name, source in names.items()}
    for name, wish in (("text", str), ("messages", list)):
        if name not in row:
            continue
        value = row[name]
        if wish is str and join is not None and isinstance(value, list) and all(isinstance(one, str) for one in value):
            row[name] = join.join(value)
        elif not isinstance(value, wish):
            got = f"'{name}' should be {wish.__name__}, not {type(value).__name__}"
            return Fault("wrong_kind", got, raw or _bytes(row))
    return row


def _bytes(row: Row) -> bytes:
    return orjson.dumps(row, default=repr, option=orjson.OPT_NON_STR_KEYS)


def _unchanged(file: Path, before: os.stat_result) -> None:
    try:
        after = os.stat(file)
        same = (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    except OSError:
        same = False
    if not same:
        raise DataError(
            tr(f"{file} changed while it was being read", f"{file} 在读取过程中被改动了"),
            tr("read it again when nothing writes to it", "请在没有程序写入它时重新读取"),
        )


def _guess(data: bytes, encoding: str) -> str:
    """A hint when another encoding fits better than the one that was named."""
    other = detect(data, complete=False).encoding if encoding != "auto" else ""
    if other in ("", "ascii", encoding) or (other == "utf-8" and encoding.lower().startswith("utf")):
        return ""
    return tr(f" (it reads as {other}: --encoding {other})", f"(按 {other} 可以读通:--encoding {other})")
