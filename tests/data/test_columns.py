import datetime
import decimal
import json

import pytest

from danlu.core.errors import DataError
from danlu.data.columns import plain, read_hub, read_parquet
from danlu.data.faults import Fault
from tests.data.test_content import content


def test_values_become_what_json_has():
    value = {
        "b": b"\x00\xff", "d": datetime.date(2020, 1, 2), "n": float("nan"), "x": [decimal.Decimal("1.50"), None, True],
        1: datetime.timedelta(seconds=5), "t": datetime.datetime(2020, 1, 2, 3, 4),
    }  # fmt: skip
    assert plain(value) == {
        "b": "AP8=", "d": "2020-01-02", "n": None, "x": ["1.50", None, True], "1": "0:00:05", "t": "2020-01-02T03:04:00",
    }  # fmt: skip
    json.dumps(plain(value), allow_nan=False)


def test_parquet_from_bytes_and_in_small_batches(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"text": f"row {number}" * 50, "n": number, "when": datetime.date(2020, 1, 1)} for number in range(2000)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=700)
    data = (tmp_path / "a.parquet").read_bytes()
    found = list(read_parquet(content(data)))
    assert [(number, row["n"], row["when"]) for number, row, _ in found] == [
        (number + 1, number, "2020-01-01") for number in range(2000)
    ]
    for cut in (data[:-1], data[: len(data) // 2], data[:4] + b"\0" * 2000 + data[2004:], b"", b"PAR1"):
        with pytest.raises(Fault, match="damaged"):
            list(read_parquet(content(cut)))
    with pytest.raises(Fault, match="too_long"):
        list(read_parquet(content(data, limit=100)))


def test_a_local_folder_is_read_as_a_hugging_face_data_set(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for split, count in (("train", 5), ("test", 2)):
        lines = [json.dumps({"text": f"{split} {number}"}) for number in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert [row["text"] for _, row, _ in read_hub(str(tmp_path))] == [f"train {number}" for number in range(5)]
    assert [number for number, _, _ in read_hub(f"{tmp_path}:test")] == [1, 2]
    with pytest.raises(DataError, match="absent"):
        list(read_hub(f"{tmp_path}:absent"))
    with pytest.raises(DataError, match="nowhere"):
        list(read_hub(str(tmp_path / "nowhere")))
