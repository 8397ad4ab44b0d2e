import dataclasses
import gzip
import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path

import pytest

from danlu.core.errors import DataError, MissingExtraError
from danlu.data.sources import Bad, ReadReport, column_names, files_of, read_rows


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


def pack(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def everything(paths, **settings):
    """(id, text) of the rows, (place, reason) of what is bad, and the report."""
    bad: list[Bad] = []
    report = ReadReport()
    found = [
        (row["id"], row["text"]) for row in read_rows(paths, report=report, quarantine=bad.append, ids=True, **settings)
    ]
    assert report.rows == len(found) == sum(file.rows for file in report.read)
    assert sum(report.bad.values()) == len(bad)
    return found, [(one.place, one.reason) for one in bad], report


def test_a_folder_of_every_kind_with_ids_that_name_no_folder_of_this_machine(tmp_path):
    root = tmp_path / "root"
    lines(root / "a.jsonl", {"text": "1"}, {"text": "2"})
    text(root / "b" / "c.json", '[{"text": "3"}, {"text": "4"}]')
    text(root / "d.csv", "text,n\n5,1\n")
    text(root / "e.txt.gz", gzip.compress(b"6"))
    text(root / "f.html", "<p>7</p>")
    text(root / "g.eml", "Subject: 8\n\nbody")
    pack(root / "h.zip", **{"x/i.txt": b"9", "j.jsonl": b'{"text": "10"}', "k.png": b"", "__MACOSX/._i.txt": b"no"})
    text(root / "z.png", b"")
    found, bad, report = everything(root)
    assert found == [
        ("a.jsonl:1", "1"), ("a.jsonl:2", "2"), ("b/c.json:1", "3"), ("b/c.json:2", "4"), ("d.csv:2", "5"), ("e.txt.gz", "6"),
        ("f.html", "<p>7</p>"), ("g.eml", "8\n\nbody"), ("h.zip!x/i.txt", "9"), ("h.zip!j.jsonl:1", "10"),
    ]  # fmt: skip
    assert bad == []
    assert (report.files, report.passed_over) == (7, 3)
    assert report.bytes == sum(file.bytes for file in report.read)
    for told in report.read:
        data = (root / told.name).read_bytes()
        assert told.sha256 == hashlib.sha256(data).hexdigest()
        assert (told.bytes, told.mtime_ns) == (len(data), (root / told.name).stat().st_mtime_ns)
    json.dumps(dataclasses.asdict(report))


def test_what_is_bad_is_set_aside_with_its_reason_and_reading_goes_on(tmp_path):
    text(
        tmp_path / "a.jsonl",
        b'{"text": "1"}\n{"text": \n{"body": "2"}\n{"text": 3}\n[]\n{"text": "\xff"}\n{"text": "6"}\n',
    )
    text(tmp_path / "b.jsonl.gz", gzip.compress(b'{"text": "7"}\n' * 5)[:-9])
    text(tmp_path / "c.zip", b"no zip")
    pack(tmp_path / "d.zip", **{"../e.txt": b"x", "f.txt": b"8"})
    text(tmp_path / "g.parquet", b"PAR1")
    found, bad, report = everything(tmp_path)
    assert [one for one in found if not one[0].startswith("b.")] == [
        ("a.jsonl:1", "1"),
        ("a.jsonl:7", "6"),
        ("d.zip!f.txt", "8"),
    ]
    assert bad == [
        ("a.jsonl:2", "not_json"), ("a.jsonl:3", "missing_column"), ("a.jsonl:4", "wrong_kind"), ("a.jsonl:5", "not_a_row"),
        ("a.jsonl:6", "undecodable"), ("b.jsonl.gz", "truncated"), ("c.zip", "damaged"), ("d.zip!../e.txt", "unsafe_path"),
        ("g.parquet", "damaged"),
    ]  # fmt: skip
    assert report.bad["not_json"] == 1
    for name, place in (("a.jsonl", "a.jsonl:2"), ("b.jsonl.gz", "b.jsonl.gz"), ("c.zip", "c.zip"), ("d.zip", "e.txt")):
        with pytest.raises(DataError, match=place):
            list(read_rows(tmp_path / name))


def test_the_bytes_of_a_bad_row_are_kept_up_to_a_bound(tmp_path):
    bad: list[Bad] = []
    long = b'{"text": "' + b"x" * 300_000 + b'"}'
    file = text(tmp_path / "a.jsonl", b'{"text": 1 }\n' + long + b'\n{"text": "ok"}')
    assert len(list(read_rows(file, quarantine=bad.append, max_row_bytes=200_000))) == 1
    assert [(one.reason, one.raw) for one in bad] == [("wrong_kind", b'{"text": 1 }'), ("too_long", long[: 64 * 1024])]


def test_encodings_are_found_and_told(tmp_path):
    chinese = "我们在这里看到的是一个很大的国家，也是一个有很多人的地方。"
    text(tmp_path / "a.txt", chinese.encode("gb18030"))
    text(tmp_path / "b.jsonl", json.dumps({"text": chinese}, ensure_ascii=False).encode("gb18030"))
    text(tmp_path / "c.csv", f"text\n{chinese}\n".encode("utf-16"))
    text(tmp_path / "d.json", json.dumps([{"text": chinese}], ensure_ascii=False).encode("utf-8-sig"))
    pack(tmp_path / "e.zip", **{"f.txt": chinese.encode(), "g.txt": chinese.encode("gb18030"), "h.txt": b"ascii"})
    found, _, report = everything(tmp_path)
    assert [one[1] for one in found] == [chinese] * 6 + ["ascii"]
    assert [told.encoding for told in report.read] == [
        "gb18030",
        "gb18030",
        "utf-16-le",
        "utf-8",
        "ascii, gb18030, utf-8",
    ]
    assert min(told.confidence for told in report.read) > 0.5


def test_take_kind_and_join(tmp_path):
    text(tmp_path / "ca01", "The/at end/nn ./.")
    text(tmp_path / "README", "not this")
    text(tmp_path / "poems" / "p.json", json.dumps([{"title": "t", "paragraphs": ["一行。", "二行。"]}]))
    assert everything(tmp_path, kind="tagged", take="c[a-r][0-9][0-9]")[0] == [("ca01", "The end.\n")]
    found, _, report = everything(tmp_path, columns=["text=paragraphs"], join="\n", take="**/p.json")
    assert found == [("poems/p.json:1", "一行。\n二行。")]
    assert report.passed_over == 2
    archive = pack(tmp_path / "x.zip", **{"a/b.py": b"import this", "c.txt": b"no"})
    assert everything(archive, kind="text", take="**/*.py")[0] == [("x.zip!a/b.py", "import this")]
    with pytest.raises(DataError, match="no documents"):
        everything(tmp_path, take="nothing")
    with pytest.raises(DataError, match="pickled-table"):
        everything(tmp_path, kind="pickle")


def test_globs_and_names_that_meet(tmp_path):
    for name in ("a/x.txt", "b/x.txt", "b/y.md"):
        text(tmp_path / name, name)
    assert everything(tmp_path / "*" / "*.txt")[0] == [("a/x.txt", "a/x.txt"), ("b/x.txt", "b/x.txt")]
    assert everything([tmp_path / "a" / "x.txt", tmp_path / "b" / "x.txt"])[0] == [
        ("x.txt", "a/x.txt"),
        ("x.txt@2", "b/x.txt"),
    ]


def test_parts_of_a_long_text_have_ids_of_their_own(tmp_path):
    found, _, _ = everything(text(tmp_path / "a.txt", "春天\n" * 100), max_row_bytes=300)
    assert [one[0] for one in found] == [f"a.txt#{part}" for part in range(1, len(found) + 1)]
    assert "".join(one[1] for one in found) == "春天\n" * 100
    found, _, _ = everything(tmp_path / "a.txt", max_row_bytes=4, split="line")
    assert found[:3] == [("a.txt:1#1", "春"), ("a.txt:1#2", "天"), ("a.txt:2#1", "春")]


@pytest.mark.parametrize("change", ["append", "replace", "remove"])
@pytest.mark.parametrize("quarantine", [None, lambda bad: None])
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path, change, quarantine):
    file = lines(tmp_path / "a.jsonl", *[{"text": str(number)} for number in range(100)])
    rows = read_rows(file, quarantine=quarantine)
    next(rows)
    if change == "append":
        with open(file, "a", encoding="utf-8") as out:
            out.write('{"text": "more"}\n')
    else:
        file.unlink()
        if change == "replace":
            lines(file, {"text": "other"})
    with pytest.raises(DataError, match=r"a\.jsonl"):
        list(rows)


def test_a_hugging_face_data_set_from_a_local_folder(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lines(tmp_path / "set" / "train.jsonl", {"body": "one"}, {"body": "two"})
    spec = f"hf:{tmp_path / 'set'}"
    assert everything(spec, columns=["text=body"])[0] == [("hf:set:1", "one"), ("hf:set:2", "two")]


def test_danlus_own_notes_beside_data_are_no_data(tmp_path):
    for name in ("asset.json", "LICENSE"):
        text(tmp_path / name, '{"schema": 1}')
    text(tmp_path / "a.txt", "a")
    assert everything(tmp_path)[0] == [("a.txt", "a")]
    assert everything(tmp_path, kind="text", take="*.txt")[0] == [("a.txt", "a")]
