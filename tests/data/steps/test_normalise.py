from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.steps.normalise import Config, Step, normalise


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("１９９８年，ＡＢＣ", "1998年，ABC"),
        ("５０％＋＝", "50%+="),
        ("ｱｲｳ ｶﾞ", "アイウ ガ"),
        ("你好,世界.", "你好，世界。"),
        ("真的吗?是!好;行:", "真的吗？是！好；行："),
        ("（见下）,然后", "（见下），然后"),
        ("Hello，world。 Really？", "Hello, world. Really?"),
        ("我用Python。然后", "我用Python。然后"),  # a line with Chinese keeps its marks
        ("版本2.0,见a.txt", "版本2.0,见a.txt"),  # a comma after a digit may part digits: it stays
        ("文件.txt", "文件.txt"),
        ("好！！！！！", "好！"),
        ("Wow!!!!! What????", "Wow! What?"),
        ("a !! b ?? c", "a !! b ?? c"),  # two may be an operator
        ("然后。。。", "然后……"),
        ("然后...", "然后……"),
        ("然后…", "然后……"),
        ("and then......", "and then..."),
        ("好。。", "好。"),
        ("我 们 今 天 去", "我们今天去"),
        ("我们 ，今天", "我们，今天"),
        ("我用 Python 写 code 了", "我用 Python 写 code 了"),
        ("姓名  年龄", "姓名  年龄"),  # several blanks part columns
        ("　　段落开头", "段落开头"),
        ("床前明月光　疑是地上霜", "床前明月光　疑是地上霜"),
        ("a　b", "a b"),
        ("「引用」『名』《书》", "「引用」『名』《书》"),
        ("これは、テスト.です", "これは、テスト.です"),  # Japanese has marks of its own
        ("http://x.cn/a?b=1,2;c", "http://x.cn/a?b=1,2;c"),
        ("«été», naïve — “quote”", "«été», naïve — “quote”"),
    ],
)
def test_normal_forms(raw: str, normal: str):
    assert normalise(raw) == normal
    assert normalise(normal) == normal


def test_options():
    assert normalise("“a” ‘b’", Config(quotes="straight")) == "\"a\" 'b'"
    assert normalise("a–b − c——中文——", Config(dashes="plain")) == "a-b - c——中文——"
    raw = "Ａ,你 好,！！"
    off = Config(width=False, punctuation="keep", repeats=False, spaces=False)
    assert normalise(raw, off) == raw


def test_step_rewrites_messages_and_leaves_code():
    step, tally = Step(Config()), Counter()
    chat = {"id": "1", "source": "s", "messages": [{"role": "user", "content": "你 好"}, {"role": "system"}]}
    kept = step.apply(chat, tally)
    assert isinstance(kept, dict)
    assert kept["messages"] == [{"role": "user", "content": "你好"}, {"role": "system"}]
    code = {"id": "1", "source": "s", "text": "# 参数,说明", "lang": "code"}
    assert step.apply(code, tally) is code
    assert tally == {"changed": 1}


MIXED = st.text(st.sampled_from("你好たｱﾞab1 ,.?!;:，。？！；：、…“”（）　\n\u00a0Ａ１．，—-"), max_size=40)


@settings(deadline=None, max_examples=500)
@given(st.one_of(MIXED, st.text()))
def test_twice_is_once(text: str):
    for config in (Config(), Config(quotes="straight", dashes="plain")):
        once = normalise(text, config)
        assert normalise(once, config) == once


def test_long_lines_take_no_time():
    for text in (
        "！" * 100_000,
        " " * 100_000,
        "你 " * 50_000,
        "." * 100_000,
        "，a" * 50_000,
        "\ud800" * 100_000,
        "…\n" * 50_000,
    ):
        normalise(text)
