"""How a finder of personal data is scored: the same for danlu and for others."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tests.data.personal_cases import Case

__all__ = ["score"]

_OVERLAP = 0.8  # intersection over union from which an address counts as found; all else has to be exact


def score(cases: Iterable[Case], find: Callable[[str], Sequence[tuple[str, int, int]]]) -> dict[str, dict[str, float]]:
    """By kind, and 'all': recall, precision, and the counts found, missed, wrong."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("found", "missed", "wrong")}
    for case in cases:
        told = [tuple(one) for one in find(case.text)]
        for gold in case.gold:
            hit = next((one for one in told if _same(one, gold)), None)
            counts["missed" if hit is None else "found"][gold[0]] += 1
            if hit is not None:
                told.remove(hit)
        counts["wrong"].update(one[0] for one in told)
    kinds = sorted(set().union(*counts.values()))
    return {kind: _rates(*(count[kind] for count in counts.values())) for kind in kinds} | {
        "all": _rates(*(count.total() for count in counts.values()))
    }


def _rates(found: int, missed: int, wrong: int) -> dict[str, float]:
    recall = found / (found + missed) if found + missed else 1.0
    precision = found / (found + wrong) if found + wrong else 1.0
    return {
        "recall": round(recall, 4),
        "precision": round(precision, 4),
        "found": found,
        "missed": missed,
        "wrong": wrong,
    }


def _same(one: tuple, gold: tuple[str, int, int]) -> bool:
    if one[0] != gold[0] or gold[0] != "address":
        return one == gold
    common = min(one[2], gold[2]) - max(one[1], gold[1])
    return common >= _OVERLAP * (max(one[2], gold[2]) - min(one[1], gold[1]))
