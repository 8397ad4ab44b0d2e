"""Pairs from small files of the assets' own shape; the split leaks nothing; the real assets have the known counts."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.assets import catalogue, is_cached
from danlu.core.errors import AssetError, DataError
from danlu.data import pairs
from danlu.data.load import load_split
from danlu.data.pairs import (
    ORIGINS,
    Config,
    Pair,
    cedict_pairs,
    clean_sense,
    help_pairs,
    hsk_pairs,
    near_key,
    read_pairs,
    run,
    split_pairs,
)


def write_hsk(folder: Path, rows: list[tuple[str, str]]) -> Path:
    folder.mkdir(parents=True)
    told = [{"id": f"x{i}", "chinese": zh, "translation": {"en": en}} for i, (en, zh) in enumerate(rows)]
    (folder / "sentences.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    return folder


def write_cedict(folder: Path, rows: list[tuple[str, object]]) -> Path:
    folder.mkdir(parents=True)
    entries = [[word, word, "x1", senses, [], []] for word, senses in rows]
    (folder / "all.js").write_text(f"export default {json.dumps({'all': entries}, ensure_ascii=False)};\n", "utf-8")
    return folder


def page(body: str) -> str:
    return f"<!DOCTYPE html><html><head><title>t</title></head><body>{body}</body></html>"


def write_help(folder: Path, pages: dict[str, str]) -> Path:
    for name, body in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(page(body), encoding="utf-8")
    return folder


# --- graded sentences ---


def test_sentences_are_read_and_their_white_space_is_tidied(tmp_path: Path) -> None:
    folder = write_hsk(tmp_path / "h", [("Hello,\n  teacher! ", "老师，您好！"), ("", "空"), ("Only Latin", "abc")])
    assert list(hsk_pairs(folder)) == [Pair("Hello, teacher!", "老师，您好！", "hsk-sentences")]


@pytest.mark.parametrize("raw", ["[{}]", "{", "[1]", '[{"chinese": 5, "translation": {"en": "x"}}]', '{"a": 1}'])
def test_a_damaged_file_is_named(tmp_path: Path, raw: str) -> None:
    (tmp_path / "sentences.json").write_text(raw)
    with pytest.raises(DataError, match=r"sentences\.json is damaged"):
        list(hsk_pairs(tmp_path))


# --- the dictionary ---


@pytest.mark.parametrize(
    ("sense", "clean"),
    [
        ("hazardous materials", "hazardous materials"),
        ("to play (cards) (coll.)", "to play"),
        ("(formal) (of the face (or body)) pale", "pale"),
        ("(bird species of China) ruddy kingfisher (Halcyon coromanda)", "ruddy kingfisher"),
        ("to have a go at it (idiom), again", "to have a go at it, again"),
        ("variant of 汞[gong3]", ""),
        ("old variant of 汞[gong3]", ""),
        ("erhua variant of 那", ""),
        ("see also 汞[gong3]", ""),
        ("surname Zhang", ""),
        ("CL:個|个[ge4]", ""),
        ("abbr. for Beijing", ""),
        ("lit. to draw a snake and add feet", ""),
        ("fig. an opportunist", "an opportunist"),
        ("a county in Xinyu City 新余市[Xin1 yu2 Shi4], Jiangxi", ""),
        ("(onom.)", ""),
        ("1234", ""),
        ("an unclosed (note", ""),
        ("to see", "to see"),
        ("seesaw", "seesaw"),
        ("literature", "literature"),
    ],
)
def test_a_sense_is_cleaned(sense: str, clean: str) -> None:
    assert clean_sense(sense) == clean


@given(st.text(alphabet="ab ()[];,.张|1", max_size=40))
def test_a_clean_sense_has_no_brackets_and_is_clean_already(sense: str) -> None:
    clean = clean_sense(sense)
    assert not set(clean) & set("()[]张")
    assert clean_sense(clean) == clean


def test_entries_give_a_pair_for_each_of_the_first_senses(tmp_path: Path) -> None:
    folder = write_cedict(
        tmp_path / "c",
        [
            ("再版", ["second edition", "reprint", "third sense"]),
            ("经办", "to handle; to deal with; to manage"),
            ("打", "to hit (a; b)"),
            ("11区", "Japan"),
            ("銾", "variant of 汞[gong3]"),
            ("双", ["two (coll.)", "two"]),
        ],
    )
    found = [(pair.en, pair.zh) for pair in cedict_pairs(folder)]
    assert found == [
        ("second edition", "再版"),
        ("reprint", "再版"),
        ("to handle", "经办"),
        ("to deal with", "经办"),
        ("to hit", "打"),
        ("two", "双"),
    ]
    assert len(list(cedict_pairs(folder, senses=1))) == 4


# --- help pages ---

ENGLISH = """
<h1 id="hd_id1" dir="auto"><a name="x"></a>Saving Documents</h1>
<p id="par_id2" class="listitem">Click the <span class="emph">Save</span> icon or press
 <span class="switchinline"><span hidden class="MAC">Command</span><span hidden>Ctrl</span></span>+S.</p>
