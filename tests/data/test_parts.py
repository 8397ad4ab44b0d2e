import errno
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.errors import DataError, StorageError
from danlu.data.parts import Parts, dump_row, load_row

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=4))
def test_a_row_comes_back_as_it_was(row):
    line = dump_row(row)
    assert line.count(b"\n") == 1
    assert load_row(line) == row


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert load_row(dump_row({"text": "a\ud800b"})) == {"text": "a?b"}


@pytest.fixture
def parts(tmp_path):
    parts = Parts(tmp_path / "work" / "00")
    parts.write(
        0, [{"id": "a", "text": "one\u2028\x85\x1c"}, {"id": "b", "text": "two"}], {"more": 1}, {"hash": np.arange(2)}
    )
    return parts


def test_what_is_written_is_read(parts):
    assert [row["text"] for row in parts.read(0)] == ["one\u2028\x85\x1c", "two"]
    assert parts.keys(0)["hash"].tolist() == [0, 1]
    assert isinstance(parts.keys(0)["hash"], np.memmap)
    told = parts.ledger(0)
    assert (told["rows"], told["more"], told["keys"]) == (2, 1, ["hash"])
    assert parts.ledger(1) is None
    assert sorted(file.name for file in parts.folder.iterdir()) == ["00000.hash.npy", "00000.json", "00000.jsonl"]


@pytest.mark.parametrize("harm", ["cut", "flip", "gone"])
def test_a_damaged_part_is_named(parts, harm):
    file = parts.rows_file(0)
    data = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-3] if harm == "cut" else data.replace(b"two", b"too"))
    with pytest.raises(DataError, match=r"00000\.jsonl"):
        parts.read(0)


def test_damaged_keys_are_named(parts):
    file = parts.keys_file(0, "hash")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"00000\.hash\.npy"):
        parts.keys(0)["hash"]
    with pytest.raises(KeyError):
        parts.keys(0)["other"]


def test_many_parts_hold_no_file_open(tmp_path):
    parts = Parts(tmp_path)
    for number in range(100):
        parts.write(number, [], {}, {"hash": np.arange(3)})
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    held = [parts.keys(number) for number in range(100)]
    assert sum(int(keys["hash"].sum()) for keys in held) == 300
    assert (len(os.listdir("/proc/self/fd")) if before else 0) <= before + 2


def test_a_ledger_that_is_cut_short_is_none(parts):
    (parts.folder / "00000.json").write_bytes(b'{"rows": 2')
    assert parts.ledger(0) is None


def test_on_a_full_disk_the_part_is_absent_and_nothing_else_is_lost(parts, monkeypatch):
    whole = os.replace

    def full(source, target):
        if str(target).endswith("00001.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="disk is full|磁盘已满"):
        parts.write(1, [{"id": "c", "text": "three"}], {}, {})
    monkeypatch.undo()
    assert parts.ledger(1) is None
    assert len(parts.read(0)) == 2
    parts.write(1, [{"id": "c", "text": "three"}], {}, {})
    assert len(parts.read(1)) == 1


def test_drop_leaves_the_ledger(parts):
    parts.drop(0)
    assert [file.name for file in parts.folder.iterdir()] == ["00000.json"]
    assert parts.count() == 1
