from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.steps.chinese import Config, Converter, Step

opencc_purepy = pytest.importorskip("opencc_purepy")
S2T, T2S = opencc_purepy.OpenCC("s2t"), opencc_purepy.OpenCC("t2s")
SIMPLIFIED, TRADITIONAL = Converter("simplified"), Converter("traditional")


@pytest.mark.parametrize(
    ("simplified", "traditional"),
    [
        ("头发发展", "頭髮發展"),
        ("皇后之后", "皇后之後"),
        ("面条表面", "麵條表面"),
        ("干燥的树干", "乾燥的樹幹"),
        ("Python 代码", "Python 代碼"),
    ],
)
def test_phrases_decide(simplified: str, traditional: str):
    assert TRADITIONAL(simplified) == traditional
    assert SIMPLIFIED(traditional) == simplified


def test_what_is_simplified_stays():
    assert SIMPLIFIED("乾坤") == "乾坤"  # a phrase that holds its characters back
    assert SIMPLIFIED("春眠不觉晓，处处闻啼鸟。") == "春眠不觉晓，处处闻啼鸟。"


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("头頭发髮發展干乾幹后後面麵里裡裏台臺颱坤隆a，。 \n一目瞭然"), max_size=30))
def test_is_opencc(text: str):
    assert TRADITIONAL(text) == S2T.convert(text)
    assert SIMPLIFIED(text) == T2S.convert(text)


def test_step():
    row = {"id": "1", "source": "s", "messages": [{"role": "user", "content": "頭髮"}]}
    tally = Counter()
    kept = Step(Config()).apply(row, tally)
    assert isinstance(kept, dict)
    assert kept["messages"][0]["content"] == "头发"
    assert tally == {"converted": 1}
    assert Step(Config(to="keep-as-is")).apply(row, tally) is row
    assert Step(Config(to="simplified")).apply(kept, tally) is kept


@settings(deadline=None)
@given(st.text())
def test_never_fails(text: str):
    assert isinstance(SIMPLIFIED(text), str)
    assert isinstance(TRADITIONAL(text + "\ud800头发"), str)
