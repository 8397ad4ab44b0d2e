from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.repetition import duplicate_share, repeated_shares, top_shares


def grams(units, n: int) -> list:
    return [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]


def covered(units, places: list[int], n: int) -> float:
    """The definition, character by character: within which of these n-grams does each unit lie?"""
    inside = [any(place <= at < place + n for place in places) for at in range(len(units))]
    return sum(len(unit) for unit, yes in zip(units, inside, strict=True) if yes) / sum(map(len, units))


UNITS = st.one_of(st.text("ab", max_size=40), st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=40))


@settings(deadline=None, max_examples=300)
@given(UNITS, st.sets(st.integers(1, 12), max_size=5))
def test_repeated_is_its_definition(units, sizes: set[int]):
    found = repeated_shares(units, sizes)
    assert set(found) == sizes
    for n, share in found.items():
        counts = Counter(grams(units, n))
        places = [place for place, gram in enumerate(grams(units, n)) if counts[gram] > 1]
        assert share == pytest.approx(covered(units, places, n) if places else 0)


@settings(deadline=None, max_examples=300)
@given(UNITS, st.sampled_from([0.0, 0.1, 0.3]))
def test_top_is_its_definition_where_it_exceeds(units, limit: float):
    limits: dict[int, float] = {2: limit, 3: limit, 4: limit}
    found = top_shares(units, limits)
    for n in limits:
        counts = Counter(grams(units, n))
        most = max(counts.values(), default=0)
        if most < 2:
            assert n not in found
            continue
        best = max((gram for gram in counts if counts[gram] == most), key=lambda gram: sum(map(len, gram)))
        share = covered(units, [place for place, gram in enumerate(grams(units, n)) if gram == best], n)
        if share > limit:
            assert found[n] == pytest.approx(share)
        else:
            assert found.get(n, 0) <= limit


def test_by_hand():
    assert repeated_shares("abcab", [2]) == {2: 0.8}  # ab twice: 4 of 5 characters
    assert repeated_shares("aaaa", [2, 3]) == {2: 1.0, 3: 1.0}  # aa at 0, 1, 2
    assert repeated_shares("abcdef", [2, 9]) == {2: 0.0, 9: 0.0}
    assert repeated_shares(["the", "x", "the", "y"], [1]) == {1: 0.75}  # 6 of 8 characters
    assert top_shares("abcab", {2: 0.5}) == {2: 0.8}
    assert top_shares("abcab", {2: 0.8}) == {}
    assert duplicate_share(["a", "bbb", "a", "a"]) == (0.5, 2 / 6)
    assert duplicate_share([]) == (0.0, 0.0)
