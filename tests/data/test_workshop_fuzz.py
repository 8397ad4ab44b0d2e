"""Anything at all, under any name, through the whole recipe: rows are kept, dropped or set aside, nothing else happens."""

import contextlib
import gzip
import io
import json
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danlu.core.errors import DanluError
from danlu.data.prepare import Config, run

STEPS = [
    "html",
    "repair",
    "clean",
    "normalise",
    "chinese",
    "boilerplate",
    "language",
    "quality",
    "exact",
    "near",
    "paragraphs",
    "personal",
]
SUFFIXES = [
    "txt",
    "md",
    "html",
    "json",
    "jsonl",
    "csv",
    "tsv",
    "parquet",
    "eml",
    "zip",
    "tar",
    "gz",
    "zst",
    "txt.gz",
    "json.bz2",
    "xz",
    "bin",
]
PIECES = st.sampled_from(
    [b"{", b"}", b'{"text": "', b'"}', b"\n", b"\r\n", b",", b"[", b"]", b'"', b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"<p>", b"</p>", b"<script>",
     "床前明月光。".encode(), "漢字テスト".encode("gb18030", "replace"), b"a,b,c", b"PK\x03\x04", b"\x1f\x8b", b"PAR1", b"text", b"1e999", b"NaN", b"\\ud800",
     b"From: a@b.co\n\n", b"13800138000 ", b"../../x"]
)  # fmt: skip
TEXT = st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
NESTED = st.integers(1, 3000).map(lambda depth: b'{"text": ' + b"[" * depth + b"]" * depth + b"}")
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.just("text"), inner, max_size=4), max_leaves=8).map(lambda value: json.dumps(value).encode())  # fmt: skip
DATA = (
    st.binary(max_size=80)
    | st.lists(PIECES, max_size=10).map(b"".join)
    | TEXT
    | NESTED
    | JSON
    | st.lists(JSON, max_size=4).map(b"\n".join)
)


@st.composite
def files(draw) -> dict[str, bytes]:
    found = {}
    for number in range(draw(st.integers(1, 4))):
        data, suffix = draw(DATA), draw(st.sampled_from(SUFFIXES))
        wrap = draw(st.sampled_from(["", "", "gz", "zip", "cut"]))
        if wrap == "gz":
            data, suffix = gzip.compress(data), f"{suffix}.gz"
        elif wrap == "zip":
            room = io.BytesIO()
            with zipfile.ZipFile(room, "w") as archive:
                archive.writestr(
                    draw(st.sampled_from(["a.txt", "../out.txt", "/abs.txt", "b/c.jsonl", "a\\b.txt", "d.zip"])), data
                )
            data, suffix = room.getvalue(), "zip"
        elif wrap == "cut":
            data = data[: len(data) // 2]
        found[f"{number}.{suffix}"] = data
    return found


def through(found: dict[str, bytes]) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        folder = Path(name)
        (folder / "in").mkdir()
        for file, data in found.items():
            (folder / "in" / file).write_bytes(data)
        settings = {
            "out": str(folder / "out"),
            "source": [str(folder / "in")],
            "steps": STEPS,
            "valid": 0,
            "test": 0,
            "workers": 1,
            "part_mb": 0.0002,
        }
        try:
            summary = run(Config.parse(settings))
        except DanluError as error:
            assert error.what
            assert {path.name for path in folder.iterdir()} <= {"in", "out.work"}
        else:
            assert {path.name for path in folder.iterdir()} == {"in", "out"}
            read = summary["funnel"][0]
            lost = folder / "out" / "dropped.jsonl"
            dropped = len(lost.read_bytes().splitlines()) if lost.exists() else 0
            aside = folder / "out" / "quarantine.jsonl"
            assert (len(aside.read_bytes().splitlines()) if aside.exists() else 0) == sum(read["dropped"].values())
            if summary["funnel"][-1]["step"] != "chunks":
                assert summary["splits"]["train"]["rows"] + dropped == read["rows"]
        assert {path.name: path.read_bytes() for path in (folder / "in").iterdir()} == found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(files())
def test_anything_goes_through_or_is_set_aside(found):
    through(found)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(files())
def test_a_thousand_times(found):
    through(found)