<p id="par_id3" class="code">Print "Hello"</p>
<p id="par_id4">Not translated at all</p>
<p id="par_id5">=SUM(A1;B2) 3</p>
<p id="par_id6">First line.<br>Second line.</p>
<p id="par_id7">Nothing of this kind on the other side</p>
<p id="other_id8">A foot of the page</p>
<p id="par_id9">This goes on for very long, much longer than what is said over there.</p>
<p id="par_id2">The same id once more</p>
"""
CHINESE = """
<p id="par_id6">第一行。<br/>第二行。</p>
<h1 id="hd_id1" dir="auto"><a name="x"></a>保存文档</h1>
<p id="par_id2" class="listitem">点击「<span class="emph">保存</span>」图标或按
 <span class="switchinline"><span hidden class="MAC">命令</span><span hidden>Ctrl</span></span>+S。</p>
<p id="par_id3" class="code">打印 "你好"</p>
<p id="par_id4">Not translated at all</p>
<p id="par_id5">=SUM(A1;B2) 三个</p>
<p id="other_id8">页面的底部</p>
<p id="par_id9">短短</p>
<p id="par_id2">同一个编号又一次出现</p>
"""


def test_help_pages_are_aligned_by_element_and_stripped(tmp_path: Path) -> None:
    english = write_help(tmp_path / "en", {"a/one.html": ENGLISH, "a/only_here.html": ENGLISH})
    chinese = write_help(tmp_path / "zh", {"a/one.html": CHINESE})
    assert list(help_pairs(english, chinese)) == [
        Pair("Saving Documents", "保存文档", "libreoffice-help"),
        Pair("Click the Save icon or press Ctrl+S.", "点击「保存」图标或按 Ctrl+S。", "libreoffice-help"),
        Pair("First line. Second line.", "第一行。 第二行。", "libreoffice-help"),
    ]


def test_folders_without_a_page_in_common_are_an_error(tmp_path: Path) -> None:
    english = write_help(tmp_path / "en", {"a.html": ENGLISH})
    with pytest.raises(DataError, match="share no page"):
        list(help_pairs(english, write_help(tmp_path / "zh", {"b.html": CHINESE})))


# --- all of them ---


def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small assets of the same shape in place of the real ones."""
    folders = {
        "hsk-sentences": write_hsk(tmp_path / "h", [(f"This is number {_word(i)}.", f"这是{_han(i)}。") for i in range(300)]),
        "cc-cedict": write_cedict(tmp_path / "c", [(_han(i) * 2, [f"sense {_word(i)}", f"way {_word(max(i, 9))}"]) for i in range(300)]),
        "libreoffice-help-en": write_help(tmp_path / "en", {"one.html": ENGLISH}),
        "libreoffice-help-zh": write_help(tmp_path / "zh", {"one.html": CHINESE}),
    }  # fmt: skip
    monkeypatch.setattr(pairs, "asset_path", folders.__getitem__)


def _word(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def _han(number: int) -> str:
    return chr(0x4E00 + number)


def test_each_pair_comes_once_in_the_order_of_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, monkeypatch)
    found = list(read_pairs(["libreoffice-help", "hsk-sentences"]))
    assert Counter(pair.origin for pair in found) == {"libreoffice-help": 3, "hsk-sentences": 300}
    assert found[0].origin == "libreoffice-help"
    assert list(read_pairs(["hsk-sentences", "hsk-sentences"])) == found[3:]


