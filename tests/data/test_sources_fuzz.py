"""Whatever a file holds, reading it ends in rows, in a quarantine or in a DataError; nothing is written; memory is bounded.

More than 1,000 made inputs run with the fast tests, as many again and the large ones with the slow ones.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danlu.core.errors import DataError
from danlu.data.faults import RAW_LIMIT, REASONS
from danlu.data.sources import Bad, ReadReport, read_rows

SUFFIXES = (".txt", ".html", ".jsonl", ".json", ".csv", ".tsv", ".eml", ".parquet", ".pkl")
PACKED = ("", ".gz", ".bz2", ".xz", ".zst")
KINDS = {".pkl": "pickled-table"}
ODD = st.sampled_from([
    b"\x00", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"NaN", b"1e999", b"-0",
    b"9" * 400, b'{"text": "a", "text": "b"}', b'{"text": "a"}', b'"text"', b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",", b"\n",
    b"\r\n", b"\r", b" ", b"\x1c", b"\xe2\x80\xa8", b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"(\xb5/\xfd",
    b"PAR1", b"ustar", b"<html>", b"<meta charset=utf-7>", b"Content-Type: multipart/mixed; boundary=x\n\n--x\n",
    "春".encode(), "春".encode("gb18030"), "春".encode("big5"), "春".encode("utf-16"), b"\x80\x04c", b"R.", b"a/b ", b"..",
])  # fmt: skip
CONTENT = st.lists(ODD | st.binary(max_size=20), max_size=20).map(b"".join)
FUZZ = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FUZZ, max_examples=1500)


def pack(data: bytes, suffix: str) -> bytes:
    if suffix == ".zst":
        return pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    return {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[suffix](data)


def survive(name: str, data: bytes, limit: int = 1 << 16, **how: object) -> None:
    """Read it with and without a quarantine; check all that is promised."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(data)
        bad: list[Bad] = []
        report = ReadReport()
        try:
            rows = list(read_rows(file, quarantine=bad.append, report=report, ids=True, max_row_bytes=limit, **how))
            assert len(rows) == report.rows
            assert len({row["id"] for row in rows}) == len(rows)
            for row in rows:
                assert row["id"].startswith(name)
                assert (
                    len(row.get("text", "").encode()) <= max(limit, 4 * len(data)) + 100
                )  # encodable: no lone surrogates
        except DataError as error:
            assert not bad, error
        assert sum(report.bad.values()) == len(bad)
        assert all(one.reason in REASONS and len(one.raw) <= RAW_LIMIT and one.place.startswith(name) for one in bad)
        try:
            list(read_rows(file, max_row_bytes=limit, **how))
        except DataError as error:
            assert error.do
        assert os.listdir(folder) == [name]
        assert file.read_bytes() == data


@FUZZ
@given(CONTENT, st.sampled_from(SUFFIXES), st.sampled_from(["file", "line", "blank"]), st.sampled_from([50, 1 << 16]))
def test_any_bytes_in_any_kind_of_file(data, suffix, split, limit):
    survive(f"a{suffix}", data, limit, kind=KINDS.get(suffix, "auto"), split=split)


@FUZZ
@given(CONTENT, st.sampled_from(SUFFIXES), st.sampled_from(["auto", "utf-8", "gb18030", "big5", "utf-16", "shift_jis"]))
def test_any_bytes_in_any_encoding(data, suffix, encoding):
    survive(f"a{suffix}", data, kind=KINDS.get(suffix, "auto"), encoding=encoding)


@FUZZ
@given(CONTENT, st.sampled_from(SUFFIXES[:-1]), st.sampled_from(PACKED[1:]), st.integers(0, 99), st.booleans())
def test_compressed_files_cut_off_or_with_broken_bytes(data, suffix, packer, seed, cut):
    packed = bytearray(pack(data, packer))
    rng = random.Random(seed)
    for _ in range(rng.randrange(3)):
        packed[rng.randrange(len(packed))] = rng.randrange(256)
    survive(f"a{suffix}{packer}", bytes(packed[: rng.randrange(len(packed) + 1)] if cut else packed))


def archive(names: list[str], data: bytes, form: str, rng: random.Random) -> bytes:
    out = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(
            out, "w", rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA])
        ) as file:
            for name in names:
                info = zipfile.ZipInfo(name)
                info.external_attr = rng.choice([0o100644, 0o120777, 0]) << 16
                file.writestr(info, data, file.compression)
    else:
        with tarfile.open(fileobj=out, mode="w", format=rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as file:
            for name in names:
                info = tarfile.TarInfo(name)
                info.type = rng.choice([tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE])
                info.linkname = "/etc/passwd" if info.type == tarfile.SYMTYPE else ""
                info.size = len(data) if info.type == tarfile.REGTYPE else 0
                file.addfile(info, io.BytesIO(data))
    return out.getvalue()


NAMES = st.lists(
    st.sampled_from(["a.txt", "../a.txt", "/a.jsonl", "x/../../b.csv", "C:\\a.txt", "..\\a.txt", "a.json.gz", "b.zip", "c.tar",
                     "春/d.txt", "n" * 120 + ".txt", "e.parquet", "a\n.txt", "f.eml", "..", "."]),
    min_size=1, max_size=5, unique=True,
)  # fmt: skip


@FUZZ
@given(NAMES, CONTENT, st.sampled_from(["zip", "tar"]), st.sampled_from(PACKED), st.integers(0, 999))
def test_archives_with_any_names_and_broken_bytes(names, data, form, packer, seed):
    rng = random.Random(seed)
    packer = "" if form == "zip" else packer
    packed = bytearray(pack(archive(names, data, form, rng), packer))
    for _ in range(rng.choice([0, 0, 1, 5])):
        packed[rng.randrange(len(packed))] = rng.randrange(256)
    survive(f"a.{form}{packer}", bytes(packed[: rng.randrange(len(packed))] if rng.random() < 0.2 else packed))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "messages", "x", ""]), inner),
    max_leaves=8,
)


