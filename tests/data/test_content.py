import io

import pytest

from danlu.data.content import Content, said_decoder
from danlu.data.faults import Fault


def content(
    data: bytes, *, encoding: str = "auto", limit: int = 1 << 20, lenient: bool = True, notes: list | None = None
):
    told = [] if notes is None else notes
    return Content(
        io.BytesIO(data), None, "a", frozenset(), "file", encoding, limit, lenient, lambda *at: told.append(at)
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_bytes_in_utf8_whatever_they_were(encoding):
    text = "我们在这里看到的是一个很大的国家，也是一个有很多人的地方。" * 9
    assert b"".join(content(text.encode(encoding)).utf8()).decode() == text
    assert "".join(content(text.encode(encoding)).strings()) == text


def test_the_whole_is_bounded():
    assert content(b"abc", limit=3).whole() == b"abc"
    with pytest.raises(Fault, match="too_long"):
        content(b"abcd", limit=3).whole()
    assert content(b"abcd", limit=3).whole(2) == b"abcd"


def test_json_in_another_encoding_than_its_file_is_found_and_told():
    one = content(b"")
    line = '{"text": "我们在这里看到的是一个很大的国家，也是一个有很多人的地方。"}'
    assert one.loads(line.encode("gb18030"), 3)["text"].startswith("我们")
    assert one.others == {"gb18030"}


def test_undecodable_json_is_replaced_and_told_or_a_fault():
    notes: list = []
    assert content(b"", notes=notes).loads(b'{"text": "a\xff"}', 7) == {"text": "a\ufffd"}
    assert [note[:3] for note in notes] == [(7, 1, 11)]
    assert content(b"", lenient=False).loads(b'{"text": "a\xff"}', 7).reason == "undecodable"


@pytest.mark.parametrize("raw", [b"", b"{", b"[" * 5000, b'"\\ud800"', b"NaN", b"1e999", b'{"a": \x00}'])
def test_what_is_no_json_is_a_fault(raw):
    assert content(b"").loads(raw, 1).reason == "not_json"


@pytest.mark.parametrize(("name", "means"), [("GB2312", "gb18030"), ("iso-8859-1", "cp1252"), ("us-ascii", "ascii")])
def test_what_a_page_calls_its_encoding(name, means):
    decoder = said_decoder(name)
    assert decoder is not None
    assert decoder.found.encoding == means


@pytest.mark.parametrize("name", ["", "x-nobody", "rot13", "a\0", "../etc", "é"])
def test_a_name_that_means_nothing_names_nothing(name):
    assert said_decoder(name) is None
