import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.generate.pages import PagePool, page_keys
from danlu.models.paged import PAGE


def test_pages_are_taken_and_come_back():
    pool = PagePool(3)
    taken = [pool.take() for _ in range(3)]
    assert sorted(taken) == [0, 1, 2]
    assert (pool.available, pool.held) == (0, 3)
    with pytest.raises(IndexError):
        pool.take()
    pool.release(taken[:2])
    assert pool.available == 2


def test_a_named_page_is_found_until_its_place_is_needed():
    pool = PagePool(2)
    first, second = pool.take(), pool.take()
    pool.name(first, b"a")
    pool.release([first])
    assert pool.find([b"a", b"b"]) == [first]
    pool.hold([first])
    assert pool.available == 0
    pool.release([first])
    pool.release([second])
    assert pool.take() == second  # what nobody can use again goes first
    assert pool.take() == first
    assert pool.find([b"a"]) == []


def test_shared_pages_are_free_when_the_last_lets_go():
    pool = PagePool(1)
    page = pool.take()
    pool.hold([page])
    pool.release([page])
    assert pool.available == 0
    pool.release([page])
    assert pool.available == 1


def test_of_idle_pages_the_oldest_goes_first_and_a_sequences_end_before_its_beginning():
    pool = PagePool(3)
    pages = [pool.take() for _ in range(3)]
    for number, page in enumerate(pages):
        pool.name(page, bytes([number]))
    pool.release(pages)
    assert [pool.take() for _ in range(3)] == pages[::-1]


def test_forgetting_frees_what_is_idle_and_hides_what_is_held():
    pool = PagePool(2)
    held, idle = pool.take(), pool.take()
    pool.name(held, b"h")
    pool.name(idle, b"i")
    pool.release([idle])
    pool.forget()
    assert pool.find([b"h"]) == pool.find([b"i"]) == []
    assert pool.available == 1
    pool.release([held])
    assert (pool.available, pool.remembered) == (2, 0)


@given(st.lists(st.integers(0, 9), min_size=0, max_size=80), st.integers(0, 5))
def test_keys_depend_on_all_that_stands_before_and_can_be_continued(ids, known):
    keys = page_keys(ids)
    assert len(keys) == len(ids) // PAGE
    assert page_keys(ids, keys[:known]) == keys
    other = [*ids]
    if other:
        other[0] += 1
        assert not set(page_keys(other)) & set(keys)
    assert not set(page_keys(ids, salt=b"adapter")) & set(keys)


def test_a_key_is_a_cryptographic_hash_of_the_ids():
    assert (
        page_keys(range(PAGE))[0]
        == hashlib.blake2b(b"|" + ",".join(map(str, range(PAGE))).encode(), digest_size=16).digest()
    )