@FUZZ
@given(st.lists(PLAIN, max_size=5), st.sampled_from([".json", ".jsonl"]), st.booleans(), st.sampled_from([30, 1 << 16]))
def test_any_json(values, suffix, ascii_only, limit):
    encoded = [json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for value in values]
    survive(f"a{suffix}", b"\n".join(encoded) if suffix == ".jsonl" else b"[" + b",".join(encoded) + b"]", limit)
    survive(f"a{suffix}", b"".join(encoded[:1]), limit, columns=["text=x"], join="\n")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".txt", ".html", ".csv", ".eml"])
@pytest.mark.parametrize("data", [b"[" * 10_000, b'{"a":' * 10_000, b'[{"text":' * 10_000 + b"1" + b"}]" * 10_000, b"\\" * 10_000,
                                  b'"' * 9_999, b"\x00" * 10_000, b",\n" * 10_000, b'{"text": "' + b"\\ud83d" * 9_999 + b'"}'])  # fmt: skip
def test_deep_and_monotonous(suffix, data):
    survive(f"a{suffix}", data)


@pytest.mark.slow
@MANY
@given(CONTENT, st.sampled_from(SUFFIXES), st.sampled_from(PACKED), st.sampled_from(["file", "line", "blank"]))
def test_many_more(data, suffix, packer, split):
    survive(f"a{suffix}{packer}", pack(data, packer), kind=KINDS.get(suffix, "auto"), split=split)


BOUND = 400 << 20  # bytes at the peak, Python and its packages included (about 100 MB of it)


def peak(code: str, folder: Path) -> tuple[int, list[str]]:
    """Peak memory in bytes of a process of its own, and the lines it prints."""
    head = """
        import collections, resource, sys
        from danlu.data.sources import read_rows
        def read(name, **how):
            rows, bad, longest = 0, collections.Counter(), 0
            for row in read_rows(name, quarantine=lambda one: bad.update([one.reason]), **how):
                rows, longest = rows + 1, max(longest, len(row["text"]))
            print(rows, longest, dict(bad))
    """
    # Linux hands ru_maxrss of the parent on to a child, so there the kernel's own figure is asked.
    tail = """
        try:
            with open("/proc/self/status") as status:
                print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024)
        except OSError:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    """
    script = "\n".join([textwrap.dedent(head), textwrap.dedent(code), textwrap.dedent(tail)])
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=250, check=True
    )
    *told, size = run.stdout.splitlines()
    return int(size), told


def write(file: Path, begin: bytes, middle: bytes, times: int, end: bytes) -> None:
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "wb") as out:
        out.write(begin)
        for _ in range(times):
            out.write(middle)
        out.write(end)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "begin", "middle", "end", "told"),
    [
        ("a.jsonl", b'{"text": "', b"x" * (1 << 20), b'"}\n{"text": "ok"}', "1 2 {'too_long': 1}"),
        ("a.json", b'[{"text": "', b"x" * (1 << 20), b'"}, {"text": "ok"}]', "1 2 {'too_long': 1}"),
        ("b.json", b"", b"[" * (1 << 20), b"", "0 0 {'not_json': 1}"),
        ("a.csv", b"text,n\n", b"x" * (1 << 20), b",1\nok,2\n", "1 2 {'too_long': 1}"),
        ("b.csv", b'text,n\n"', (b"x" * 9_999 + b"\n") * 105, b'",1\nok,2\n', None),
        ("a.txt", b"", b"x" * (1 << 20), b"", "7 16777216 {}"),
        ("b.txt", b"", "春天来了\n".encode() * 80_000, b"", None),
        ("c.txt", b"", b"x" * 1000 + b"\n" + b"\n" * 100, b"\n", None),
        ("a.html", b"", b"<p>" * (1 << 18), b"", "0 0 {'too_long': 1}"),
        ("a.eml", b"Subject: x\n\n", b"x" * (1 << 20), b"", "0 0 {'too_long': 1}"),
        ("a.txt.gz", b"", b"x" * (1 << 20), b"", None),
    ],
)
def test_a_line_of_100_megabytes_takes_bounded_memory(tmp_path, name, begin, middle, end, told):
    write(tmp_path / name, begin, middle, 100, end)
    size, lines = peak(f"read({name!r})", tmp_path)
    assert size < BOUND
    assert told in (None, *lines)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["file", "line", "blank"])
def test_a_text_of_300_megabytes_takes_the_memory_of_a_small_one(tmp_path, split):
    write(tmp_path / "a.txt", b"", ("春江潮水连海平，海上明月共潮生。" * 20 + "\n").encode("gb18030") * 1500, 300, b"")
    size, lines = peak(f"read('a.txt', split={split!r})", tmp_path)
    assert size < BOUND
    assert "{}" in lines[0]


@pytest.mark.slow
def test_bombs_take_bounded_memory(tmp_path):
    zeros = bytes(1 << 20)
    for packer in PACKED[1:]:
        data = pack(zeros * 200, packer)
        (tmp_path / f"a.jsonl{packer}").write_bytes(data)
        (tmp_path / f"b.txt{packer}").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", zeros * 500)
    size, lines = peak("read('.')", tmp_path)
    assert size < BOUND
    assert "'bomb': " in lines[0]
