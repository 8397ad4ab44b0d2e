from collections import Counter

import pytest

from danlu.data.mojibake import FREQUENT, repair_big5, repair_gbk, repair_utf8_as_gbk

TEXT = "我们在中国学习，这里的人们都说中文。明天会更好！"
PUBLIC = "國家的文化與歷史都在這裡，我們應該好好學習中國的文字，並且讓更多人知道。"


def repaired(repair, text: str) -> str:
    return repair(text, Counter())


def test_frequent_characters_are_distinct_ideographs():
    assert len(FREQUENT) > 800
    assert all("\u4e00" <= char <= "\u9fff" for char in FREQUENT)


def test_utf8_as_gbk():
    misread = TEXT.encode().decode("gb18030", "replace")
    assert "\ufffd" in misread  # the byte 80, which comes back
    assert repaired(repair_utf8_as_gbk, misread) == TEXT[:-1] + "\ufffd"  # the last byte had nothing to pair with
    assert repaired(repair_utf8_as_gbk, "鐨勪竴") == "的一"
    assert repaired(repair_utf8_as_gbk, "it鈥檚 a 鈥渢est鈥�") == "it’s a “test\ufffd"


def test_a_byte_lost_at_the_end_is_a_lost_character():
    misread = "中文的书".encode().decode("gb18030") + " " + "中".encode().decode("gb18030", "replace")
    assert repaired(repair_utf8_as_gbk, misread) == "中文的书 \ufffd"


def test_euro_is_the_byte_80():
    misread = "　一一".encode()  # U+3000 is E3 80 80
    windows = misread.decode("gb18030", "replace").replace("\ufffd", "€")
    assert "€" in windows
    assert repaired(repair_utf8_as_gbk, windows) == "　一一"


def test_gbk_as_latin():
    assert repaired(repair_gbk, TEXT.encode("gbk").decode("latin-1")) == TEXT
    mixed = "abc " + TEXT.encode("gbk").decode("latin-1") + " def\n朱镕基的书".encode("gbk").decode("latin-1")
    assert repaired(repair_gbk, mixed) == f"abc {TEXT} def\n朱镕基的书"
    assert repaired(repair_gbk, TEXT.encode().decode("latin-1")) == TEXT.encode().decode(
        "latin-1"
    )  # UTF-8: not its matter


def test_big5_as_gbk():
    misread = PUBLIC.encode("big5").decode("gb18030", "replace")
    assert repaired(repair_big5, misread) == PUBLIC
    assert repaired(repair_big5, PUBLIC) == PUBLIC
    assert repaired(repair_big5, TEXT) == TEXT


@pytest.mark.slow
def test_poems_stay():
    """31 parts of the poems of Tang and Song, 31,000 poems; in all 311,855 none changes."""
    import json

    from danlu.core.assets import asset_path

    for file in sorted((asset_path("chinese-poetry") / "quantangshi").glob("poet.*.json"))[::10]:
        for poem in json.loads(file.read_text(encoding="utf-8")):
            text = "\n".join(poem["paragraphs"])
            for repair in (repair_utf8_as_gbk, repair_gbk, repair_big5):
                assert repaired(repair, text) == text
