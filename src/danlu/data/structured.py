"""Rows of columns: jsonl, JSON and csv."""

import csv
from collections.abc import Iterator
from typing import Any

import orjson

from danlu.data.content import Content, FoundRow
from danlu.data.elements import Elements
from danlu.data.faults import RAW_LIMIT, Fault

__all__ = ["read_csv", "read_json", "read_jsonl"]


def read_jsonl(content: Content) -> Iterator[FoundRow]:
    loads, number = orjson.loads, 0
    for line in _byte_lines(content.utf8(), content.limit):
        number += 1
        if isinstance(line, Fault):
            yield number, line, line.raw
            continue
        try:
            row = loads(line)
        except (orjson.JSONDecodeError, RecursionError):
            if not line.strip():
                continue
            row = content.loads(line, number)
        yield number, row, line


def _byte_lines(chunks: Iterator[bytes], limit: int) -> Iterator[bytes | Fault]:
    carry: list[bytes] = []
    size = 0
    for chunk in chunks:
        lines = chunk.split(b"\n")
        last = lines.pop()
        for line in lines:
            whole = line
            if carry:
                whole = b"".join((*carry, line))
                size += len(line)
                carry = []
            else:
                size = len(line)
            yield Fault("too_long", str(limit), whole) if size > limit else whole
            size = 0
        size += len(last)
        if size <= limit or not carry:
            carry.append(last if size <= limit else last[:RAW_LIMIT])
    if size:
        yield Fault("too_long", str(limit), b"".join(carry)) if size > limit else b"".join(carry)


def read_json(content: Content) -> Iterator[FoundRow]:
    """Each element of an array; an object is one row, or, when it lacks the columns, each of its values is a row.

    An object larger than the limit of a row can only be one of rows.
    """
    elements = Elements(content.utf8(), content.limit)
    held: list[tuple[str, Any, bytes]] = []
    size = 0
    for number, element in enumerate(elements, 1):
        raw = element.raw if isinstance(element, Fault) else element
        if elements.outer == b"[":
            yield number, element if isinstance(element, Fault) else content.loads(element.strip(), number), raw
            continue
        held.append((*_pair(content, element, number), raw))
        size += len(raw)
        if size > content.limit:
            yield from ((number - len(held) + place, value, raw) for place, (_, value, raw) in enumerate(held, 1))
            held = []
    if elements.outer == b"{" and size <= content.limit:
        yield from _object(held, content.columns)


def _pair(content: Content, element: bytes | Fault, number: int) -> tuple[str, Any]:
    """Key and value of an object's element; the value is a Fault when it cannot be read."""
    if isinstance(element, Fault):
        return "", element
    row = content.loads(b"{" + element + b"}", number)
    if isinstance(row, dict) and len(row) != 1:
        row = Fault("not_json", "a comma too many", element)
    return ("", row) if isinstance(row, Fault) else next(iter(row.items()))


def _object(pairs: list[tuple[str, Any, bytes]], columns: frozenset[str]) -> Iterator[FoundRow]:
    whole = {key: value for key, value, _ in pairs}
    is_row = columns <= set(whole) if columns else not whole.keys().isdisjoint(("text", "messages"))
    if pairs and not is_row and all(isinstance(value, dict | Fault) for _, value, _ in pairs):
        yield from ((number, value, raw) for number, (_, value, raw) in enumerate(pairs, 1))
    else:
        fault = next((value for _, value, _ in pairs if isinstance(value, Fault)), None)
        yield 1, fault or whole, b"{" + b",".join(raw for _, _, raw in pairs) + b"}"


class _Lines:
    """Lines of a text for `csv`, which may fail and go on: `held` are those of the record begun."""

    def __init__(self, content: Content) -> None:
        self._pieces, self._limit = content.strings(), content.limit
        self._lines: list[str] = []
        self._carry, self._next, self._over = "", 0, False
        self.number, self.held, self._size = 0, list[str](), 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        while self._next >= len(self._lines):
            self._more()
        line = self._lines[self._next]
        self._next += 1
        self.number += 1
        if not self._over:
            self.held.append(line)
        self._size += len(line) + 1
        if self._size > self._limit:
            raise Fault("too_long", str(self._limit))
        return line + "\n"

    def _more(self) -> None:
        """The lines of the next piece; one too long is kept only in its beginning, and raises."""
        for piece in self._pieces:
            self._lines = (self._carry + piece).replace("\r\n", "\n").split("\n")
            self._carry, self._next = self._lines.pop(), 0
            if len(self._carry) > self._limit:
                self._drop_line()
            if self._lines:
                return
        if not self._carry:
            raise StopIteration
        self._lines, self._next, self._carry = [self._carry], 0, ""

    def _drop_line(self) -> None:
        """Pass over the rest of a line too long; its beginning, one character too long, makes the fault."""
        beginning = self._carry[: self._limit + 1]
        self._carry = ""
        for piece in self._pieces:
            _, found, rest = piece.partition("\n")
            if found:
                self._carry = rest
                break
        self._lines.append(beginning)

    def raw(self) -> bytes:
        """The beginning of the record."""
        return "\n".join(self.held)[:RAW_LIMIT].encode()[:RAW_LIMIT]

    def begin(self) -> None:
        self.held, self._size = [], 0


def read_csv(content: Content) -> Iterator[FoundRow]:
    csv.field_size_limit(max(csv.field_size_limit(), content.limit))
    lines = _Lines(content)
    try:
        first = next(lines)
    except StopIteration:
        return
    delimiter = "\t" if content.base.endswith(".tsv") else max(",;\t|", key=first.count)
    names: list[str] | None = None
    reader = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    while True:
        number = lines.number + (names is not None)
        try:
            cells = next(reader, None)
        except (csv.Error, Fault) as error:
            fault = error if isinstance(error, Fault) else Fault("bad_csv", str(error))
            if names is None or fault.reason not in ("bad_csv", "too_long"):
                raise fault from None
            yield number, Fault(fault.reason, fault.detail, lines.raw()), b""
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            lines.begin()
            continue
        if cells is None:
            return
        if names is None:
            names = _header(cells)
        elif cells:
            if len(cells) == len(names):
                yield number, dict(zip(names, cells, strict=True)), b""
            else:
                yield number, Fault("wrong_width", f"{len(cells)} / {len(names)}", lines.raw()), b""
        lines.begin()


def _chain(first: str, lines: _Lines) -> Iterator[str]:
    yield first
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        yield line


def _header(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not any(names) or len(set(names)) < len(names):
        raise Fault("bad_csv", "the header has two columns of one name, or none")
    return names
