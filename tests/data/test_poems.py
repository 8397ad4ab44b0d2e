import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import DataError, MissingExtraError
from danlu.data.poems import (
    INSTRUCTIONS,
    Quatrain,
    clean_title,
    instruction,
    poem_body,
    poem_rows,
    read_quatrains,
    simplify,
)
from tests.data.poetry import write_poetry


def test_reading_keeps_legible_titled_distinct_quatrains_tang_first(tmp_path):
    funnel = Counter()
    poems = read_quatrains(write_poetry(tmp_path / "p"), funnel)
    assert [poem.title for poem in poems] == ["江楼", "江楼", "采桑", "夜雨"]
    assert poems[0].lines == ("春风吹小楼", "新月照江流", "远客灯前坐", "一声何处愁")
    assert funnel == {"poems": 9, "quatrains": 8, "legible": 7, "titled": 5, "distinct": 4}


def test_a_folder_without_poems_and_a_damaged_file(tmp_path):
    with pytest.raises(DataError, match="poet"):
        read_quatrains(tmp_path)
    (tmp_path / "poet.tang.0.json").write_text('[{"title": "x"', encoding="utf-8")
    with pytest.raises(DataError, match=r"poet\.tang\.0\.json"):
        read_quatrains(tmp_path)


def test_without_opencc_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opencc_purepy", None)
    with pytest.raises(MissingExtraError, match=r"danlu\[poems\]"):
        simplify(["東"])


def test_simplify_keeps_what_every_font_has():
    assert simplify(["東風", "乾坤", "鷓鴣"]) == ["东风", "乾坤", "鹧鸪"]
    # the simplified form of this bird lies outside the basic ideographs
    assert simplify(["鵁鶄"])[0].isprintable()
    assert all("\u4e00" <= character <= "\u9fff" for character in simplify(["鵁鶄"])[0])


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        ("夜意二首  其二", "夜意"),
        ("宫词  其一○○", "宫词"),
        ("使东川 汉江上笛", "汉江上笛"),
        ("横吹曲辞 洛阳陌", "洛阳陌"),
        ("题惠山泉（二首） 一", "题惠山泉"),
        ("杂曲歌辞 [杨]下采桑", "下采桑"),
        ("绝句二首并序", "绝句"),
        ("永乐〔一〕", "永乐"),
        ("江行无题一百首 七十七", "江行无题"),
        ("送李八", "送李八"),
        ("春江花月夜", "春江花月夜"),
        ("杂诗四首", "杂诗"),
        ("□中作", ""),
        ("其二", ""),
        ("又", ""),
        ("", ""),
    ],
)
def test_titles_become_natural(raw, title):
    assert clean_title(raw) == title


@settings(deadline=None)
@given(st.text(alphabet="春江二首其一○（）《》 并序", max_size=12))
def test_a_title_is_characters_or_nothing_and_cleaning_it_again_changes_nothing(raw):
    title = clean_title(raw)
    assert all("\u4e00" <= character <= "\u9fff" for character in title)
    assert clean_title(title) == title


def test_every_wording_says_form_and_title():
    asked = {instruction("江南春", 7, choice) for choice in range(64)}
    assert len(INSTRUCTIONS) >= 12
    assert len(asked) >= len(INSTRUCTIONS)
    assert all("江南春" in one and ("七言绝句" in one or "七绝" in one) for one in asked)
    assert all("五言绝句" in one or "五绝" in one for one in (instruction("春", 5, choice) for choice in range(64)))


LINES = ("春风吹小楼", "新月照江流", "远客灯前坐", "一声何处愁")


def test_rows():
    (row,) = poem_rows([Quatrain("江楼", LINES)])
    body = "春风吹小楼，新月照江流。\n远客灯前坐，一声何处愁。"
    assert poem_body(LINES) == body
    assert row["text"] == "《江楼》\n" + body
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert "江楼" in row["messages"][0]["content"]
    assert row["messages"][1]["content"] == body
    assert (row["title"], row["form"], row["lines"]) == ("江楼", 5, list(LINES))


def test_poems_with_a_common_line_are_one_group_whatever_the_order():
    poems = [
        Quatrain("一", LINES),
        Quatrain("二", ("a" * 5, "b" * 5, "c" * 5, LINES[2])),
        Quatrain("三", ("d" * 5, "b" * 5, "e" * 5, "f" * 5)),
        Quatrain("四", ("g" * 5, "h" * 5, "i" * 5, "j" * 5)),
    ]
    group = {row["title"]: row["group"] for row in poem_rows(poems)}
    assert group["一"] == group["二"] == group["三"] != group["四"]
    assert {row["title"]: row["group"] for row in poem_rows(poems[::-1])} == group


def test_the_wording_depends_on_poem_and_seed_alone():
    poems = [Quatrain("江楼", (*LINES[:3], f"第{number:04}")) for number in range(40)]
    asked = [row["messages"][0]["content"] for row in poem_rows(poems)]
    assert [row["messages"][0]["content"] for row in poem_rows(poems[::-1])] == asked[::-1]
    assert [row["messages"][0]["content"] for row in poem_rows(poems, seed=1)] != asked
    assert len(set(asked)) > 8
