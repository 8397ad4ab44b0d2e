import pytest

from danlu.data.markup import fragment_text, is_page, looks_like_html, page_text, without_scripts


@pytest.mark.parametrize(
    "text",
    ["<!DOCTYPE html>", " \n<html>", "<p>a</p>", "<?xml version='1.0'?><html>", "<!-- c --><div>a<br>b", "<h1>x</h1>"],
)
def test_html(text: str):
    assert looks_like_html(text)


@pytest.mark.parametrize("text", ["", "a", "<", "<p>", "<name>x</name>", "x <p>a</p>", "<=> <p", "<paragraph>a</p>"])
def test_not_html(text: str):
    assert not looks_like_html(text)


def test_pages():
    assert is_page("<html><p>a")
    assert is_page("<!doctype HTML>")
    assert not is_page("<div><p>a</p></div>")


def test_scripts_go_and_endless_ones_stay():
    assert without_scripts("a<script x>b</b></SCRIPT >c<style>d</style>e<script>f") == "ace<script>f"
    assert without_scripts("no scripts") == "no scripts"


def test_nesting_beyond_512_keeps_its_text():
    pytest.importorskip("selectolax")
    assert fragment_text("<div>" * 5000 + "in" + "</div>" * 5000 + "<p>out") == "in\n\nout"


def test_an_empty_page_has_no_text():
    pytest.importorskip("trafilatura")
    assert page_text("<html><body></body></html>") == ""
