"""EDA's operations: what they keep, what they change, and how often."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.augmenters.edits import Config, Edits, delete, insert, swap

ENGLISH = "The quick brown fox jumps over the lazy dog, twice."
CHINESE = "酒店环境很不错，服务态度非常热情，早餐也很丰富。"


class Fixed(Random):
    """Draws what a test says."""

    def __init__(self, numbers=(), samples=(), choices=()) -> None:
        super().__init__(0)
        self.numbers, self.samples, self.choices_ = iter(numbers), iter(samples), iter(choices)

    def random(self):
        return next(self.numbers)

    def sample(self, population, k, *, counts=None):
        return next(self.samples)

    def choice(self, seq):
        return next(self.choices_)


class OneWord:
    """A source of synonyms that always has this one."""

    def some(self, text: str, times: int, random: Random) -> list[str]:
        return ["new"] * times


def test_swap_by_hand():
    """a b, c: the words stand at 0, 2 and 5; swapping the first two and then the new first with the last gives c a, b."""
    parts = ["a", " ", "b", ",", " ", "c"]
    assert swap(parts, [0, 2, 5], 2, Fixed(samples=[(0, 2), (0, 5)])) == ["c", " ", "a", ",", " ", "b"]
    assert parts == ["a", " ", "b", ",", " ", "c"]
    assert swap(["a"], [0], 3, Random(0)) == ["a"]


def test_delete_by_hand():
    """With 0.1, the draws 0.5, 0.05, 0.5 take the second word and the space before it."""
    parts = ["a", " ", "b", " ", "c", "."]
    assert "".join(delete(parts, [0, 2, 4], 0.1, Fixed(numbers=[0.5, 0.05, 0.5]))) == "a c."
    assert "".join(delete(parts, [0, 2, 4], 0.1, Fixed(numbers=[0.05, 0.5, 0.5]))) == "b c."
    assert "".join(delete(parts, [0, 2, 4], 0.9, Fixed(numbers=[0, 0, 0], choices=[2]))) == "b."
    assert delete(["…"], [], 0.5, Random(0)) == ["…"]


def test_insert_by_hand():
    assert "".join(insert(["a", " ", "b"], ["new"], Fixed(choices=[2]))) == "a new b"
    assert "".join(insert(["今天", "好"], ["很"], Fixed(choices=[1]))) == "今天很好"


@pytest.mark.parametrize(("text", "unit"), [(ENGLISH, "words"), (CHINESE, "words"), (CHINESE, "characters")])
def test_swapping_keeps_every_letter_and_the_marks_in_their_places(text: str, unit):
    edits = Edits("swap", Config(swap=0.3, unit=unit))
    for seed in range(20):
        (new,) = edits.augment([text], [Random(seed)])
        assert new != text
        assert Counter(new) == Counter(text)
        assert [mark for mark in new if not mark.isalnum()] == [mark for mark in text if not mark.isalnum()]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.integers(0, 9))
def test_no_text_breaks_it_and_nothing_new_comes_in(text: str, seed: int):
    swapped, less = (Edits(method, Config(swap=0.4, delete=0.4)).augment([text], [Random(seed)])[0] for method in ("swap", "delete"))  # fmt: skip
    assert Counter(swapped) == Counter(text)
    assert not Counter(less) - Counter(text)
    assert bool(less.strip()) == bool(text.strip())


def test_delete_takes_its_share():
    """1,000 words, each gone with 0.3: 700 left, give or take four standard deviations of 14.5."""
    (new,) = Edits("delete", Config(delete=0.3)).augment([" ".join(["word"] * 1000)], [Random(1)])
    assert abs(len(new.split()) - 700) < 58


def test_the_number_of_insertions_is_that_of_the_paper():
    """EDA: n = max(1, alpha l)."""
    for words, wanted in ((3, 1), (10, 2), (50, 10)):
        edits = Edits("insert", Config(insert=0.2), OneWord())  # type: ignore[arg-type]
        (new,) = edits.augment([" ".join(["old"] * words)], [Random(0)])
        assert Counter(new.split()) == {"old": words, "new": wanted}


def test_insert_needs_synonyms():
    with pytest.raises(ValueError, match="synonyms"):
        Edits("insert", Config())