def test_an_unknown_origin_and_an_asset_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="(?s)'hsk'.*hsk-sentences"):
        list(read_pairs(["hsk"]))
    monkeypatch.setenv("DANLU_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match="danlu pull cc-cedict"):
        list(read_pairs(["cc-cedict"]))


def test_the_verb_writes_splits_that_a_stage_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place(tmp_path, monkeypatch)
    summary = run(Config(out=tmp_path / "out", test=20, valid=10))
    assert "hsk-sentences" in capsys.readouterr().out
    sides = {
        split: load_split(tmp_path / "out", split, columns=("source", "target")) for split in ("train", "valid", "test")
    }
    assert {split: len(rows) for split, rows in sides.items()} == {
        split: summary["splits"][split]["rows"] for split in sides
    }
    counts = {split: Counter(row["origin"] for row in rows) for split, rows in sides.items()}
    assert counts["test"] == {"hsk-sentences": 20, "cc-cedict": 20}
    assert counts["valid"] == {"hsk-sentences": 10, "cc-cedict": 10}
    assert counts["train"] == {"hsk-sentences": 270, "cc-cedict": 570, "libreoffice-help": 3}
    assert set(sides["test"][0]) >= {"source", "target", "origin"}
    assert json.loads((tmp_path / "out/data.json").read_text()) == summary
    assert [asset["name"] for asset in summary["assets"]] == [name for names in ORIGINS.values() for name in names]
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    run(Config(out=tmp_path / "out", test=20, valid=10))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_folder_that_is_something_else_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, monkeypatch)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(DataError, match="not a data set"):
        run(Config(out=tmp_path / "mine"))
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"


# --- the split ---


@pytest.mark.parametrize(
    ("one", "other"),
    [("Sheet 12!", "sheet 7"), ("Ｐress  F1.", "press f1"), ("「保存」，吧。", "保存 吧"), ("a_b", "A-B")],
)
def test_near_copies_have_one_key(one: str, other: str) -> None:
    assert near_key(one) == near_key(other) != ""


def test_other_words_have_other_keys() -> None:
    assert len({near_key(text) for text in ("save", "save as", "saves", "保存", "保存为")}) == 5


SHORT = st.sampled_from(["a", "b", "c", "d", "A.", "b 1", "b 2", "e", "f", "g", "h"])
SOME = st.lists(st.builds(Pair, SHORT, SHORT, st.sampled_from(["x", "y"])), unique=True, min_size=40, max_size=80)


@settings(max_examples=60, deadline=None)
@given(SOME, st.randoms(use_true_random=False), st.integers(0, 3))
def test_no_side_of_a_pair_is_on_both_sides_of_the_split(found: list[Pair], random: object, seed: int) -> None:
    # Each pair once more in words of its own, so that something can be held out.
    own = [Pair(f"{pair.en} {_word(i)}q", f"{pair.zh} {_word(i)}z", pair.origin) for i, pair in enumerate(found)]
    everything = found + own
    side = split_pairs(everything, valid=3, test=5, seed=seed)
    for language in ("en", "zh"):
        keys = [
            {near_key(getattr(pair, language)) for pair, at in zip(everything, side, strict=True) if at == where}
            for where in range(3)
        ]
        assert not keys[0] & keys[1]
        assert not keys[0] & keys[2]
        assert not keys[1] & keys[2]
    order = list(range(len(everything)))
    random.shuffle(order)  # pyright: ignore[reportAttributeAccessIssue]
    again = split_pairs([everything[at] for at in order], valid=3, test=5, seed=seed)
    assert [side[at] for at in order] == again


def test_small_origins_give_a_tenth_at_most() -> None:
    found = [Pair(_word(i), _han(i), "big" if i < 400 else "small") for i in range(440)]
    side = split_pairs(found, valid=50, test=50)
    counts = Counter((pair.origin, at) for pair, at in zip(found, side, strict=True))
    assert (counts["big", 1], counts["big", 2]) == (20, 40)
    assert (counts["small", 1], counts["small", 2]) == (2, 4)


# --- the real ones ---


@pytest.mark.slow
def test_the_real_assets_hold_the_known_counts() -> None:
    needed = [name for names in ORIGINS.values() for name in names]
    if missing := [name for name in needed if not is_cached(catalogue()[name])]:
        pytest.skip(f"danlu pull {missing[0]}")
    found = list(read_pairs(list(ORIGINS)))
    counts = Counter(pair.origin for pair in found)
    assert counts["hsk-sentences"] == 4352  # of 4,354, two stand twice
    assert counts["cc-cedict"] == 158_239
    assert counts["libreoffice-help"] == 22_420
    side = split_pairs(found, valid=500, test=1000)
    assert Counter(side) == {0: 181_359, 1: 1217, 2: 2435}
    trained = [{near_key(pair[at]) for pair, where in zip(found, side, strict=True) if where == 0} for at in (0, 1)]
    held_out = [pair for pair, where in zip(found, side, strict=True) if where]
    assert not [pair for pair in held_out if near_key(pair.en) in trained[0] or near_key(pair.zh) in trained[1]]
