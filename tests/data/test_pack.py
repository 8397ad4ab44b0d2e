import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.pack import Document, best_fit_decreasing, flatten


def documents_of(tokens):
    pairs = zip(tokens.starts[:-1], tokens.starts[1:], strict=True)
    return [(tokens.ids[a:b].tolist(), tokens.counted[a:b].tolist()) for a, b in pairs]


def test_documents_lie_end_to_end_and_the_first_token_has_no_loss():
    tokens = flatten([Document([5, 6, 7]), Document([8, 9], [True, True])], 8)
    assert documents_of(tokens) == [([5, 6, 7], [False, True, True]), ([8, 9], [False, True])]
    assert (tokens.ids.dtype, tokens.counted.dtype, tokens.starts.dtype) == (np.int32, bool, np.int64)


def test_documents_without_a_target_are_left_out():
    documents = [Document([]), Document([1]), Document([1, 2], [True, False]), Document([3, 4]), Document([])]
    assert documents_of(flatten(documents, 8)) == [([3, 4], [False, True])]
    assert documents_of(flatten([], 8)) == []
    assert documents_of(flatten([Document([])], 8)) == []


def test_long_documents_are_cut_with_one_token_of_overlap():
    assert documents_of(flatten([Document(range(8))], 4)) == [
        ([0, 1, 2, 3], [False, True, True, True]),
        ([3, 4, 5, 6], [False, True, True, True]),
        ([6, 7], [False, True]),
    ]
    # 7 = 4 + 3 tokens fit exactly into two pieces; no third one of a single token
    assert [ids for ids, _ in documents_of(flatten([Document(range(7))], 4))] == [[0, 1, 2, 3], [3, 4, 5, 6]]


def test_or_truncated():
    masked = [False, False, False, False, True, True]
    long = [Document(range(6), masked), Document(range(10, 16))]
    assert documents_of(flatten(long, 4, "truncate")) == [([10, 11, 12, 13], [False, True, True, True])]


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=15), st.integers(2, 12))
def test_cutting_loses_no_target_and_counts_none_twice(lengths, seq_len):
    documents, number = [], 0
    for length in lengths:
        documents.append(Document(range(number, number + length)))
        number += length
    cut = documents_of(flatten(documents, seq_len))
    targets = [token for ids, counted in cut for token, counts in zip(ids, counted, strict=True) if counts]
    assert targets == [token for document in documents for token in list(document.ids)[1:]]
    assert all(2 <= len(ids) <= seq_len for ids, _ in cut)


def naive_best_fit(lengths, seq_len):
    free = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, room in enumerate(free) if room >= length]
        if fitting:
            free[min(fitting, key=lambda row: free[row])] -= length
        else:
            free.append(seq_len - length)
    return len(free)


@settings(deadline=None)
@given(st.lists(st.integers(1, 16), max_size=60))
def test_packing_places_each_document_once_and_is_best_fit(lengths):
    layout = best_fit_decreasing(np.array(lengths, dtype=np.int64), 16)
    assert sorted(layout.lengths.tolist()) == sorted(lengths)
    filled = [layout.lengths[a:b].sum() for a, b in zip(layout.row_starts[:-1], layout.row_starts[1:], strict=True)]
    assert all(0 < tokens <= 16 for tokens in filled)
    assert layout.rows == len(filled) == naive_best_fit(lengths, 16)


@pytest.mark.timeout(20)
def test_many_documents_pack_quickly_and_tightly():
    lengths = np.minimum(np.random.default_rng(0).lognormal(4, 1, 100_000).astype(np.int64) + 2, 512)
    layout = best_fit_decreasing(lengths, 512)
    assert lengths.sum() / (layout.rows * 512) > 0.999
