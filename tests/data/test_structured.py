import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.data.faults import Fault
from danlu.data.structured import read_csv, read_json, read_jsonl
from tests.data.test_content import content

CELL = st.text(alphabet=st.sampled_from('ab,";\n春 '), max_size=6)


def told(found):
    return [(number, row.reason if isinstance(row, Fault) else row) for number, row, _ in found]


def of_csv(text: str, base: str = "a.csv", limit: int = 1 << 20):
    one = content(text.encode(), limit=limit)
    one.base = base
    return told(read_csv(one))


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_csv_is_what_python_wrote(rows, end):
    out = io.StringIO()
    csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("one", "two"), *rows])
    found = [row for _, row in of_csv(out.getvalue())]
    assert found == [dict(zip(("one", "two"), row, strict=True)) for row in rows]


def test_csv_tells_lines_and_goes_on_after_a_bad_row():
    text = 'text,n\na,1\nb\n"c\nd",2\n"e"x,3\nf,4,5\n\ng,6\n'
    assert of_csv(text) == [
        (2, {"text": "a", "n": "1"}), (3, "wrong_width"), (4, {"text": "c\nd", "n": "2"}), (6, "bad_csv"),
        (7, "wrong_width"), (9, {"text": "g", "n": "6"}),
    ]  # fmt: skip


@pytest.mark.parametrize("sign", ",;\t|")
def test_the_sign_between_cells_is_found_in_the_header(sign):
    assert of_csv(f"text{sign}n\na b{sign}1\n") == [(2, {"text": "a b", "n": "1"})]
    assert of_csv("a,b\tn\nx\t1\n", "a.tsv") == [(2, {"a,b": "x", "n": "1"})]


def test_csv_rows_too_long_and_a_quote_left_open():
    assert of_csv("text,n\n" + "x" * 50 + ",1\nb,2\n", limit=30) == [(2, "too_long"), (3, {"text": "b", "n": "2"})]
    rows = of_csv('text,n\n"' + "x\n" * 40 + "b,2\nc,3\n", limit=30)
    assert rows[0] == (2, "too_long")
    assert rows[-1] == (43, {"text": "c", "n": "3"})
    assert of_csv('text,n\na,"open\n') == [(2, "bad_csv")]


@pytest.mark.parametrize("text", ["a,a\n1,2\n", ",\n1,2\n", '"open\n'])
def test_a_header_that_names_nothing_or_twice_ends_the_file(text):
    with pytest.raises(Fault, match="bad_csv"):
        of_csv(text)
    assert of_csv("") == []


def test_jsonl_lines_are_counted_with_the_empty_ones():
    data = b'{"a": 1}\n\n  \n{"a": \n3\n{"a": "' + b"x" * 40 + b'"}\n{"b": 2}'
    assert told(read_jsonl(content(data, limit=30))) == [
        (1, {"a": 1}), (4, "not_json"), (5, 3), (6, "too_long"), (7, {"b": 2}),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 200])
def test_a_last_line_too_long_is_a_fault(size):
    data = b"1\n" + b'"' + b"x" * size + b'"'
    expected = [(1, 1), (2, "too_long" if size + 2 > 66 else "x" * size)]
    assert told(read_jsonl(content(data, limit=66))) == expected


@given(st.lists(st.dictionaries(CELL, CELL | st.integers(-5, 5), max_size=3), max_size=5))
def test_json_arrays_are_rows(rows):
    assert told(read_json(content(json.dumps(rows).encode()))) == list(enumerate(rows, 1))


@pytest.mark.parametrize(
    ("value", "columns", "expected"),
    [
        ({"text": "a", "meta": {"b": 1}}, (), [{"text": "a", "meta": {"b": 1}}]),
        ({"x": {"text": "a"}, "y": {"text": "b"}}, (), [{"text": "a"}, {"text": "b"}]),
        ({"x": {"body": "a"}}, ("x",), [{"x": {"body": "a"}}]),
        ({"x": {"body": "a"}}, ("body",), [{"body": "a"}]),
        ({"x": 1}, (), [{"x": 1}]),
        ({}, (), [{}]),
    ],
)
def test_an_object_is_a_row_or_many(value, columns, expected):
    one = content(json.dumps(value).encode())
    one.columns = frozenset(columns)
    assert [row for _, row in told(read_json(one))] == expected


def test_equal_keys_of_an_object_of_rows_lose_none_and_a_large_object_is_streamed():
    data = b'{"a": {"text": "1"}, "a": {"text": "2"}, "b": ' + b'{"text": "33333333"}}'
    for limit in (1000, 30):
        assert [row["text"] for _, row in told(read_json(content(data, limit=limit)))] == ["1", "2", "33333333"]
        assert [number for number, _ in told(read_json(content(data, limit=limit)))] == [1, 2, 3]


@pytest.mark.parametrize("data", [b'{"a": 1,}', b'{"a" 1}', b"{1: 2}"])
def test_an_object_that_is_no_json_is_a_fault(data):
    assert [row for _, row in told(read_json(content(data)))] == ["not_json"]
