"""Words are found through their disguises, and innocent ones are not; lists, allow-list, thresholds, classifier."""

import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.errors import ConfigError, DataError
from danlu.data.step import Drop, make_step, step_config
from danlu.data.steps.sensitive import WordLists

LISTS = WordLists([["赌博网站", "发票代开"], ["viagra", "scunt", "casino bonus"]], ["反赌博网站联盟"])


def told(text: str) -> list[str]:
    return [text[hit.start : hit.end] for hit in LISTS.find(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("点击赌博网站赢钱", ["赌博网站"]),
        ("点击赌 博 网 站", ["赌 博 网 站"]),
        ("赌*博-网.站", ["赌*博-网.站"]),
        ("賭博網站", ["賭博網站"]),
        ("赌\u200b博\u200b网站", ["赌\u200b博\u200b网站"]),
        ("赌博。网站", []),
        ("赌博\n网站", []),
        ("加入反赌博网站联盟", []),
        ("反赌博网站联盟说赌博网站", ["赌博网站"]),
        ("Buy VIAGRA now", ["VIAGRA"]),
        ("Buy ｖｉａｇｒａ now", ["ｖｉａｇｒａ"]),
        ("Buy vіagrа now", ["vіagrа"]),  # two Cyrillic letters
        ("buy v i a g r a!", ["v i a g r a"]),
        ("buy v1agra", ["v1agra"]),
        ("Scunthorpe", []),
        ("viagras", []),
        ("a casino bonus", ["casino bonus"]),
        ("", []),
    ],
)
def test_words_and_disguises(text: str, found: list[str]):
    assert told(text) == found


@given(st.text(alphabet="赌博网站賭viagra1 *。ＶéİⅣ", max_size=40))
def test_hits_lie_in_the_text_in_order(text: str):
    hits = LISTS.find(text)
    assert all(0 <= hit.start < hit.end <= len(text) for hit in hits)
    assert all(one.end <= other.start for one, other in zip(hits, hits[1:], strict=False))
    assert len(LISTS.plain(text)) == len(text)
    if "赌博网站" in text and "。" not in text:
        assert hits


@pytest.fixture
def lists(tmp_path: Path) -> list[str]:
    (tmp_path / "gambling.txt").write_text("赌博网站\n\n", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "pills.zip", "w") as archive:
        archive.writestr("pills.txt", "viagra\n")
    return [str(tmp_path / "gambling.txt"), str(tmp_path / "pills.zip")]


def apply(text: str, **settings):
    tally: Counter[str] = Counter()
    row = {"id": "1", "source": "s", "text": text}
    return make_step("sensitive", step_config("sensitive", settings)).apply(row, tally), tally


def test_drop_mask_tag(lists: list[str]):
    text = "赌博网站, viagra, viagra"
    dropped, tally = apply(text, lists=lists)
    assert dropped == Drop("sensitive", "gambling:1 pills:2")
    assert tally == {"gambling": 1, "pills": 2}
    assert apply(text, lists=lists, action="mask")[0]["text"] == "****, ******, ******"
    row = apply(text, lists=lists, action="tag")[0]
    assert (row["text"], row["sensitive"]) == (text, "gambling:1 pills:2")


def test_thresholds(lists: list[str]):
    text = "viagra " + "long and harmless " * 100
    assert isinstance(apply(text, lists=lists, per_1000=0.1)[0], Drop)
    row, tally = apply(text, lists=lists, per_1000=5)
    assert row["text"] == text
    assert not tally
    assert not isinstance(apply(text, lists=lists, min_hits=2)[0], Drop)


def test_the_classifier_has_to_agree(lists: list[str], tmp_path: Path):
    from danlu.data.classifier import Config, run

    (tmp_path / "good.txt").write_text(
        "\n".join(f"The doctor's report number {n} on viagra and the heart." for n in range(40))
    )
    (tmp_path / "bad.txt").write_text("\n".join(f"BUY cheap viagra now!!! click {n}" for n in range(40)))
    for name in ("good", "bad"):
        rows = (tmp_path / f"{name}.txt").read_text().splitlines()
        (tmp_path / f"{name}.jsonl").write_text("\n".join(f'{{"text": "{row}"}}' for row in rows))
    folder = run(Config(good=[tmp_path / "good.jsonl"], bad=[tmp_path / "bad.jsonl"], out=tmp_path / "c", bits=12))
    settings = {"lists": lists, "classifier": str(folder)}
    assert isinstance(apply("BUY cheap viagra now!!! click 99", **settings)[0], Drop)
    kept, tally = apply("The doctor's report number 77 on viagra and the heart.", **settings)
    assert not isinstance(kept, Drop)
    assert tally == {"overruled_by_classifier": 1}


def test_faults(tmp_path: Path, lists: list[str]):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="no words|没有词"):
        apply("", lists=[str(tmp_path / "empty.txt")])
    with pytest.raises(DataError, match="absent"):
        apply("", lists=[str(tmp_path / "absent.txt")])
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="bad.zip"):
        apply("", lists=[str(tmp_path / "bad.zip")])
    with pytest.raises(ConfigError, match="one name|同名"):
        apply("", lists=[lists[0], lists[0]])
