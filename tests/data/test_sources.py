import io
import json
import sys
from pathlib import Path

import pytest

from danlu.core.errors import DataError, MissingExtraError
from danlu.data.sources import ReadReport, column_names, files_of, read_rows


def lines(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("file", ["one\ntwo\n\n\nthree\n"]),
        ("line", ["one", "two", "three"]),
        ("blank", ["one\ntwo", "three"]),
    ],
)
def test_a_text_file_is_one_document_unless_asked(tmp_path, split, expected):
    file = text(tmp_path / "a.txt", "one\ntwo\n\n\nthree\n")
    assert [row["text"] for row in read_rows(file, split=split)] == expected


def test_folder_is_read_recursively_sorted_without_hidden_or_unknown_files(tmp_path):
    text(tmp_path / "b.txt", "B")
    text(tmp_path / "a" / "z.md", "Z")
    lines(tmp_path / "c.jsonl", {"text": "C1"}, {"text": "C2"})
    text(tmp_path / "picture.png", b"\x89PNG")
    text(tmp_path / ".git" / "x.txt", "hidden")
    report = ReadReport()
    assert [row["text"] for row in read_rows(tmp_path, report=report)] == ["Z", "B", "C1", "C2"]
    assert (report.files, report.rows, report.undecodable_bytes) == (3, 4, 0)


def test_parquet_keeps_its_columns(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"content": ["甲", "乙"], "label": [1, 2]}), tmp_path / "a.parquet")
    rows = list(read_rows(tmp_path / "a.parquet", columns=["text=content", "label"]))
    assert [(row["text"], row["label"]) for row in rows] == [("甲", 1), ("乙", 2)]


def test_parquet_row_without_value_and_damaged_file_name_the_file(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["甲", None]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet:2"):
        list(read_rows(tmp_path / "a.parquet"))
    damaged = text(tmp_path / "b.parquet", b"PAR1 not really")
    with pytest.raises(DataError, match=r"b\.parquet"):
        list(read_rows(damaged))


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"danlu\[data\]"):
        list(read_rows(text(tmp_path / "a.parquet", b"")))


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"plain\ntext", ["plain\ntext"]), (b'\n{"text": "one"}\n{"text": "two"}\n', ["one", "two"])],
)
def test_standard_input_is_text_or_jsonl(monkeypatch, data, expected):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert [row["text"] for row in read_rows("-")] == expected


def test_undecodable_bytes_are_counted_and_their_place_is_told(tmp_path):
    bad = text(tmp_path / "bad.txt", "good \ufffd ".encode() + b"\xff\xfe then " + "好".encode()[:2])
    report = ReadReport()
    (row,) = read_rows(bad, report=report, encoding="utf-8")
    assert row["text"].startswith("good \ufffd ")
    assert report.undecodable_bytes == 4  # the U+FFFD that was there is not counted
    assert "bad.txt" in report.places[0]
    assert "9" in report.places[0]  # the first bad byte


def test_undecodable_bytes_of_a_jsonl_line_name_the_line(tmp_path):
    file = text(tmp_path / "a.jsonl", b'{"text": "ok"}\n{"text": "\xff"}\n')
    report = ReadReport()
    assert len(list(read_rows(file, report=report, encoding="utf-8"))) == 2
    assert report.undecodable_bytes == 1
    assert "a.jsonl:2" in report.places[0]


def test_another_encoding_is_proposed_and_works(tmp_path):
    file = text(tmp_path / "a.txt", "春江潮水连海平".encode("gb18030"))
    report = ReadReport()
    list(read_rows(file, encoding="utf-8", report=report))
    assert "gb18030" in report.places[0]
    assert next(read_rows(file, encoding="gb18030"))["text"] == "春江潮水连海平"


def test_unknown_encoding(tmp_path):
    with pytest.raises(DataError, match="utf-9"):
        list(read_rows(text(tmp_path / "a.txt", "x"), encoding="utf-9"))


def test_byte_order_mark_is_no_text(tmp_path):
    assert next(read_rows(text(tmp_path / "a.txt", b"\xef\xbb\xbfabc")))["text"] == "abc"


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"body": "x"}, None),
        ({"text": None}, None),
        ({"text": "x"}, ["messages"]),
        ({"text": "x"}, ["text=content"]),
        ({"text": 3}, None),
        ({"messages": "hello"}, None),
        (["text"], None),
    ],
)
def test_a_row_without_its_column_names_file_and_line(tmp_path, row, columns):
    good = {"text": "x", "messages": [{"role": "user", "content": "x"}], "content": "x"}
    file = lines(tmp_path / "rows.jsonl", good, row)
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        list(read_rows(file, columns=columns))


def test_a_line_that_is_no_json_names_file_and_line_and_empty_lines_are_passed_over(tmp_path):
    file = text(tmp_path / "rows.jsonl", '{"text": "x"}\n\n{"text": \n')
    with pytest.raises(DataError, match=r"rows\.jsonl:3"):
        list(read_rows(file))


def test_plain_text_cannot_give_other_columns(tmp_path):
    with pytest.raises(DataError, match="messages"):
        list(read_rows(text(tmp_path / "a.txt", "x"), columns=["messages"]))


@pytest.mark.parametrize("content", [None, "", " \n\n"])
def test_an_empty_corpus_is_an_error(tmp_path, content):
    if content is not None:
        text(tmp_path / "a.txt", content)
    with pytest.raises(DataError, match=str(tmp_path)) as caught:
        list(read_rows(tmp_path))
    assert caught.value.do


def test_missing_path_and_unknown_kind_of_file(tmp_path):
    with pytest.raises(DataError, match="absent"):
        files_of(tmp_path / "absent")
    with pytest.raises(DataError, match=r"\.pdf"):
        files_of(text(tmp_path / "a.pdf", "x"))


def test_column_names():
    assert column_names(["text=content", "label"]) == {"text": "content", "label": "label"}
    assert column_names(None) == {}
    for wrong in ("=x", "text="):
        with pytest.raises(DataError):
            column_names([wrong])
