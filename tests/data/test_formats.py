import pickle

import pytest

from danlu.data.faults import Fault
from danlu.data.formats import KINDS, SUFFIXES, kind_of, rows_of
from tests.data.test_content import content

CHINESE = "我们在这里看到的是一个很大的国家，也是一个有很多人的地方。"


def texts(kind: str, data: bytes, **settings) -> list[str]:
    return [row["text"] for _, row, _ in rows_of(kind, content(data, **settings))]


def test_kinds_by_name():
    assert set(SUFFIXES.values()) <= set(KINDS)
    assert [kind_of(name) for name in ("a.txt", "b.x.json", "noext", ".txt", "a.png")] == [
        "text",
        "json",
        "",
        "text",
        "",
    ]


def test_a_page_is_kept_as_it_is_and_marked():
    page = f"<html><head><meta charset='gb2312'></head><p>{CHINESE}</p></html>"
    for data in (page.encode("gb18030"), page.encode(), page.encode("utf-16")):
        ((number, row, _),) = rows_of("html", content(data))
        assert (number, row) == (0, {"text": page, "html": True})
    assert texts("html", b" \n") == []
    with pytest.raises(Fault, match="too_long"):
        texts("html", b"x" * 100, limit=50)


def test_a_page_that_lies_about_its_encoding_is_utf8_when_it_is_valid():
    page = f"<meta http-equiv=content-type content='text/html; charset=big5'>{CHINESE}"
    assert texts("html", page.encode()) == [page]
    western = "<meta charset=iso-8859-1>é"
    assert texts("html", western.encode("cp1252")) == [western]


def test_tagged_words_become_text():
    data = "19980101-01-001-001/m  中国/ns  很/d  大/a  。/w\n\nThe/at end/nn ./.\n".encode()
    assert texts("tagged", data) == ["中国很大。\n\nThe end.\n"]
    one = content(data)
    one.split = "line"
    assert [(number, row["text"]) for number, row, _ in rows_of("tagged", one)] == [(1, "中国很大。"), (3, "The end.")]


def test_a_long_text_is_cut_and_its_parts_numbered():
    rows = [row for _, row, _ in rows_of("text", content(b"line\n" * 100, limit=200))]
    assert [row["part"] for row in rows] == [1, 2, 3]
    assert "".join(row["text"] for row in rows) == "line\n" * 100


def test_bytes_that_are_no_text_are_a_fault_when_there_is_a_quarantine():
    data = bytes(range(128, 256)) * 50
    ((_, fault, _),) = rows_of("text", content(data, lenient=False))
    assert fault.reason == "undecodable"
    assert texts("text", data)[0].count("\ufffd") > 1000
    with pytest.raises(Fault, match="undecodable"):
        texts("html", data, lenient=False)


def test_a_pickled_table():
    assert texts("pickled-table", pickle.dumps([{"text": "春"}, {"text": "秋"}])) == ["春", "秋"]
