"""MinHash and locality-sensitive hashing: which texts share most of their shingles, without comparing each with each.

A text becomes the set of its shingles (n words or characters in a row), the set becomes `num_perm` minima (Broder 1997,
"On the resemblance and containment of documents"), and rows that agree in all minima of at least one band are compared
(Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3). All is NumPy over whole batches of texts.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SMALL",
    "Hashes",
    "Pairs",
    "Signatures",
    "band_keys",
    "bucket_edges",
    "choose_bands",
    "compact",
    "estimate",
    "jaccard",
    "shingle_hashes",
    "signatures",
]

Hashes = NDArray[np.uint32]
Signatures = NDArray[np.uint32] | NDArray[np.uint8]
Pairs = NDArray[np.int64]  # [E, 2]: an earlier row, a later row

_PIECE = 1 << 17  # characters that are looked at together: the arrays stay in the cache, and long texts in bounds
_BLOCK = 1 << 16  # shingles that are permuted together
_SEPARATOR, _LETTER, _WHOLE = 0, 1, 2  # what a character is: none of a word's, a part of a word, a token by itself
# Scripts that put no spaces between words: marks of iteration, kana, Han, Thai, Lao, Tibetan, Myanmar, Khmer
_UNSPACED = (
    (0x3005, 0x3007), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
    (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF),
)  # fmt: skip
_HAN_PLANES = (0x20000, 0x32FFF)
_FACTOR = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_LEADERS = 1000  # of a bucket, at most
SMALL = 50  # rows of a bucket up to which each is compared with each


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: every bit of the result depends on every bit of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _alphabet() -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Of every code point its kind and a random number: the same for capitals and full-width forms, 0 for separators."""
    kind, folded = np.zeros(0x110000, np.uint8), np.arange(0x110000, dtype=np.uint64)
    for code in range(0x20000):
        character = chr(code)
        if unicodedata.category(character)[0] in "LMN":
            plain = unicodedata.normalize("NFKC", character).casefold()
            folded[code] = ord(plain) if len(plain) == 1 else code
            kind[code] = _LETTER
    for first, last in _UNSPACED:
        kind[first : last + 1] *= _WHOLE
    kind[_HAN_PLANES[0] : _HAN_PLANES[1] + 1] = _WHOLE
    return kind, np.where(kind == _SEPARATOR, np.uint64(0), _mix(folded + np.uint64(_FACTOR)))


@cache
def _powers() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The powers of `_FACTOR` and of its inverse, modulo 2^64."""
    bases = (_FACTOR, pow(_FACTOR, -1, 1 << 64))
    powers = [np.cumprod(np.full(2 * _PIECE + 1, base, np.uint64)) for base in bases]
    return powers[0], powers[1]


def shingle_hashes(texts: Sequence[str], words: int = 5, characters: int = 5) -> tuple[Hashes, NDArray[np.int64]]:
    """The shingles of N texts as numbers: uint32 [S], and int64 [N + 1], where those of each text begin.

    Tokens are words, and single characters of scripts without spaces; a shingle is `words` tokens from a word on,
    `characters` tokens from such a character on. Case, width, punctuation and white space make no difference. A text of
    fewer tokens has none. A word that crosses a border of 131,072 characters counts as two.
    """
    counts = np.zeros(len(texts) + 1, np.int64)
    found = [np.zeros(0, np.uint32)]
    for owners, pieces in _batches(texts):
        hashes, numbers = _shingles(pieces, words, characters)
        found.append(hashes)
        np.add.at(counts, np.asarray(owners) + 1, numbers)
    return np.concatenate(found), np.cumsum(counts)


def _batches(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Pieces of texts and the number of the text of each, about `_PIECE` characters together."""
    owners, pieces, size = [], [], 0
    for number, text in enumerate(texts):
        for start in range(0, len(text), _PIECE):
            piece = text[start : start + _PIECE]
            if pieces and size + len(piece) > _PIECE:
                yield owners, pieces
                owners, pieces, size = [], [], 0
            owners.append(number)
            pieces.append(piece)
            size += len(piece) + 1
    if pieces:
        yield owners, pieces


def _shingles(pieces: list[str], words: int, characters: int) -> tuple[Hashes, NDArray[np.int64]]:
    """The hashes of all pieces one after another, and how many each piece has."""
    codes = np.frombuffer("\n".join(pieces).encode("utf-32-le", "surrogatepass"), np.uint32)
    (kinds, values), (powers, inverses) = _alphabet(), _powers()
    kind = kinds[codes]
    begins = kind == _LETTER
    begins[1:] &= kind[:-1] != _LETTER
    first = np.flatnonzero(begins | (kind == _WHOLE))
    if not len(first):
        return np.zeros(0, np.uint32), np.zeros(len(pieces), np.int64)
    # A token is a polynomial of its characters; separators behind it add nothing.
    tokens = _mix(np.add.reduceat(values[codes] * powers[: len(codes)], first) * inverses[first])
    borders = np.concatenate(([0], np.cumsum([len(piece) + 1 for piece in pieces])))
    borders = np.searchsorted(first, borders)  # of tokens now
    grams = {n: _grams(tokens, n) for n in {words, characters}}
    from_word = kind[first] == _LETTER
    long = np.where(from_word, words, characters)
    hashes = grams[words] if words == characters else np.where(from_word, grams[words], grams[characters])
    inside = np.arange(len(first)) + long <= np.repeat(borders[1:], np.diff(borders))
    before = np.concatenate(([0], np.cumsum(inside)))
    return (hashes[inside] >> np.uint64(32)).astype(np.uint32), np.diff(before[borders])


