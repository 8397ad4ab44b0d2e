import collections
import datetime
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.data.faults import Fault
from danlu.data.pickled import read_pickle

CELL = st.text(max_size=5) | st.integers(-(2**40), 2**40) | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)  # fmt: skip


@given(st.lists(st.dictionaries(st.text(max_size=3), CELL, max_size=4), min_size=1), st.integers(0, 5))
def test_rows_come_back_from_every_protocol(rows, protocol):
    assert list(read_pickle(pickle.dumps(rows, protocol))) == rows


def test_columns_with_and_without_names():
    columns = (["甲", "乙"], ["one", "two"], [1, 2])
    expected = [{"0": "甲", "1": "one", "2": 1}, {"0": "乙", "1": "two", "2": 2}]
    assert list(read_pickle(pickle.dumps(columns, 3))) == expected
    named = pickle.dumps({"title": ["甲"], "lines": [["a", "b"]]})
    assert list(read_pickle(named)) == [{"title": "甲", "lines": ["a", "b"]}]


class Caller:
    def __reduce__(self):
        return print, ("this must never be seen",)


@pytest.mark.parametrize(
    "value", [Caller(), [{"text": Caller()}], print, collections.OrderedDict(a=1), datetime.date(2020, 1, 1), b"bytes"]
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_what_is_more_than_plain_values_is_refused_and_nothing_runs(value, protocol, capsys):
    with pytest.raises(Fault) as caught:
        list(read_pickle(pickle.dumps(value, protocol)))
    assert caught.value.reason == "bad_table"
    assert capsys.readouterr().out == ""


def test_persistent_ids_and_a_list_that_holds_itself_are_refused():
    loop: list = []
    loop.append(loop)
    for data in (b"Pname\n.", pickle.dumps([{"text": loop}]), pickle.dumps(loop), pickle.dumps([[1], [1, 2]])):
        with pytest.raises(Fault):
            list(read_pickle(data))


@given(st.binary(max_size=60))
def test_any_bytes_are_rows_or_a_fault(data):
    try:
        assert all(isinstance(row, dict) for row in read_pickle(data))
    except Fault as fault:
        assert fault.reason == "bad_table"


@given(st.data())
def test_a_damaged_pickle_is_rows_or_a_fault(data):
    whole = bytearray(pickle.dumps([{"text": "春", "n": 1}, {"text": "秋", "n": 2}], data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert all(isinstance(row, dict) for row in read_pickle(bytes(whole)))
    except Fault as fault:
        assert fault.reason == "bad_table"
