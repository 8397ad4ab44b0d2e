"""Exact duplicates: of rows that say the same, white space aside, the first stays."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import xxhash

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.data.dedup import corpus_rows, first_equal, settle_copies
from danlu.data.sources import Row
from danlu.data.step import Keys, Settled, content

__all__ = ["Config", "Step"]


class Config(Base):
    """What counts as the same."""

    fold: bool = doc(False, "capitals and full-width forms make no difference", "不区分大小写与全角半角")


class Step:
    """Keys of N rows: hash uint64 [N, 2], xxh3_128 of the content without white space."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def keys(self, rows: Sequence[Row]) -> Keys:
        digests = b"".join(xxhash.xxh3_128_digest(self._bare(content(row))) for row in rows)
        return {"hash": np.frombuffer(digests, np.uint64).reshape(-1, 2)}

    def _bare(self, text: str) -> bytes:
        if self.config.fold:
            text = unicodedata.normalize("NFKC", text).casefold()
        return "".join(text.split()).encode("utf-8", "surrogatepass")

    def decide(self, parts: Sequence[Keys]) -> list[np.ndarray]:
        """The first row of the corpus that each row repeats, -1 for first ones."""
        first = first_equal([part["hash"] for part in parts])
        first[first == np.arange(len(first))] = -1
        return np.split(first, corpus_rows([len(part["hash"]) for part in parts])[1:-1]) if len(parts) else []

    def settle(self, rows: Sequence[Row], decision: np.ndarray, tally: Counter[str]) -> list[Settled]:
        return settle_copies(rows, decision, "duplicate", tally)