def _grams(tokens: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Hashes of n tokens in a row, from each token on; those that lack tokens at the end mean nothing."""
    padded = np.concatenate((tokens, np.zeros(n - 1, np.uint64)))
    found = np.zeros(len(tokens), np.uint64)
    for offset in range(n):
        found = found * np.uint64(_FACTOR) + padded[offset : offset + len(tokens)]
    return _mix(found)


# lesson: minhash
def signatures(hashes: Hashes, starts: NDArray[np.int64], num_perm: int = 128, seed: int = 0) -> NDArray[np.uint32]:
    """MinHash signatures, uint32 [N, num_perm], of N sets of hashes that lie one behind another from `starts` on.

    x -> a x + b modulo 2^32 with odd a permutes all numbers; of each permuted set the smallest is kept. Two sets agree in
    one minimum with the probability of their Jaccard similarity. An empty set has the largest number everywhere.
    """
    draw = np.random.default_rng(seed)
    a, b = draw.integers(0, 1 << 32, (2, num_perm), dtype=np.uint32)
    found = np.full((len(starts) - 1, num_perm), 0xFFFFFFFF, np.uint32)
    filled = np.flatnonzero(np.diff(starts))
    if not len(filled):
        return found
    pieces = np.union1d(starts[filled], np.arange(0, starts[-1], _BLOCK))  # no piece crosses the border of a block
    minima = np.empty((num_perm, len(pieces)), np.uint32)
    permuted = np.empty(_BLOCK, np.uint32)
    for start in range(0, int(starts[-1]), _BLOCK):
        block = hashes[start : start + _BLOCK]
        own = slice(*np.searchsorted(pieces, (start, start + _BLOCK)))
        for number in range(num_perm):
            shuffled = np.multiply(block, a[number] | np.uint32(1), out=permuted[: len(block)])
            shuffled += b[number]
            minima[number, own] = np.minimum.reduceat(shuffled, pieces[own] - start)
    found[filled] = np.minimum.reduceat(minima, np.searchsorted(pieces, starts[filled]), axis=1).T
    return found


# end lesson


def compact(found: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The last byte of each mixed minimum: a quarter of the space (b-bit minwise hashing, Li and König 2010)."""
    return ((found * np.uint32(0x9E3779B1)) >> np.uint32(24)).astype(np.uint8)


def estimate(one: Signatures, other: Signatures) -> NDArray[np.float64]:
    """Estimated Jaccard similarity [...] of signatures [..., num_perm]: the share of equal minima.

    Minima compacted to bytes agree by chance one time in 256; that share is taken off.
    """
    equal = np.count_nonzero(one == other, axis=-1) / one.shape[-1]
    chance = 1 / 256 if one.dtype == np.uint8 else 0.0
    return (equal - chance) / (1 - chance)


def jaccard(one: Hashes, other: Hashes) -> float:
    """Size of the intersection by size of the union, of two arrays of hashes taken as sets; 0 when both are empty."""
    one, other = np.unique(one), np.unique(other)
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / max(1, len(one) + len(other) - both)


# lesson: bands
def choose_bands(threshold: float, num_perm: int = 128, missing: float = 0.5) -> tuple[int, int]:
    """Bands and rows of a band (b, r), b r <= num_perm, that serve `threshold` best.

    Two texts of similarity s meet in at least one band with probability 1 - (1 - s^r)^b, an S-shaped curve. Minimised are
    its area left of the threshold (compared for nothing) times 1 - `missing` and the area above it on the right
    (duplicates missed) times `missing`.
    """
    step = 0.001
    left, right = np.arange(step / 2, threshold, step), np.arange(threshold + step / 2, 1, step)
    best, chosen = np.inf, (1, 1)
    for bands in range(1, num_perm + 1):
        for rows in range(1, num_perm // bands + 1):
            wasted = (1 - (1 - left**rows) ** bands).sum()
            missed = ((1 - right**rows) ** bands).sum()
            cost = (1 - missing) * wasted + missing * missed
            if cost < best:
                best, chosen = cost, (bands, rows)
    return chosen


# end lesson


def band_keys(found: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.uint32]:
    """uint32 [bands, N]: rows of `found` with equal minima throughout a band have equal keys there."""
    keys = np.empty((bands, len(found)), np.uint32)
    for band in range(bands):
        mixed = np.zeros(len(found), np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            mixed = _mix(mixed + found[:, column] + np.uint64(_FACTOR))
        keys[band] = mixed >> np.uint64(32)
    return keys


def bucket_edges(rows: NDArray[np.int64], found: Signatures, threshold: float, margin: float = 0.0) -> Pairs:
    """Pairs (earlier, later) of a bucket whose estimated similarity is at least `threshold - margin`.

    rows: [M], ascending; found: their signatures [M, num_perm]. In a bucket of up to 50 rows each is compared with each.
    In a larger one each is compared with the leaders before it, so that a huge bucket of alike rows costs no square:
    a row leads, unless a leader is surely like it (`threshold + margin`); there are at most 1,000 leaders. The
    result depends on nothing but the bucket, so buckets may be looked at anywhere, in any order.
    """
    edges = [np.zeros((0, 2), np.int64)]
    followers = np.zeros(len(rows), bool)
    leaders = 0
    for place in range(len(rows) - 1):
        if followers[place]:
            continue
        similar = estimate(found[place + 1 :], found[place])
        near = np.flatnonzero(similar >= threshold - margin)
        edges.append(np.column_stack((np.full(len(near), rows[place]), rows[place + 1 + near])))
        leaders += 1
        if len(rows) > SMALL:
            followers[place + 1 :] |= similar >= threshold + margin
            if leaders == _LEADERS:
                break
    return np.concatenate(edges)
