"""How much of a text repeats itself: lines, paragraphs and n-grams, by share of characters (Rae et al. 2021, table A1).

An n-gram is a run of n units: the words of a list, or the characters of a string, since Chinese does not part its words. Counting
is exact. It is fast since it asks only where the answer is open: a longer n-gram can repeat only where the shorter one does.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["duplicate_share", "repeated_shares", "top_shares"]

Units = str | list[str]


def _grams(units: Units, n: int) -> Iterable:
    if isinstance(units, str):
        return (units[i : i + n] for i in range(len(units) - n + 1))
    return zip(*(units[i:] for i in range(n)), strict=False)


def _gram(units: Units, place: int, n: int) -> str | tuple[str, ...]:
    part = units[place : place + n]
    return part if isinstance(part, str) else tuple(part)


def _size(units: Sequence[str]) -> int:
    return len(units) if isinstance(units, str) else sum(map(len, units))


def top_shares(units: Units, limits: dict[int, float]) -> dict[int, float]:
    """Share of all characters that lie within the most frequent n-gram, for the n of `limits` where it can exceed the limit.

    Of n-grams equally frequent the longest counts, then the first. A character is counted once, also where occurrences overlap.
    An n that is left out is within its limit: a longer n-gram is no more frequent than a shorter one.
    """
    shares: dict[int, float] = {}
    total = _size(units)
    longest = 1 if isinstance(units, str) else max(map(len, units), default=0)
    most = len(units)
    for n, limit in sorted(limits.items()):
        if most * n * longest <= limit * total:
            continue
        counts = Counter(_grams(units, n))
        most = max(counts.values(), default=0)
        if most < 2:
            break
        best = max((gram for gram, count in counts.items() if count == most), key=_size)
        if most * _size(best) > limit * total:
            places = [place for place, gram in enumerate(_grams(units, n)) if gram == best]
            shares[n] = _covered(units, places, n) / total
    return shares


# lesson: repetition
def repeated_shares(units: Units, sizes: Iterable[int]) -> dict[int, float]:
    """For each n, the share of all characters within n-grams that come more than once, a character counted once."""
    ascending = sorted(sizes)
    shares = dict.fromkeys(ascending, 0.0)
    if not ascending or len(units) <= ascending[0]:
        return shares
    total = _size(units)
    first = list(_grams(units, ascending[0]))
    if len(set(first)) == len(first):
        return shares
    counts = Counter(first)
    places = [place for place, gram in enumerate(first) if counts[gram] > 1]
    for n in ascending:
        if n > ascending[0]:
            grams = {place: _gram(units, place, n) for place in places if place + n <= len(units)}
            counts = Counter(grams.values())
            places = [place for place, gram in grams.items() if counts[gram] > 1]
        shares[n] = _covered(units, places, n) / total
    return shares


def _covered(units: Units, places: list[int], n: int) -> int:
    """Characters that lie within the n units from any of these places, which ascend."""
    size, end = 0, 0
    for place in places:
        size += _size(units[max(place, end) : place + n])
        end = place + n
    return size


# end lesson


def duplicate_share(parts: list[str]) -> tuple[float, float]:
    """Share of the parts that came before, and of the characters within them. (0, 0) of nothing."""
    if len(set(parts)) == len(parts):
        return 0.0, 0.0
    seen: set[str] = set()
    again = 0
    characters = 0
    for part in parts:
        if part in seen:
            again += 1
            characters += len(part)
        seen.add(part)
    return again / len(parts), characters / max(sum(map(len, parts)), 1)
