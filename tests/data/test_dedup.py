from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from danlu.data.dedup import Deduplicator, content_hash, corpus_rows, first_equal, release, settle_copies
from danlu.data.step import Drop


def test_hash_is_stable_and_seeded():
    assert content_hash("春眠") == content_hash("春眠")
    assert len({content_hash("春眠"), content_hash("春眠", 0), content_hash("春眠", 1), content_hash("春眠", -1)}) == 4
    assert len(content_hash("")) == 32


def test_first_of_equal_texts_is_new():
    seen = Deduplicator()
    assert [seen.is_new(text) for text in ("a b", "c", "a b", "a  b\n", "A b")] == [True, True, False, False, True]
    assert len(seen) == 3


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8), max_size=5))
def test_first_equal_as_a_dictionary(parts: list[list[tuple[int, int]]]):
    arrays = [np.array([(a << 62, b) for a, b in part], np.uint64).reshape(-1, 2) for part in parts]
    first: dict[tuple[int, int], int] = {}
    wanted = [first.setdefault(one, number) for number, one in enumerate(one for part in parts for one in part)]
    assert first_equal(arrays).tolist() == wanted


def test_rows_of_the_corpus():
    assert corpus_rows([3, 0, 2]).tolist() == [0, 3, 3, 5]
    assert corpus_rows([]).tolist() == [0]


def test_settle_copies():
    rows, tally = [{"id": "a"}, {"id": "b"}], Counter()
    assert settle_copies(rows, np.array([-1, 7]), "same", tally) == [rows[0], Drop("same", "#7")]
    assert tally == {"kept": 1}


def test_released_arrays_can_be_read_again(tmp_path: Path):
    wanted = np.arange(200_000)
    np.save(tmp_path / "a.npy", wanted)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for _ in range(2):
        assert (mapped == wanted).all()
        release([mapped, wanted])
    changed = np.load(tmp_path / "a.npy", mmap_mode="c")
    changed[0] = 7
    release([changed])
    assert changed[0] == 7
