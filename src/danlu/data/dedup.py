"""Duplicates: hashes of contents, the first of equal ones, what becomes of the others."""

import hashlib
import mmap
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from danlu.data.sources import Row
from danlu.data.step import Drop, Settled

__all__ = ["Deduplicator", "content_hash", "corpus_rows", "first_equal", "release", "settle_copies"]

_SHARES = 16  # of all hashes, by their first bits; each is sorted alone, which bounds the memory


def content_hash(text: str, seed: int | None = None) -> str:
    """32 hex digits of a text's BLAKE2b hash; a seed gives another, unrelated family of hashes."""
    salt = b"" if seed is None else b"seed" + seed.to_bytes(12, "little", signed=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, salt=salt).hexdigest()


class Deduplicator:
    """Remembers 16 bytes of each text, so that a corpus need not fit into memory."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, text: str) -> bool:
        """True the first time a text is shown. Texts differing only in white space count as one."""
        digest = bytes.fromhex(content_hash("".join(text.split())))
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True


def corpus_rows(lengths: Sequence[int]) -> NDArray[np.int64]:
    """int64 [parts + 1]: the number within the corpus of the first row of each part, and of all rows."""
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def first_equal(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.int64]:
    """int64 [N]: of each hash the place of the first that equals it, in all parts one after another.

    parts: uint64 [n, words], hashes of one or two words, memory-mapped perhaps. Beyond the result, memory for about a
    sixteenth of all hashes is used.
    """
    starts = corpus_rows([len(part) for part in parts])
    found = np.arange(starts[-1])
    for share in range(_SHARES):
        places, hashes = [], []
        for start, part in zip(starts, parts, strict=False):
            here = np.flatnonzero(part[:, 0] >> np.uint64(60) == share)
            places.append(start + here)
            hashes.append(part[here])
        if not places:
            continue
        place, value = np.concatenate(places), np.concatenate(hashes)
        order = np.lexsort(value.T)  # stable: equal hashes stay in the order of the corpus
        new = np.ones(len(order), bool)
        new[1:] = (value[order[1:]] != value[order[:-1]]).any(axis=1)
        found[place[order]] = place[order][np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return found


def release(arrays: Iterable[np.ndarray]) -> None:
    """Let the system forget which pages of memory-mapped files this process has touched; they can be read again.

    Else a process seems to hold, at last, all the files that it has looked into here and there.
    """
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and getattr(array, "mode", "") == "r" and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def settle_copies(rows: Sequence[Row], decision: np.ndarray, reason: str, tally: Counter[str]) -> list[Settled]:
    """Rows whose decision is -1 stay; the others are dropped, the detail naming the row of the corpus they repeat."""
    tally["kept"] += int((decision < 0).sum())
    return [row if copy < 0 else Drop(reason, f"#{copy}") for row, copy in zip(rows, decision.tolist(), strict=True)]
