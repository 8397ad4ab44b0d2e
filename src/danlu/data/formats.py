"""The kinds of files that rows are read from: each a function from a file's bytes to rows and faults, in bounded memory.

All yield `(number, row, raw)`: the row's line or place in the file, counted from 1 (0: the file is one row); the row, or
the Fault in its place; and its bytes as far as they are at hand.
"""

import re
from collections.abc import Callable, Iterator

from danlu.data.columns import read_parquet
from danlu.data.content import TABLE_LIMIT, Content, FoundRow, said_decoder
from danlu.data.encodings import detect
from danlu.data.faults import Fault
from danlu.data.mail import read_mail
from danlu.data.pickled import read_pickle
from danlu.data.structured import read_csv, read_json, read_jsonl
from danlu.data.texts import documents, lines_of, untagged

__all__ = ["KINDS", "SUFFIXES", "kind_of", "rows_of"]

SUFFIXES = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown"), "text"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **{".json": "json", ".parquet": "parquet", ".eml": "mail"},
}

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)


def kind_of(base: str) -> str:
    """The kind of a file by its name without what compresses it; '' when it is none of the known."""
    return SUFFIXES.get(f".{base.rpartition('.')[2]}", "") if "." in base else ""


def rows_of(kind: str, content: Content) -> Iterator[FoundRow]:
    """The rows of a file of that kind (one of `KINDS`)."""
    return _READERS[kind](content)


def _text(content: Content) -> Iterator[FoundRow]:
    return _documents(content, content.strings())


def _tagged(content: Content) -> Iterator[FoundRow]:
    lines = (untagged(line.text) + "\n" for line in lines_of(content.strings(), content.limit))
    return _documents(content, lines)


def _documents(content: Content, pieces: Iterator[str]) -> Iterator[FoundRow]:
    """Rows of text; a file of NULs and the like is undecodable when its text is mostly lost."""
    if missing := ", ".join(sorted(content.columns - {"text"})):
        raise Fault("missing_column", missing)
    for number, text, part in documents(pieces, content.split, content.limit):
        if not content.lenient and content.decoder.lost and text.count("\ufffd") * 100 > len(text):
            yield number, Fault("undecodable", content.decoder.found.encoding, text.encode()), b""
        elif text.strip():
            yield number, {"text": text, "part": part} if part else {"text": text}, b""


def _html(content: Content) -> Iterator[FoundRow]:
    """One row with the page as it is, marked `html: true`; its own word on its encoding counts where UTF-8 fails."""
    raw = content.whole()
    found = detect(raw) if content.encoding == "auto" else None
    if found and not (found.confidence == 1 and found.encoding.startswith(("utf-", "ascii"))):
        said = _CHARSET.search(raw, 0, 4096)
        content.decoder = said_decoder(said[1].decode() if said else "") or content.decoder
    text = content.decoder.feed(raw, final=True)
    if content.decoder.lost:
        if not content.lenient and text.count("\ufffd") * 100 > len(text):
            raise Fault("undecodable", content.decoder.found.encoding, raw)
        content.note(0, content.decoder.lost, content.decoder.first, raw)
    if text.strip():
        yield 0, {"text": text, "html": True}, raw


def _pickled(content: Content) -> Iterator[FoundRow]:
    table = read_pickle(content.whole(TABLE_LIMIT))
    yield from ((number, row, b"") for number, row in enumerate(table, 1))


_READERS: dict[str, Callable[[Content], Iterator[FoundRow]]] = {
    "text": _text,
    "html": _html,
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
    "mail": read_mail,
    "tagged": _tagged,
    "pickled-table": _pickled,
}
KINDS = tuple(_READERS)
