"""Shingles, signatures and bands beside Python sets, exact similarities and datasketch."""

import random

import numpy as np
import pytest
from datasketch import MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data import minhash
from danlu.data.minhash import (
    band_keys,
    bucket_edges,
    choose_bands,
    compact,
    estimate,
    jaccard,
    shingle_hashes,
    signatures,
)
from tests.data.steps.test_near import CHARACTERS, WORDS, shingles

MIXED = st.text(alphabet="ab春眠 ,。\n１é", max_size=40)


def sets_of(texts: list[str], words: int = 5, characters: int = 5) -> list[set[int]]:
    hashes, starts = shingle_hashes(texts, words, characters)
    assert starts[0] == 0
    assert starts[-1] == len(hashes)
    return [set(hashes[start:end].tolist()) for start, end in zip(starts, starts[1:], strict=False)]


@settings(max_examples=200, deadline=None)
@given(st.lists(MIXED, min_size=2, max_size=5), st.integers(1, 4), st.integers(1, 4))
def test_shingles_meet_as_tuples_do(texts: list[str], words: int, characters: int):
    """As many distinct shingles, alone and in common, as by a regular expression."""
    told = sets_of(texts, words, characters)
    wanted = [shingles(text, words, characters) for text in texts]
    for one, other in zip(told, wanted, strict=True):
        assert len(one) == len(other)
    for number in range(1, len(texts)):
        assert len(told[0] & told[number]) == len(wanted[0] & wanted[number])


def test_shingles_by_hand():
    (one, other) = sets_of(["春眠不觉晓", "Hello, 春眠 WORLD ok"], 2, 3)
    assert len(one) == 3
    assert len(other) == 4  # hello 春, 春眠world, 眠world ok, world ok
    assert sets_of(["it's ﬁne"], 1) == sets_of(["IT s ﬁne"], 1)
    assert sets_of(["", "春眠", "\ud800 \U0001f600!"]) == [set(), set(), set()]


def test_order_of_words_and_letters_counts():
    one, other, third, fourth = sets_of(["ab cd", "cd ab", "ba cd", "abc d"], 2)
    assert not one & other
    assert not one & third
    assert not one & fourth


def test_long_texts_are_cut(monkeypatch: pytest.MonkeyPatch):
    text = " ".join(random.Random(0).choices(WORDS, k=3000))
    whole = sets_of([text, "a b c d e f", text])
    minhash._powers.cache_clear()
    monkeypatch.setattr(minhash, "_PIECE", 1000)
    pieces = sets_of([text, "a b c d e f", text])
    minhash._powers.cache_clear()
    assert pieces[0] == pieces[2]
    assert pieces[1] == whole[1]
    assert len(whole[0] & pieces[0]) / len(whole[0] | pieces[0]) > 0.96
    assert len(pieces[0]) < len(whole[0])


def test_signatures_are_minima_of_permutations(monkeypatch: pytest.MonkeyPatch):
    draw = np.random.default_rng(1)
    hashes = draw.integers(0, 1 << 32, 700, dtype=np.uint32)
    starts = np.array([0, 0, 1, 300, 300, 700, 700])
    told = signatures(hashes, starts, 16, seed=3)
    factors = np.random.default_rng(3).integers(0, 1 << 32, (2, 16), dtype=np.uint32)
    for number, (start, end) in enumerate(zip(starts, starts[1:], strict=False)):
        for column, (a, b) in enumerate(factors.T.tolist()):
            wanted = min([((a | 1) * x + b) % 2**32 for x in hashes[start:end].tolist()], default=0xFFFFFFFF)
            assert told[number, column] == wanted
    monkeypatch.setattr(minhash, "_BLOCK", 64)
    assert (signatures(hashes, starts, 16, seed=3) == told).all()
    assert (signatures(hashes, starts, 16, seed=4) != told)[[1, 2, 4]].mean() > 0.9


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.95])
def test_estimate_is_unbiased_with_the_spread_of_a_binomial(share: float):
    """Of 400 pairs of sets with known similarity; the same of signatures compacted to bytes."""
    draw, pairs, size = np.random.default_rng(0), 400, 150
    common = round(2 * size * share / (1 + share))
    sets = draw.integers(0, 1 << 32, (pairs, 2, size), dtype=np.uint32)
    sets[:, 1, :common] = sets[:, 0, :common]
    exact = jaccard(sets[0, 0], sets[0, 1])
    assert exact == pytest.approx(share, abs=0.01)
    found = signatures(sets.ravel(), np.arange(0, 2 * pairs * size + 1, size)).reshape(pairs, 2, 128)
    spread = (exact * (1 - exact) / 128) ** 0.5
    for minima in (found, compact(found)):
        similar = estimate(minima[:, 0], minima[:, 1])
        assert similar.mean() == pytest.approx(exact, abs=4 * spread / pairs**0.5)
        assert similar.std() == pytest.approx(spread, rel=0.2)


def test_estimate_of_real_text():
    draw = random.Random(0)
    for alphabet in (WORDS, list(CHARACTERS)):
        tokens = draw.choices(alphabet, k=400)
        changed = [draw.choice(WORDS) if draw.random() < 0.03 else token for token in tokens]
        hashes, starts = shingle_hashes([" ".join(tokens), " ".join(changed)])
        exact = jaccard(hashes[: starts[1]], hashes[starts[1] :])
        found = signatures(hashes, starts, 2048)
        assert 0.5 < exact < 0.95
        assert estimate(found[0], found[1]) == pytest.approx(exact, abs=0.04)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.75, 0.8, 0.9])
@pytest.mark.parametrize("missing", [0.5, 0.9])
def test_bands_are_those_of_datasketch(threshold: float, missing: float):
    theirs = MinHashLSH(threshold=threshold, num_perm=128, weights=(round(1 - missing, 3), missing))
    assert choose_bands(threshold, 128, missing) == (theirs.b, theirs.r)


def test_pairs_meet_along_the_curve():
    """The share of pairs with a key in common follows 1 - (1 - s^r)^b."""
    bands, rows, pairs, size = 16, 8, 600, 100
    draw = np.random.default_rng(2)
    for common in (75, 82, 89, 95):
        sets = draw.integers(0, 1 << 32, (pairs, 2, size), dtype=np.uint32)
        sets[:, 1, :common] = sets[:, 0, :common]
        similar = common / (2 * size - common)
        found = signatures(sets.ravel(), np.arange(0, 2 * pairs * size + 1, size))
        keys = band_keys(found, bands, rows).reshape(bands, pairs, 2)
        met = (keys[..., 0] == keys[..., 1]).any(axis=0).mean()
        wanted = 1 - (1 - similar**rows) ** bands
        assert met == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / pairs) ** 0.5 + 0.005)


def test_bucket_edges_of_few_rows():
    found = np.array([[1, 2, 3, 4], [1, 2, 3, 5], [9, 9, 9, 9], [1, 2, 3, 4]], np.uint32)
    assert bucket_edges(np.array([2, 5, 6, 9]), found, 0.7).tolist() == [[2, 5], [2, 9], [5, 9]]
    assert bucket_edges(np.array([2, 5, 6, 9]), found, 0.9).tolist() == [[2, 9]]
    assert bucket_edges(np.array([2, 5, 6, 9]), found, 0.9, 0.2).tolist() == [[2, 5], [2, 9], [5, 9]]


def test_jaccard_of_sets():
    assert jaccard(np.array([1, 1, 2], np.uint32), np.array([2, 3], np.uint32)) == pytest.approx(1 / 3)
    assert jaccard(np.zeros(0, np.uint32), np.zeros(0, np.uint32)) == 0
