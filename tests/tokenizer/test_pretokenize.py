import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.tokenizer.pretokenize import byte_level, split_words
from tests.tokenizer.corpus import AWKWARD, SPECIALS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!", ["Hello", ",", " world", "!"]),
        ("don't we'll O'Hara", ["don", "'t", " we", "'ll", " O", "'", "Hara"]),
        ("春眠不觉晓，处处闻啼鸟。", ["春眠不觉晓", "，", "处处闻啼鸟", "。"]),
        ("GPT模型和LLM", ["GPT", "模型和", "LLM"]),
        ("in 2026", ["in", " ", "2", "0", "2", "6"]),
        ("  if x:\n        y", [" ", " if", " x", ":", "\n", "       ", " y"]),
        ("a\r\n\r\nb  ", ["a", "\r\n\r\n", "b", "  "]),
        ("na\u0308ive", ["na\u0308ive"]),
    ],
)
def test_words(text: str, words: list[str]):
    assert split_words(text) == words


@given(st.text())
def test_nothing_is_lost(text: str):
    assert "".join(split_words(text)) == text


@pytest.mark.parametrize("text", AWKWARD, ids=ascii)
def test_nothing_awkward_is_lost(text: str):
    assert "".join(split_words(text)) == text


def test_no_word_can_become_a_special_token():
    for special in SPECIALS:
        assert special not in split_words(f"a {special}{special}b")


@given(st.text(min_size=1))
def test_the_library_is_given_the_same_pieces(text: str):
    pieces = byte_level().pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in pieces] == split_words(text)
