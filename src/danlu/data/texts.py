"""Text in, documents out: whole files, lines or paragraphs, each no longer than a bound."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

__all__ = ["Document", "SplitBy", "documents", "lines_of", "untagged"]

SplitBy = Literal["file", "line", "blank"]
_PEOPLES_DAILY = re.compile(r"\d{8}-\d\d-\d{3}-\d{3}")  # day, page, article, paragraph
_OPENS, _CLOSES = "([{“‘", ".,;:?!)]}%”’"


class Document(NamedTuple):
    """A text, the number of the line it begins at (0: a whole file), and which part of a longer one it is (0: all of it)."""

    number: int
    text: str
    part: int = 0


def documents(pieces: Iterable[str], split: SplitBy, limit: int) -> Iterator[Document]:
    """The documents of a text that comes in pieces.

    One longer than `limit` bytes of UTF-8 is cut after a line where there is one in the latter half, else between two characters.
    """
    if split == "file":
        yield from _cut(pieces, 0, limit)
    elif split == "line":
        yield from lines_of(pieces, limit)
    else:
        yield from _paragraphs(pieces, limit)


def lines_of(pieces: Iterable[str], limit: int) -> Iterator[Document]:
    """The lines without their ends, empty ones too."""
    number, part, carry = 0, 0, ""
    for piece in pieces:
        found = (carry + piece).splitlines(keepends=True)
        # the last may go on in the next piece, and '\r' may be half of '\r\n'
        carry = found.pop() if found and (found[-1].splitlines()[0] == found[-1] or found[-1][-1] == "\r") else ""
        for line in found:
            number += 1
            text = line.splitlines()[0] if len(line) < 3 else line[: -1 - line.endswith("\r\n")]
            yield from _parts_of_line(text, number, limit, part)
            part = 0
        if len(carry) > limit // 4:  # else it cannot be too long
            for document in _cut([carry], number + 1, limit, part, keep=True):
                if document.part < 0:
                    carry = document.text
                else:
                    part = document.part
                    yield document
    if carry:
        yield from _parts_of_line(carry.splitlines()[0], number + 1, limit, part)


def _parts_of_line(text: str, number: int, limit: int, part: int) -> Iterator[Document]:
    if not part and len(text) * 4 <= limit:
        yield Document(number, text)
    else:
        yield from _cut([text], number, limit, part)


def _paragraphs(pieces: Iterable[str], limit: int) -> Iterator[Document]:
    """Lines between empty ones, joined by '\\n'."""
    held: list[str] = []
    size, first, part = 0, 0, 0
    for line in lines_of(pieces, limit):
        length = _size(line.text) + 1
        ends = not line.part and not line.text.strip()
        if held and (ends or size + length > limit):
            part += not ends or part > 0
            yield Document(first, "\n".join(held), part)
            held, size = [], 0
        if ends:
            part = 0
            continue
        first = first if held or part else line.number
        held.append(line.text)
        size += length
    if held:
        yield Document(first, "\n".join(held), part + (part > 0))


def _cut(pieces: Iterable[str], number: int, limit: int, part: int = 0, keep: bool = False) -> Iterator[Document]:
    """Pieces joined, cut where they are too long; what remains at the end is part -1 with `keep`."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += _size(piece)
        if size <= limit:
            continue
        data = "".join(held).encode()
        start = 0
        while len(data) - start > limit:
            end = data.rfind(b"\n", start + limit // 2, start + limit) + 1 or start + limit
            while data[end] & 0xC0 == 0x80:  # within a character
                end -= 1
            part += 1
            yield Document(number, data[start:end].decode(), part)
            start = end
        held, size = [data[start:].decode()], len(data) - start
    if keep:
        yield Document(number, "".join(held), -1)
    elif held and (size or not part):
        yield Document(number, "".join(held), part + (part > 0))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def untagged(line: str) -> str:
    """The plain text of 'word/tag' tokens: of the Brown corpus and of the People's Daily corpus, in which '[a/n b/v]nt' brackets names.

    No spaces beside Chinese characters; English has none before commas and the like, and its `` '' become quotes.
    """
    out: list[str] = []
    last, quoted = "", False
    for token in line.split():
        word, slash, _ = token.rpartition("/")
        word = word if slash else token
        word = word[1:] if word.startswith("[") and len(word) > 1 else word
        if "]" in word[1:] and "/" in word:  # the end of a bracket, as in 局/n]nt/x
            word = word.partition("/")[0]
        if not word or _PEOPLES_DAILY.fullmatch(word):
            continue
        opens, closes = word == "``", word == "''"
        word = '"' if opens or closes else word
        glued = quoted or not last or closes or word[0] in _CLOSES or _wide(word[0]) or _wide(last) or last in _OPENS
        out.append(word if glued else f" {word}")
        last, quoted = word[-1], opens
    return "".join(out)


def _wide(char: str) -> bool:
    return char >= "\u2e80"
