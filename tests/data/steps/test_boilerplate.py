from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danlu.data.step import Drop
from danlu.data.steps._phrases import GROUPS, TRIGGERS
from danlu.data.steps.boilerplate import Config, Step

pytest.importorskip("ahocorasick_rs")
STEP = Step(Config())


def clean(text: str, **config) -> str:
    return Step(Config(**config)).text(text, Counter())


LINES = {
    "menus": ["Home | About Us | Contact", "首页 > 新闻 > 国内", "上一篇：春天来了", "下一页", "Read more", "点击查看更多", "阅读全文", "相关阅读", "Next", "Back to top", "当前位置：首页 >> 教育", "Page 2 of 10", "Skip to main content", "展开全文", "返回顶部"],
    "notices": ["We use cookies to improve your experience.", "Accept all cookies", "Subscribe to our newsletter!", "ADVERTISEMENT", "广告", "Please enable JavaScript to view this page", "登录后查看更多", "本网站使用Cookie以改善体验", "Loading...", "点击下载客户端"],
    "footers": ["Copyright © 2020 Example Inc.", "© 2021 Example", "All rights reserved.", "版权所有 某某公司", "责任编辑：张三", "（责编：李四）", "来源：新华网", "京ICP备12345678号", "未经授权不得转载", "转载请注明出处", "Privacy Policy | Terms of Use", "Powered by Example", "免责声明：本文仅代表作者观点"],
    "sharing": ["Share on Facebook", "Tweet", "分享到：微信 微博", "扫描二维码关注公众号", "Follow us on Twitter", "关注我们的官方微信", "点赞 收藏 分享", "12 shares", "微信公众号：某某"],
    "symbols": ["+++++", "◆◇◆◇◆◇", "~ ~ ~ ~ ~", "＊＊＊＊＊"],
}  # fmt: skip
TEXT = "The kettle was on the stove.\n{}\n水开了，她把茶叶放进壶里。"
KEPT = [
    "We use cookies as an example of how a browser keeps state between two requests.\nThat is what the chapter is about.",
    "He went home.", "Next to the door stood a chair.", "她点击查看了那封信，然后沉默了很久。", "版权是一种法律权利。", "编辑同志：您好！",
    "请大家分享自己的故事。", "首页的设计很重要。", "Share your bread with the hungry.", "I read more than you think.", "---", "| a | b |\n|---|---|", "□□□□□，□□□□□。",
    "本书的作者：鲁迅先生和他的朋友们都住在这条街上，每天一起喝茶。", "> a quotation alone", "Date: 3 May", "The search for a home goes on",
]  # fmt: skip


@pytest.mark.parametrize(("group", "line"), [(group, line) for group, lines in LINES.items() for line in lines])
def test_lines_go_with_their_group(group: str, line: str):
    tally = Counter()
    assert STEP.text(TEXT.format(line), tally) == TEXT.format("gone").replace("gone\n", "")
    assert tally == {group: 1}
    assert clean(TEXT.format(line), **{group: False}).count("\n") == 2


@pytest.mark.parametrize("text", KEPT)
def test_sentences_stay(text: str):
    assert clean(TEXT.format(text)) == TEXT.format(text)


def test_code_stays():
    fenced = "Text before.\n```\nHome\n*****\n```\nText after."
    assert clean(fenced) == fenced
    row = {"id": "1", "source": "s", "text": "Home\n# =====", "lang": "code"}
    assert STEP.apply(row, Counter()) is row


def test_empty_lines_close_up():
    assert clean("One.\n\nRead more\n\nTwo.\n\n\nThree.") == "One.\n\nTwo.\n\n\nThree."
    assert clean("Home\n\nOne.\n\nNext") == "One."


def test_repeated_headers():
    lines: list[str] = []
    for page in range(6):
        lines += ["The Daily Tea No. 7", *(f"This is line {number} of page {page}." for number in range(12))]
    pages = "\n".join(lines)
    assert clean(pages).count("The Daily Tea") == 1
    assert clean(pages, repeated=0) == pages
    assert clean(pages, repeated=7) == pages
    refrain = "\n".join(["O come all ye", "we sing", "and dance"] * 20)
    assert clean(refrain) == refrain


MAIL = """From: Ann <ann@example.org>
To: Bob <bob@example.org>
Subject: tea
Date: Mon, 1 Jan 2024 10:00:00 +0000

The tea has come.

On Sun, 31 Dec 2023, Bob wrote:
> Has the tea come?
> I wait for it.

It is good tea.

-- \nAnn Example
Tea House, London"""


def test_mail():
    assert clean(MAIL) == "The tea has come.\n\nIt is good tea."
    assert clean(MAIL, mail=False) == MAIL
    assert clean("你好。\n\n在 2024年1月1日，张三写道：\n> 茶到了吗？\n\n到了。\n发自我的iPhone") == "你好。\n\n到了。"
    assert clean("发件人：张三\n主题：茶\n\n茶到了。") == "茶到了。"


def test_step():
    tally = Counter()
    assert STEP.apply({"id": "1", "source": "s", "text": "Home\nNext"}, tally) == Drop("boilerplate")
    chat = {"id": "1", "source": "s", "messages": [{"role": "user", "content": "Hello there.\nRead more"}]}
    kept = STEP.apply(chat, tally)
    assert isinstance(kept, dict)
    assert kept["messages"][0]["content"] == "Hello there."
    clean_row = {"id": "1", "source": "s", "text": "Nothing to see in this text."}
    assert STEP.apply(clean_row, tally) is clean_row
    assert tally == {"menus": 3}


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.large_base_example],
)
@given(st.data(), st.sampled_from(sorted(GROUPS)))
def test_every_line_that_a_pattern_matches_has_a_trigger(data: st.DataObject, group: str):
    line = data.draw(st.from_regex(GROUPS[group], fullmatch=True, alphabet=st.characters(codec="gb2312")))
    assert any(trigger in line.lower() for trigger in TRIGGERS), line


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(["Home", "İ", "\ud800", "> a", "", "-- ", "From: x", "To: y", "*****", "```", "text."])).map("\n".join)))  # fmt: skip
def test_never_fails_and_only_removes(text: str):
    left = clean(text)
    rest = iter(text.split("\n"))
    assert all(any(line == other for other in rest) for line in left.split("\n")) or left == ""


def test_long_texts_take_no_time():
    for text in (
        "a" * 100_000,
        ">\n" * 50_000,
        "home " * 20_000,
        "Home\n" * 20_000,
        "*" * 100_000,
        "上一篇" * 33_000,
        "分享 " * 33_000,
        "From: a\n" * 12_000,
        "大" * 119,
    ):
        clean(text)
