import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.clean import CleanConfig, clean_text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("e\u0301te\u0301", "été"),
        ("你好，世界！", "你好，世界！"),  # NFKC would make the punctuation ASCII
        ("\uf900", "\u8c48"),  # a compatibility ideograph
        ("a\x00b\u200bc\ufeffd\ufffde\ud800f", "abcdef"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("\n\na  \n\n\n\n\n  b\t\n", "a\n\n  b"),
        ("क्\u200dष", "क्\u200dष"),  # a joiner that spells
        (" \n\t\n", ""),
        ("\ufffd\ufffd\ufffda", ""),  # mostly undecodable
    ],
)
def test_cleaning(raw, clean):
    assert clean_text(raw) == clean


def test_each_step_can_be_switched_off():
    raw = "e\u0301 \x00ａ \n\n\n\nb "
    assert clean_text(raw, CleanConfig(unicode="none", control=False, whitespace=False)) == raw
    assert clean_text(raw, CleanConfig(unicode="NFKC")) == "é a\n\nb"


def test_short_documents_are_dropped():
    assert clean_text("abc", CleanConfig(min_characters=4)) == ""
    assert clean_text("abcd", CleanConfig(min_characters=4)) == "abcd"


@settings(deadline=None)
@given(st.text())
def test_cleaning_twice_changes_nothing_and_the_result_encodes(raw):
    once = clean_text(raw)
    assert clean_text(once) == once
    once.encode("utf-8")
