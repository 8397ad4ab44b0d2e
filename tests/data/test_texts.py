import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.data.texts import documents, lines_of, untagged

TEXT = st.text(alphabet=st.sampled_from("ab春\n\r \u2028\U0001f600"), max_size=40)


def in_pieces(text: str, seed: int):
    rng = random.Random(seed)
    while text:
        size = rng.randrange(1, 6)
        yield text[:size]
        text = text[size:]


@given(TEXT, st.integers(0, 99))
def test_lines_are_those_of_str_splitlines_however_the_text_comes(text, seed):
    assert [line.text for line in lines_of(in_pieces(text, seed), 1000)] == text.splitlines()


@given(TEXT, st.integers(0, 99), st.integers(4, 20), st.sampled_from(["file", "line", "blank"]))
def test_what_is_cut_keeps_the_bound_and_numbers_its_parts(text, seed, limit, split):
    found = list(documents(in_pieces(text, seed), split, limit))
    assert all(len(document.text.encode()) <= limit for document in found)
    by_number: dict[int, list] = {}
    for document in found:
        by_number.setdefault(document.number, []).append(document)
    for parts in by_number.values():
        assert [part.part for part in parts] in ([0], list(range(1, len(parts) + 1)))
    joined = ["".join(part.text for part in parts) for parts in by_number.values()]
    if split == "file":
        assert "".join(joined) == text
    if split == "line":
        assert joined == text.splitlines()


def test_a_cut_prefers_the_end_of_a_line():
    found = list(documents(["aaaa\nbb\ncccccc\n"], "file", 10))
    assert [(document.text, document.part) for document in found] == [("aaaa\nbb\n", 1), ("cccccc\n", 2)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("The/at Court/nn-tl ,/, ``/`` over-all/jj ''/'' 1/2/cd ./.", 'The Court, "over-all" 1/2.'),
        (
            "19980101-01-001-002/m  [中共/j  中央/n]nt  １９９８/m  年/q  ，/w  he/n said/v",
            "中共中央１９９８年，he said",
        ),
        ("(/( a/at )/) no slash here", "(a) no slash here"),
        ("", ""),
        ("/ [/w ]/w", "[]"),
    ],
)
def test_tags_are_taken_away(line, expected):
    assert untagged(line) == expected
