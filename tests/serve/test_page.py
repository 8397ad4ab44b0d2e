import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from danlu.serve.app import create_app
from danlu.serve.page import page, preferred_language
from danlu.serve.server import Background, listen

from .calls import call
from .conftest import POEMS

FIVE, SEVEN = POEMS.values()
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("zh;q=0.2, en;q=0.7", "en"),
        ("fr,zh-TW;q=0.3", "zh"),
        ("fr-FR,de", "en"),
        ("zh;q=x", "en"),
        ("*", "en"),
    ],
)
def test_language(accept: str, language: str):
    assert preferred_language(accept) == language


def test_without_a_header_the_machines_language():
    assert preferred_language(None) in ("zh", "en")


def test_page_is_self_contained_and_may_run_only_itself(served: Background):
    answer = call(served, "/", headers={"Accept-Language": "en"})
    assert '<html lang="en">' in answer.text
    assert answer.headers["content-language"] == "en"
    outside = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:|#)[\w/:]+", answer.text)
    assert outside == []
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page("zh")[0] != page("en")[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if program is None:
        pytest.fail("the page is tested in a real browser; install one: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator["Visit"]:
    visit = Visit(browser)
    yield visit
    visit.context.close()
    assert visit.faults == []


class Visit:
    """A fresh browser window that remembers every error of the page's script and every address it asked for."""

    def __init__(self, browser: Browser) -> None:
        self.context = browser.new_context(locale="zh-CN", viewport={"width": 1180, "height": 860})
        self.context.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        self.faults: list[str] = []
        self.asked: set[str] = set()

    def open(self, url: str) -> Page:
        tab = self.context.new_page()
        tab.on("pageerror", lambda error: self.faults.append(str(error)))
        tab.on("request", lambda request: self.asked.add(request.url))
        tab.goto(url)
        return tab


def write(tab: Page, title: str, form: str = "5") -> None:
    tab.locator(f"input[name=form][value='{form}']").check()
    tab.locator("#heat").fill("0")
    tab.locator("#title").fill(title)
    tab.locator("#title").press("Enter")


def poem(tab: Page) -> str:
    expect(tab.locator(".paper.done")).to_be_visible()
    return "".join(tab.locator(".ruled .body").all_inner_texts())


def test_a_poem_appears_typeset_as_in_a_book(served: Background, visit: Visit):
    tab = visit.open(served.url)
    expect(tab.get_by_role("tab", name="写诗")).to_have_attribute("aria-selected", "true")
    write(tab, "炉边")
    assert poem(tab) == FIVE.replace("\n", "")
    assert tab.locator(".ruled h2").inner_text() == "炉边"
    lines = [line.bounding_box() for line in tab.locator(".ruled .body").all()]
    title = tab.locator(".ruled h2").bounding_box()
    assert title is not None
    lefts = [title["x"]] + [box["x"] for box in lines if box]
    assert lefts == sorted(lefts, reverse=True)  # columns from right to left
    assert all(box["height"] > 3 * box["width"] for box in lines if box)
    characters = [span.bounding_box() for span in tab.locator(".ruled .body >> nth=0 >> .ch").all()]
    tops = [box["y"] for box in characters if box]
    assert tops == sorted(tops)
    assert tops[-1] > tops[0]

    expect(tab.locator("#facts")).to_contain_text("五言绝句 ✓")
    expect(tab.locator("#facts .speed")).to_contain_text("词元/秒")
    tab.get_by_role("button", name="横排").click()
    flat = tab.locator(".ruled .body").first.bounding_box()
    assert flat is not None
    assert flat["width"] > 3 * flat["height"]

    write(tab, "试笔", "7")
    expect(tab.locator("#shelf li")).to_have_count(2)
    assert poem(tab) == SEVEN.replace("\n", "")
    tab.locator("#shelf li button").nth(1).click()
    assert poem(tab) == FIVE.replace("\n", "")
    assert {address for address in visit.asked if not address.startswith((served.url, "data:"))} == set()


def test_languages_switch_and_errors_are_readable(served: Background, visit: Visit):
    tab = visit.open(served.url)
    expect(tab.locator("#model option")).to_have_count(2)
    tab.locator("#title").fill("")
    tab.get_by_role("button", name="落笔").click()
    expect(tab.get_by_role("alert").first).to_have_text("请先写一个题目。")
    tab.get_by_role("button", name="English").click()
    expect(tab.get_by_role("alert").first).to_have_text("Give it a title first.")
    expect(tab.get_by_role("button", name="Write")).to_be_visible()
    expect(tab.locator("html")).to_have_attribute("lang", "en")

    tab.get_by_label("Free", exact=True).check()
    tab.get_by_label("What shall it write?").fill("好" * 300)
    tab.get_by_label("What shall it write?").press("Enter")
    expect(tab.get_by_role("alert").first).to_contain_text("too long for this model's context")
    tab.reload()
    expect(tab.get_by_role("button", name="Write")).to_be_visible()  # the choice is kept


def test_chat_and_a_model_that_only_continues(served: Background, visit: Visit):
    tab = visit.open(served.url)
    expect(tab.locator("#model option")).to_have_count(2)
    tab.get_by_role("tab", name="对话").click()
    tab.locator("#heat").fill("0")
    tab.get_by_label("你的话").fill(next(iter(POEMS)))
    tab.get_by_label("你的话").press("Enter")
    expect(tab.locator(".turns .assistant")).to_contain_text(FIVE.split("\n")[1])
    expect(tab.locator(".turns .assistant small")).to_contain_text("词元")
    tab.get_by_label("模型").select_option("base")
    expect(tab.locator("#chat-note")).to_contain_text("接着你的话往下写")
    tab.get_by_label("你的话").fill("山")
    tab.get_by_role("button", name="发送").click()
    expect(tab.locator(".turns .assistant").nth(1).locator("small")).to_contain_text("写满为止")


def test_a_locked_server_asks_for_the_key(poet: Path, visit: Visit):
    with Background(create_app(poet, api_key="sesame"), listen("127.0.0.1", 0)) as server:
        tab = visit.open(server.url)
        expect(tab.get_by_role("alert").first).to_contain_text("API 密钥")
        tab.get_by_label("API 密钥").fill("sesame")
        tab.get_by_role("button", name="使用密钥").click()
        expect(tab.locator("#key-form")).to_be_hidden()
        write(tab, "炉边")
        assert poem(tab) == FIVE.replace("\n", "")
    write(tab, "炉边")  # the server is gone now
    expect(tab.get_by_role("alert").first).to_contain_text("服务没有应答")


def test_it_fits_a_phone(served: Background, visit: Visit):
    tab = visit.open(served.url)
    tab.set_viewport_size({"width": 360, "height": 740})
    write(tab, "试笔", "7")
    assert poem(tab) == SEVEN.replace("\n", "")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    leaf, paper = tab.locator(".leaf").bounding_box(), tab.locator(".paper").bounding_box()
    assert leaf is not None
    assert paper is not None
    assert paper["x"] <= leaf["x"]
    assert leaf["x"] + leaf["width"] <= paper["x"] + paper["width"]
