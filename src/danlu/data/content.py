"""The bytes of one file on their way to becoming rows: decoded piece by piece, and told about."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from danlu.data.containers import Stream
from danlu.data.encodings import SAMPLE, Decoder, Found, detect
from danlu.data.faults import RAW_LIMIT, Fault
from danlu.data.texts import SplitBy

__all__ = ["TABLE_LIMIT", "Content", "FoundRow", "said_decoder"]

FoundRow = tuple[int, Any, bytes]  # its place in the file, the row or a Fault, its bytes as far as they are at hand

_CHUNK = 1 << 20
TABLE_LIMIT = 16  # a table that has to be read as a whole may take so many times `limit`


@dataclass
class Content:
    """The bytes of one file or member, and how to read them.

    `path` is set when it is a file by itself; `base` is its name in lower case; `columns` are those wanted, by their names in the file. `lenient` reads what is undecodable
    with U+FFFD in its place (told to `note` with the number of the row), else it is a fault.
    """

    stream: Stream
    path: Path | None
    base: str
    columns: frozenset[str]
    split: SplitBy
    encoding: str
    limit: int
    lenient: bool
    note: Callable[[int, int, int, bytes], None]  # number of the row, bytes lost, the first of them, the bytes
    decoder: Decoder = field(init=False)
    others: set[str] = field(default_factory=set)  # encodings of single rows that differ from the file's

    def __post_init__(self) -> None:
        self.decoder = Decoder(self.encoding)

    def strings(self) -> Iterator[str]:
        """The text, piece by piece."""
        head = b""
        while data := self.stream.read(_CHUNK):
            head = head or data
            if text := self.decoder.feed(data):
                yield text
        if text := self.decoder.feed(b"", final=True):
            yield text
        if self.decoder.lost:
            self.note(0, self.decoder.lost, self.decoder.first, head)

    def whole(self, times: int = 1) -> bytes:
        """All bytes; Fault when there are more than `times` the limit."""
        data, limit = bytearray(), times * self.limit
        while piece := self.stream.read(_CHUNK):
            data += piece
            if len(data) > limit:
                raise Fault("too_long", str(limit), bytes(data[:RAW_LIMIT]))
        return bytes(data)

    def utf8(self) -> Iterator[bytes]:
        """The bytes in UTF-8. What is UTF-8 already is passed on unchecked: it may hold undecodable bytes."""
        first = self._sample()
        found = detect(first, complete=len(first) < SAMPLE) if self.encoding == "auto" else self.decoder.found
        if found.encoding.lower() in ("utf-8", "utf8", "ascii" if self.encoding == "auto" else "utf-8"):
            self.decoder.found = Found("utf-8", found.confidence)
            yield first.removeprefix(b"\xef\xbb\xbf")
            while data := self.stream.read(_CHUNK):
                yield data
            return
        self.decoder = Decoder(found.encoding)
        self.decoder.found = found
        yield self.decoder.feed(first).encode()
        while data := self.stream.read(_CHUNK):
            yield self.decoder.feed(data).encode()
        yield self.decoder.feed(b"", final=True).encode()
        if self.decoder.lost:
            self.note(0, self.decoder.lost, self.decoder.first, first)

    def _sample(self) -> bytes:
        data = b""
        while len(data) < SAMPLE and (more := self.stream.read(_CHUNK)):
            data += more
        return data

    def loads(self, raw: bytes, number: int) -> Any:
        """The JSON value, or a Fault."""
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            fault = Fault("not_json", error.msg.removeprefix("unexpected "), raw)
        except RecursionError:
            return Fault("not_json", "nested too deep", raw)
        try:
            raw.decode()
            return fault
        except UnicodeDecodeError:
            pass
        found = detect(raw, start=False) if self.encoding == "auto" else Found("utf-8", 0.0)
        if found.encoding in ("cp1252", "latin-1"):  # one broken byte beside a letter looks like that
            found = Found("utf-8", 0.0)
        if found.encoding == "utf-8" and not self.lenient:
            return Fault("undecodable", "utf-8", raw)
        decoder = Decoder(found.encoding)
        text = decoder.feed(raw, final=True)
        self.others.add(found.encoding)
        if decoder.lost:
            self.note(number, decoder.lost, decoder.first, raw)
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return Fault("not_json", error.msg.removeprefix("unexpected "), raw)


def said_decoder(name: str) -> Decoder | None:
    """A decoder for the charset that a page or a mail names, if there is one; gb2312 means its superset."""
    wish = {"gb2312": "gb18030", "gbk": "gb18030", "iso-8859-1": "cp1252", "us-ascii": "auto", "utf8": "utf-8"}
    try:
        return Decoder(wish.get(name.lower(), name)) if name else None
    except Exception:  # whatever a stranger's name does to the codec registry, it names nothing
        return None
