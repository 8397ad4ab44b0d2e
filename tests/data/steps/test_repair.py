from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.step import Drop
from danlu.data.steps.repair import Config, Step

pytest.importorskip("ftfy")
STEP = Step(Config())


def apply(text: str, step: Step = STEP) -> object:
    kept = step.apply({"id": "1", "source": "s", "text": text}, Counter())
    return kept["text"] if isinstance(kept, dict) else kept


@pytest.mark.parametrize(
    "text",
    [
        "我们在中国学习机器学习。",
        "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。",
        "The café’s naïve façade costs 5 € — très “cher”.",
    ],
)
@pytest.mark.parametrize("wrong", ["latin-1", "cp1252"])
def test_utf8_read_as_one_byte(text: str, wrong: str):
    read = text.encode().decode("latin-1" if wrong == "latin-1" else "sloppy-windows-1252")
    assert apply(read) == text


def test_kinds_are_counted():
    tally = Counter()
    STEP.apply({"id": "1", "source": "s", "text": "ÖÐ¹úµÄÊé"}, tally)
    STEP.apply({"id": "1", "source": "s", "text": "ä¸­å›½çš„ä¹¦"}, tally)
    assert tally == {"gbk_as_latin": 1, "utf8_as_latin": 1}


def test_messages_are_repaired():
    row = {"id": "1", "source": "s", "messages": [{"role": "user", "content": "ÖÐ¹úµÄÊé"}]}
    kept = STEP.apply(row, Counter())
    assert isinstance(kept, dict)
    assert kept["messages"][0]["content"] == "中国的书"


def test_what_is_lost_drops_the_row():
    assert apply("锟斤拷锟斤拷锟斤拷") == Drop("garbled", "1 of 1")
    assert apply("锟斤拷是什么") == "锟斤拷是什么"  # a text about it
    long = "今天的天气很好，我们都去公园里散步。" * 2
    assert apply(long + "\ufffd") == long + "\ufffd"
    assert isinstance(apply("好\ufffd"), Drop)


def test_options():
    text = "ÖÐ¹úµÄÊé"
    assert apply(text, Step(Config(chinese=False, latin=False))) == text
    assert apply("ä¸­å›½", Step(Config(latin=False))) == "ä¸­å›½"
    assert apply("好\ufffd", Step(Config(max_lost=1))) == "好\ufffd"


GOOD = [
    "什么", "联通", "统一", "锟", "涓", "鐨", "à l’été, où ça ? Ñandú; Ærøskøbing; ÄÖÜ äöüß", "ÀÁÂÃÄÅ ÈÉÊË", "¡¡¡¡ ¿¿¿¿ «»«» §§§§", "Ðóðir þórr",
    "Привет, мир!", "Γειά σου Κόσμε", "こんにちは、世界。", "안녕하세요 세계", "闊翅之蟲識亦難，臀長匾薄也應凡。", "艮嶽百詠 梅渚", "涓涓细流，汇成江海；媚眼如丝，锦绣前程。", "🙂🙃 √2 ≈ 1.414",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_good_text_stays(text: str):
    assert apply(text) == text


@settings(deadline=None, max_examples=200)
@given(
    st.text(
        st.sampled_from(
            "的一是了我不在人们有来他这上着个地到大里说就去子得也和那要下看天时过出小么起你都把好还多没为又可家学只以主会样年想生同老中十从，。！？"
        ),
        min_size=1,
        max_size=60,
    )
)
def test_good_chinese_stays_and_misread_chinese_comes_back(text: str):
    assert apply(text) == text
    misread = text.encode().decode("gb18030", "replace")
    if "\ufffd" not in misread and len(misread) >= 5:
        assert apply(misread) == text
    assert apply(text.encode().decode("latin-1")) == text or len(text) < 6


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_never_fails(text: str):
    apply(text)
    apply(text.encode("utf-8", "surrogatepass").decode("latin-1"))
    apply(text.encode("utf-8", "surrogatepass").decode("gb18030", "replace"))
