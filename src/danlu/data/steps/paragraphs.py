"""Repeated paragraphs: those that an earlier row has already are taken out, such as notices and teasers of a site.

Short ones stay, and so does what is laid out like code: poems share lines and programs share clauses for good reason.
Rows with `messages` are left whole; a conversation without one of its turns is none.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import xxhash
from pydantic import NonNegativeInt, PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.data.dedup import corpus_rows, first_equal
from danlu.data.sources import Row
from danlu.data.step import Drop, Keys, Settled

__all__ = ["Config", "Step"]

_BREAKS = {"paragraph": re.compile(r"(\n(?:[ \t\r]*\n)+)"), "line": re.compile(r"(\n+)")}
_CODE = re.compile(r"^[ \t]|[{};]$", re.MULTILINE)  # Chinese paragraphs begin with wide spaces, which are not meant


class Config(Base):
    """What is compared, and how much of a row has to stay."""

    unit: Literal["paragraph", "line"] = doc("paragraph", "a paragraph ends at an empty line, a line at its end", "paragraph 以空行分段，line 以换行分段")  # fmt: skip
    shortest: PositiveInt = doc(100, "characters, white space aside, from which on a paragraph is compared", "段落达到多少字符（不计空白）才参与比较")  # fmt: skip
    least: NonNegativeInt = doc(50, "characters that have to stay of a row that lost something", "删去重复段落后一行至少要剩下多少字符")  # fmt: skip


class Step:
    """Keys of N rows: count int64 [N] of the paragraphs compared, hash uint64 [P, 1], xxh3_64 of each of them."""

    def __init__(self, config: Config) -> None:
        self.config, self.breaks = config, _BREAKS[config.unit]

    def keys(self, rows: Sequence[Row]) -> Keys:
        found, counts = [], []
        for row in rows:
            hashes = [xxhash.xxh3_64_intdigest(bare) for _, bare in self._compared(self._pieces(row))]
            found += hashes
            counts.append(len(hashes))
        return {"count": np.array(counts, np.int64), "hash": np.array(found, np.uint64).reshape(-1, 1)}

    def _pieces(self, row: Row) -> list[str]:
        """Paragraphs at even places, what separates them at odd ones."""
        return [] if "messages" in row or "text" not in row else self.breaks.split(row["text"])

    def _compared(self, pieces: list[str]) -> list[tuple[int, bytes]]:
        """Place and bare content of the paragraphs that are compared."""
        found = []
        for place in range(0, len(pieces), 2):
            piece = pieces[place]
            if len(piece) >= self.config.shortest:
                bare = "".join(piece.split())
                if len(bare) >= self.config.shortest and not _CODE.search(piece):
                    found.append((place, bare.encode("utf-8", "surrogatepass")))
        return found

    def decide(self, parts: Sequence[Keys]) -> list[np.ndarray]:
        """Of each paragraph compared whether an earlier row has it."""
        first = first_equal([part["hash"] for part in parts])
        counts = np.concatenate([part["count"] for part in parts] or [np.zeros(0, np.int64)])
        owners = np.repeat(np.arange(len(counts)), counts)
        again = owners[first] < owners
        return np.split(again, corpus_rows([len(part["hash"]) for part in parts])[1:-1]) if len(parts) else []

    def settle(self, rows: Sequence[Row], decision: np.ndarray, tally: Counter[str]) -> list[Settled]:
        settled: list[Settled] = []
        start = 0
        for row in rows:
            pieces = self._pieces(row)
            places = [place for place, _ in self._compared(pieces)]
            gone = {place for place, again in zip(places, decision[start:], strict=False) if again}
            start += len(places)
            settled.append(self._without(row, pieces, gone, tally) if gone else row)
        return settled

    def _without(self, row: Row, pieces: list[str], gone: set[int], tally: Counter[str]) -> Row | Drop:
        tally["paragraphs_removed"] += len(gone)
        tally["characters_removed"] += sum(len(pieces[place]) for place in gone)
        stay = [place for place in range(0, len(pieces), 2) if place not in gone]
        text = "".join(part for place in stay for part in pieces[place : place + 2]).strip("\n")
        if len("".join(text.split())) < self.config.least:
            return Drop("only_repeats", f"{len(gone)}")
        return {**row, "text": text}
