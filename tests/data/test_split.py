from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import DataError
from danlu.data.split import LEFT_OUT, assign, chunk_texts, join_groups, split_size


def test_shared_keys_join_also_by_way_of_others():
    groups = join_groups([["a", "b"], ["c"], ["d", "b"], ["e"], ["d", "c"], []])
    assert groups.tolist() == [0, 0, 0, 3, 0, 5]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), max_size=20))
def test_groups_are_the_connected_components(rows):
    groups = join_groups(rows)
    reach = np.eye(len(rows), dtype=bool)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            reach[i, j] |= bool(set(a) & set(b))
    for _ in rows:
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    assert np.array_equal(reach, groups[:, None] == groups[None, :])


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=4, max_size=80).filter(lambda n: len(set(n)) > 3), st.integers(0, 5))
def test_no_group_lies_on_two_sides_and_no_side_is_too_large(numbers, seed):
    names = [f"g{number}" for number in numbers]
    split = assign(names, valid=3, test=2, seed=seed)
    for name in set(names):
        assert len({side for side, other in zip(split.side, names, strict=True) if other == name}) == 1
    largest = max(numbers.count(number) for number in numbers)
    assert 1 <= split.count(1) <= max(3, largest)
    assert 1 <= split.count(2) <= max(2, largest)
    assert split.groups == len(set(names))


def test_counts_are_met_and_depend_on_names_and_seed_alone():
    names = [f"poem {number}" for number in range(500)]
    split = assign(names, valid=50, test=25)
    assert [split.count(side) for side in range(4)] == [425, 50, 25, 0]
    backwards = assign(names[::-1], valid=50, test=25)
    assert np.array_equal(split.side, backwards.side[::-1])
    assert not np.array_equal(split.side, assign(names, valid=50, test=25, seed=1).side)


def test_a_held_out_name_is_nowhere_in_train_and_its_kin_is_left_out():
    titles = [f"t{number // 2}" for number in range(400)]  # two rows a title
    groups = [f"g{number // 3}" for number in range(400)]  # groups that reach over two titles
    split = assign(groups, valid=40, test=100, held_out=titles)
    titles_of = [{t for t, s in zip(titles, split.side, strict=True) if s == side} for side in range(4)]
    groups_of = [{g for g, s in zip(groups, split.side, strict=True) if s == side} for side in range(4)]
    assert split.count(2) == 100
    assert not titles_of[2] & (titles_of[0] | titles_of[1])
    assert not groups_of[2] & (groups_of[0] | groups_of[1])
    assert not groups_of[0] & groups_of[1]
    assert groups_of[LEFT_OUT] <= groups_of[2]
    assert split.count(LEFT_OUT) > 0


def test_rows_of_one_group_cannot_be_split():
    with pytest.raises(DataError):
        assign(["g"] * 10, valid=1, test=0)


def test_when_all_groups_are_large_the_smallest_is_held_out():
    split = assign(["a"] * 4 + ["b"] * 3 + ["c"] * 5, valid=1, test=0)
    assert split.side.tolist() == [0] * 4 + [1] * 3 + [0] * 5


def test_a_title_of_very_many_rows_is_not_drawn():
    titles = ["common"] * 300 + [f"t{number}" for number in range(300)]
    split = assign([str(number) for number in range(600)], valid=0, test=100, held_out=titles)
    assert Counter(t for t, s in zip(titles, split.side, strict=True) if s == 2)["common"] == 0
    assert split.count(2) == 100


@pytest.mark.parametrize(
    ("wish", "rows", "size"), [(0.05, 1000, 50), (0.05, 4, 1), (0, 10, 0), (30, 100, 30), (1, 2, 1)]
)
def test_split_size(wish, rows, size):
    assert split_size(wish, rows) == size


@pytest.mark.parametrize(("wish", "rows"), [(0.05, 1), (60, 100), (0.6, 10)])
def test_more_held_out_than_left_is_an_error(wish, rows):
    with pytest.raises(DataError, match=str(rows)):
        split_size(wish, rows)


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab\n", max_size=300), max_size=4), st.integers(1, 50))
def test_chunks_joined_are_the_texts(texts, pieces):
    assert "".join(chunk_texts(texts, pieces)) == "".join(texts)


def test_chunks_are_whole_lines_of_about_equal_size():
    text = "".join(f"line {number} of the text\n" for number in range(400))
    chunks = chunk_texts([text], 40)
    assert 36 <= len(chunks) <= 44
    assert all(chunk.endswith("\n") for chunk in chunks)


def test_one_endless_line_is_cut_too():
    assert 30 <= len(chunk_texts(["x" * 4000], 40)) <= 40
