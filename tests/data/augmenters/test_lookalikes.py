"""Homophones against pypinyin's own reading, shapes against pictures made by hand, keys against a keyboard."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from danlu.core.errors import DataError
from danlu.data.augmenters import lookalikes
from danlu.data.augmenters.lookalikes import (
    Config,
    Homophones,
    Shapes,
    Typos,
    common_characters,
    homophones_of,
    similar_shapes,
)

TEXT = "酒店环境很不错，服务态度非常热情。OK 3.5"


def test_common_characters_are_those_of_level_1():
    assert len(common_characters()) == 3755
    assert common_characters()[0] == "啊"
    assert common_characters()[-1] == "座"


def test_homophones_sound_the_same():
    from pypinyin import Style, lazy_pinyin

    assert {"只", "纸", "指"} <= set(homophones_of("止", "zhi3"))
    for other in homophones_of("好", "hao3"):
        assert other != "好"
        assert lazy_pinyin(other, style=Style.TONE3) == ["hao3"]
    assert {"号", "毫"} <= set(homophones_of("好", "hao3", tone=False))
    assert homophones_of("好", "?") == []


def test_the_reading_is_that_of_the_word():
    """行 is háng in 银行 and xíng in 行走."""
    slips = Homophones(Config())
    assert "航" in slips.candidates("银行", 1)
    assert "航" not in slips.candidates("行走", 0)
    assert "形" in slips.candidates("行走", 0)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_homophones_change_their_share_of_the_characters(share: float):
    slips = Homophones(Config(share=share, rarity=0))
    for seed in range(10):
        (new,) = slips.augment([TEXT], [Random(seed)])
        assert len(new) == len(TEXT)
        assert sum(one != other for one, other in zip(new, TEXT, strict=True)) == max(1, round(share * 15))
        assert new[7] == "，"
        assert new.endswith("。OK 3.5")


def test_rare_characters_stay_out():
    often = {new for seed in range(30) for new in Homophones(Config(rarity=0.5)).augment(["很"], [Random(seed)])}
    always = {new for seed in range(30) for new in Homophones(Config(rarity=0)).augment(["很"], [Random(seed)])}
    assert always == {"狠"}
    assert often == {"很"}  # 狠 is far rarer: nothing is changed


def test_shapes_are_compared_as_pictures(monkeypatch: pytest.MonkeyPatch):
    """Three 'characters' of four pixels: correlations 1/3 between the first two, -1 of the first and third."""
    pictures = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1]], np.float32)
    monkeypatch.setattr(lookalikes, "_pictures", lambda font, characters: pictures.copy())
    wanted = np.corrcoef(pictures)
    assert wanted[0, 1] == pytest.approx(3**-0.5)
    assert similar_shapes(Path("x"), 0.5, "甲乙丙") == {"甲": ["乙"], "乙": ["甲"], "丙": []}
    assert similar_shapes(Path("x"), 0.6, "甲乙丙") == {"甲": [], "乙": [], "丙": []}


def test_shapes_replace_by_what_looks_alike(monkeypatch: pytest.MonkeyPatch):
    slips = Shapes(Config(share=1, rarity=0))
    monkeypatch.setitem(slips.__dict__, "_alike", {"未": ["末"], "来": []})
    assert slips.augment(["未来, ok", ""], [Random(0)] * 2) == ["末来, ok", ""]


def test_a_font_that_is_none_is_named(tmp_path: Path):
    (tmp_path / "a.ttf").write_bytes(b"no font")
    with pytest.raises(DataError, match=r"a\.ttf"):
        Shapes(Config(font=tmp_path)).augment(["未来"], [Random(0)])


def test_neighbours_are_those_on_a_keyboard():
    near = lookalikes._neighbours()
    assert {letter: set(near[letter]) for letter in "qsgmp"} == {
        "q": set("wa"), "s": set("adwezx"), "g": set("fhtyvb"), "m": set("njk"), "p": set("ol"),
    }  # fmt: skip
    assert all(letter in near[other] for letter in near for other in near[letter])


def test_typos_change_one_letter_of_some_longer_words():
    text = "The Quick brown fox isn't jumping, OK? 你好"
    typos = Typos(Config(share=0.5))
    for seed in range(20):
        (new,) = typos.augment([text], [Random(seed)])
        changed = [place for place in range(len(text)) if new[place] != text[place]]
        assert len(new) == len(text)
        assert 1 <= len(changed) <= 3
        for place in changed:
            assert new[place].lower() in lookalikes._neighbours()[text[place].lower()]
            assert new[place].isupper() == text[place].isupper()
            assert text[place - 1].isalpha()
    assert typos.augment(["a bc def 你好", ""], [Random(0)] * 2) == ["a bc def 你好", ""]


@pytest.mark.slow
def test_real_shapes():
    """Pairs that proof-readers know, found in the pictures of a font."""
    from danlu.core.assets import pull

    alike = similar_shapes(next(pull("noto-sans-cjk").glob("*.ttc")), 0.75)
    for one, other in ("未末", "己已", "日曰", "土士", "人入", "晴睛", "间问", "酒洒", "很恨"):
        assert other in alike[one], one
        assert one in alike[other], other
    assert "爱" not in alike["未"]
