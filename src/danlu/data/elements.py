"""Splits a JSON text of any size into the elements of its outermost array or object, in bounded memory.

No JSON library here reads a large array piece by piece at speed, so the text is cut first: NumPy finds quotes, brackets and
commas, sums tell what is inside a string and how deep each bracket is (as simdjson does, Langdale and Lemire, 2019), and
a comma at depth 1 ends an element. What an element is, `orjson` says.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from danlu.data.faults import RAW_LIMIT, Fault

__all__ = ["Elements"]

# 1 quote, 3 comma, 4 opens, 5 closes
_KINDS = bytes({34: 1, 44: 3, 91: 4, 123: 4, 93: 5, 125: 5}.get(byte, 0) for byte in range(256))
_SPACE = b" \t\n\r"


class Elements:
    """The elements of one JSON text that comes in `chunks` of bytes (UTF-8).

    Iterating gives each element's bytes, for an object `"key": value` as it stands, or a Fault for one longer than `limit`
    bytes; `outer` is b"[" or b"{" from the first element on. Raises Fault `not_json` when the text is no array or
    object, when it does not end, or when something follows.
    """

    def __init__(self, chunks: Iterable[bytes], limit: int) -> None:
        self._chunks, self._limit = iter(chunks), limit
        self.outer = b""
        self._depth, self._in_string, self._slashes = 0, False, 0
        self._parts: list[bytes] = []
        self._size = 0

    def __iter__(self) -> Iterator[bytes | Fault]:
        rest, count, closed = self._begin(), 0, False
        while rest is not None:
            ends, close = self._boundaries(rest)
            start = 0
            for end in ends:
                if self._size or end - start > self._limit:
                    self._hold(rest[start:end])
                    yield self._element()
                else:
                    yield rest[start:end]
                start = end + 1
            count += len(ends)
            if close >= 0:
                self._hold(rest[start:close])
                if count or self._size > RAW_LIMIT or b"".join(self._parts).strip(_SPACE):
                    yield self._element()
                if rest[close : close + 1] != (b"]" if self.outer == b"[" else b"}"):
                    raise Fault("not_json", "brackets do not match", rest[close:])
                closed = True
                self._end(rest[close + 1 :])
                break
            self._hold(rest[start:])
            rest = next(self._chunks, None)
        if not closed:
            raise Fault("not_json", "it does not end", b"".join(self._parts))

    def _begin(self) -> bytes | None:
        """The first chunk from its opening bracket on."""
        for chunk in self._chunks:
            if text := chunk.lstrip(_SPACE):
                self.outer = text[:1]
                if self.outer not in (b"[", b"{"):
                    raise Fault("not_json", "neither an array nor an object", text)
                self._depth = 1
                return text[1:]
        raise Fault("not_json", "it is empty")

    def _end(self, rest: bytes) -> None:
        for chunk in (rest, *self._chunks):
            if text := chunk.strip(_SPACE):
                raise Fault("not_json", "something follows its end (for one object a line use kind: jsonl)", text)

    def _hold(self, piece: bytes) -> None:
        """Keep what belongs to the element begun; of one too long only its beginning."""
        if self._size <= self._limit or not self._size:
            self._parts.append(piece)
            if self._size + len(piece) > self._limit:
                self._parts = [b"".join(self._parts)[:RAW_LIMIT]]
        self._size += len(piece)

    def _element(self) -> bytes | Fault:
        whole, size = b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        return Fault("too_long", str(self._limit), whole) if size > self._limit else whole

    def _boundaries(self, chunk: bytes) -> tuple[list[int], int]:
        """Where elements end within the chunk, and where the outermost bracket closes (-1 if it does not)."""
        if not chunk:
            return [], -1
        kinds = np.frombuffer(chunk.translate(_KINDS), np.int8)
        at = np.flatnonzero(kinds != 0)
        kind = kinds[at]
        quote = kind == 1
        for place in self._escaped(chunk, at, quote):
            quote[place] = False
        strings = np.cumsum(quote) + self._in_string
        outside = (strings & 1) == 0  # a closing quote counts as outside, an opening one as inside
        self._in_string = bool(strings[-1] & 1) if strings.size else self._in_string
        keep = outside & (kind >= 3)
        at, kind = at[keep], kind[keep]
        depth = np.cumsum((kind == 4).astype(np.int64) - (kind == 5)) + self._depth
        closes = np.flatnonzero((kind == 5) & (depth == 0))
        until = int(closes[0]) if closes.size else len(at)
        self._depth = int(depth[-1]) if depth.size else self._depth
        ends = at[:until][(kind[:until] == 3) & (depth[:until] == 1)]
        return ends.tolist(), int(at[until]) if closes.size else -1

    def _escaped(self, chunk: bytes, at: np.ndarray, quote: np.ndarray) -> list[int]:
        """Which of the places `at` are quotes after an odd number of backslashes, some of them in the chunk before."""
        places = np.flatnonzero(quote)
        shift = self._slashes & 1  # an even number changes nothing
        text = b"\\" * shift + chunk
        data = np.frombuffer(text, np.uint8)
        before = at[places] + shift - 1
        places, before = places[before >= 0], before[before >= 0]
        after = data[before] == 92
        found = []
        for place, end in zip(places[after].tolist(), before[after].tolist(), strict=True):
            start = end
            while start >= 0 and text[start] == 92:
                start -= 1
            if (end - start) % 2:
                found.append(place)
        run = len(chunk) - len(chunk.rstrip(b"\\"))
        self._slashes = run if run < len(chunk) else self._slashes + run
        return found
