from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.step import Drop
from danlu.data.steps.html import Config, Step

pytest.importorskip("trafilatura")
pytest.importorskip("selectolax")

CODE = "def area(r):\n    if r < 0:\n\n        raise ValueError('r')\n    return 3.14 * r ** 2  # two  spaces"
PAGE = f"""<!doctype html><html lang="en"><head><title>Tea</title><style>p {{color: red}}</style>
<script>var tracking = "on";</script></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About this site</a></li></ul></nav>
<div id="cookie-banner">We use cookies to improve your visit. <button>Accept all</button></div>
<article><h1>How to brew tea</h1>
<p>Green tea wants water of eighty degrees; black tea wants it boiling, and five minutes of patience &amp; quiet.</p>
<ul><li>warm the pot</li><li>measure the leaves</li></ul>
<pre><code>{CODE.replace("<", "&lt;")}</code></pre>
<table><tr><th>Tea</th><th>Degrees</th></tr><tr><td>Green</td><td>80</td></tr></table>
<p>Leaves that were used once can be used again,<br>and some people say that the second cup is the better one.</p></article>
<aside class="sidebar">Popular posts</aside>
<footer>Copyright 2020 Tea House. All rights reserved.</footer><script>more()</script></body></html>"""
STAYS = ["How to brew tea", "patience & quiet.", "- warm the pot\n- measure the leaves", CODE, "Tea | Degrees", "Green | 80", "the second cup is the better one."]  # fmt: skip
GOES = [
    "tracking",
    "color",
    "Home",
    "About this site",
    "cookies",
    "Accept",
    "Popular posts",
    "rights reserved",
    "more()",
    "<",
    "&amp;",
]

ZH = """<html><head><meta charset="utf-8"><title>茶</title></head><body><div class="nav"><a href="/">首页</a> <a href="/n">新闻</a></div>
<div class="content"><h1>怎样泡茶</h1><p>绿茶宜用八十度的水，红茶则要沸水，再耐心等上五分钟，茶香才会慢慢散发出来。</p>
<p>泡过一次的茶叶还可以再泡，有人甚至说第二泡的味道最好，第三泡才渐渐淡下去。</p></div>
<div class="footer"><script>x=1</script>版权所有 某某网站</div></body></html>"""


def convert(html: str, **config) -> object:
    kept = Step(Config(**config)).apply({"id": "1", "source": "s", "text": html, "html": True}, Counter())
    return kept["text"] if isinstance(kept, dict) else kept


@pytest.mark.parametrize("engine", ["auto", "trafilatura", "selectolax"])
def test_a_page_keeps_its_content_only(engine: str):
    text = convert(PAGE, engine=engine)
    assert isinstance(text, str)
    assert [part for part in STAYS if part not in text] == []
    assert [part for part in GOES if part in text.replace("r < 0", "")] == []


def test_a_chinese_page():
    text = convert(ZH)
    assert isinstance(text, str)
    assert "绿茶宜用八十度的水" in text
    assert "第三泡才渐渐淡下去。" in text
    assert "首页" not in text
    assert "x=1" not in text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one</p><p>two<br>three</p>", "one\n\ntwo\nthree"),
        ("<div>a</div><div>b <b>c</b>d</div>", "a\nb cd"),
        ("<p>a &lt;b&gt; &amp; &eacute;&#20013;&nbsp;x</p>", "a <b> & é中 x"),
        ("<p>ok</p><script>bad()</script><style>bad{}</style><!-- bad -->", "ok"),
        ("<ol><li>a<ul><li>b</li></ul></li><li><p>c</p></li></ol>", "- a\n- b\n- c"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a | b\nc"),
        ("<pre>  x\n\n    y &amp; z\n</pre>", "```\n  x\n\n    y & z\n```"),
        ("<p>shown</p><p hidden>not</p><p style='display: none'>not</p>", "shown"),
        ("<p>unclosed <b>bold <i>both<p>next", "unclosed bold both\n\nnext"),
        ("<form><input><button>Send</button></form><p>text</p>", "text"),
    ],
)
def test_fragments(html: str, text: str):
    assert convert(html) == text


@pytest.mark.parametrize(
    "html", ["<p></p>", "<html><body><script>x</script></body></html>", "<div><img src=x></div>", ""]
)
def test_no_text(html: str):
    assert convert(html) == Drop("no_text")


def test_what_is_html():
    step, tally = Step(Config()), Counter()
    for text in (
        "a < b and c > d",
        "if a<b: print('<p>')",
        "Use <p> for paragraphs.",
        "<user@example.org> wrote",
        "<3 you",
        "# <p>x</p>",
    ):
        row = {"id": "1", "source": "s", "text": text}
        assert step.apply(row, tally) is row
    assert step.apply({"id": "1", "source": "s", "text": "<p>a</p>"}, tally) == {"id": "1", "source": "s", "text": "a"}
    assert step.apply({"id": "1", "source": "s", "text": "a<br>b", "html": True}, tally) == {
        "id": "1",
        "source": "s",
        "text": "a\nb",
    }
    off = {"id": "1", "source": "s", "text": "<p>a</p>"}
    assert Step(Config(detect=False)).apply(off, tally) is off
    code = off | {"lang": "code"}
    assert step.apply(code, tally) is code
    assert tally == {"fragment": 2}


def test_messages():
    row = {
        "id": "1",
        "source": "s",
        "messages": [{"role": "user", "content": "<div>a<br>b</div>"}, {"role": "x", "content": "c"}],
    }
    kept = Step(Config()).apply(row, Counter())
    assert isinstance(kept, dict)
    assert [message["content"] for message in kept["messages"]] == ["a\nb", "c"]


BROKEN = {
    "deep": "<div>" * 10_000 + "<p>" + "hidden text. " * 20,
    "bold": "<p>some text <b>bold <i>both</p><div><td>cell<tr></div> &amp; " * 16_000,
    "angles": "<" * 1_000_000,
    "quotes": '<a href="' * 100_000,
    "comments": "<!-- " * 200_000,
    "tables": "<table><tr><td>a" * 60_000,
    "scripts": "<script>" * 100_000,
    "surrogate": "<p>\ud800\0</p>text",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("page", ["", "<html><body>"])
def test_a_broken_megabyte_ends(name: str, page: str):
    text = convert(page + BROKEN[name])
    assert isinstance(text, str | Drop)
    if name == "deep":
        assert str(text).startswith("hidden text.")


def test_long_pages_are_read_as_fragments():
    tally = Counter()
    row = {"id": "1", "source": "s", "text": PAGE + "<p>x</p>" * 100, "html": True}
    Step(Config(max_page=1000)).apply(row, tally)
    assert tally == {"page": 1, "whole": 1}


TAGS = st.sampled_from(["<p>", "</p>", "<div>", "</div>", "<pre>", "</pre>", "<br>", "<table>", "<tr>", "<td>", "</table>", "<li>", "<ul>", "</ul>", "<html>", "<body>", "<a>", "<b", "&lt;", "<!--", "-->", "文", "a b", "\n"])  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.lists(TAGS, max_size=30).map("".join), st.text()))
def test_never_fails(html: str):
    for engine in ("selectolax", "trafilatura"):
        assert isinstance(convert(html, engine=engine), str | Drop)
