from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from danlu.data.statistics import Statistics


def of(texts, **columns):
    found = Statistics()
    for number, text in enumerate(texts):
        found.add({"id": str(number), "source": "s", "text": text, **columns})
    return found


def test_counts_by_hand():
    line = "a line that is repeated"
    found = of(["ab", "ab", f"{line}\nanother line of it", f"x\n{line}"], lang="en")
    assert (found.rows, found.characters, found.duplicates) == (4, 2 + 2 + 42 + 25, 1)
    assert found.repeated_lines == len(line) / (2 * len(line) + len("another line of it"))
    assert found.languages == Counter(en=4)
    assert list(found.lengths()) == [(2, 3, 2), (4, 7, 0), (8, 15, 0), (16, 31, 1), (32, 63, 1)]


def test_frequent_grams_are_written_as_people_write_them():
    found = of(["床前明月光", "床前看月光", "the old man", "the old man said", "I am, you say", "I am, you know"])
    grams = dict(found.top_grams()[2])
    assert grams["床前"] == grams["月光"] == 2
    assert grams["the old"] == grams["old man"] == 2
    assert grams["am,"] == 2
    assert "前明" not in grams


@given(st.lists(st.text(max_size=40), max_size=20))
def test_any_text_is_counted(texts):
    found = of(texts)
    assert sum(rows for _, _, rows in found.lengths()) == len(texts)
    assert found.duplicates == len(texts) - len(set(texts))
    assert len(found.samples()) == min(8, len(texts))
    assert 0 <= found.repeated_lines <= 1
