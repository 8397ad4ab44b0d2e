import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.data.elements import Elements
from danlu.data.faults import Fault

TEXT = st.text(alphabet=st.sampled_from('a\\"[]{},:春\n '), max_size=8)
VALUE = st.recursive(
    TEXT | st.integers(-9, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def pieces(data: bytes, size: int):
    for start in range(0, len(data), size):
        yield data[start : start + size]


@given(st.lists(VALUE, max_size=5), st.integers(1, 9), st.booleans(), st.sampled_from([None, 1]))
def test_the_elements_of_an_array_are_those_json_reads(rows, size, ascii_only, indent):
    text = json.dumps(rows, ensure_ascii=ascii_only, indent=indent).encode()
    assert [orjson.loads(element) for element in Elements(pieces(text, size), 1 << 20)] == rows


@given(st.dictionaries(TEXT, VALUE, max_size=5), st.integers(1, 9))
def test_the_elements_of_an_object_are_its_pairs(row, size):
    found = {}
    for element in Elements(pieces(json.dumps(row).encode(), size), 1 << 20):
        found |= orjson.loads(b"{" + element + b"}")
    assert found == row


@pytest.mark.parametrize(
    "text",
    [b"", b"  ", b"3", b'"a"', b"[1", b"[1}", b"{]", b"[1] 2", b'[{"a": 1}]]', b'["a]', b"[" * 10_000, b'["\\"]'],
)
@pytest.mark.parametrize("size", [1, 100])
def test_a_text_that_does_not_close_is_a_fault(text, size):
    with pytest.raises(Fault) as caught:
        list(Elements(pieces(text, size), 1 << 20))
    assert caught.value.reason == "not_json"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_element_too_long_is_a_fault_and_the_next_is_read(size):
    found = list(Elements(pieces(b'["' + b"x" * 50 + b'", 2, "' + b"y" * 60 + b'"]', size), 20))
    assert [element.reason if isinstance(element, Fault) else element.strip() for element in found] == [
        "too_long", b"2", "too_long",
    ]  # fmt: skip


def test_empty_elements_are_given_as_they_are():
    assert list(Elements([b"[1,,2]"], 9)) == [b"1", b"", b"2"]
    assert list(Elements([b"[ ]"], 9)) == []
