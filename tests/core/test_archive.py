"""Archives made by hand, good and hostile: what is asked for comes out whole, nothing else, nowhere else."""

import contextlib
import hashlib
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.archive import extract, matches
from danlu.core.errors import AssetError

FILES = {"top/a/one.json": b"1" * 10, "top/a/two.txt": b"22", "top/a/deep/one.json": b"333", "top/LICENSE": b"free"}


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "tar.gz": make_tar,
    "tar": lambda path, files: make_tar(path, files, "w"),
    "tar.bz2": lambda path, files: make_tar(path, files, "w:bz2"),
    "tar.xz": lambda path, files: make_tar(path, files, "w:xz"),
    "zip": make_zip,
    "folder": make_folder,
}


@pytest.fixture(params=MAKERS)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MAKERS[request.param](tmp_path / "archive", FILES)


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_only_what_is_asked_for(archive: Path, tmp_path: Path) -> None:
    pieces: list[int] = []
    rename = {"top/LICENSE": "LICENSE"}
    written = extract(archive, tmp_path / "out", ["top/a/*.json"], strip="top/", rename=rename, advance=pieces.append)
    assert content(tmp_path / "out") == {"a/one.json": b"1" * 10, "LICENSE": b"free"}
    assert written == {
        "LICENSE": hashlib.sha256(b"free").hexdigest(),
        "a/one.json": hashlib.sha256(b"1" * 10).hexdigest(),
    }
    assert sum(pieces) == 14


def test_everything(archive: Path, tmp_path: Path) -> None:
    extract(archive, tmp_path / "out", ["**"])
    assert content(tmp_path / "out") == FILES


def test_a_pattern_without_a_member_is_an_error(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"top/b/\*"):
        extract(archive, tmp_path / "out", ["top/a/*.json", "top/b/*"])
    with pytest.raises(AssetError, match="COPYING"):
        extract(archive, tmp_path / "out2", ["top/a/*.json"], rename={"top/COPYING": "LICENSE"})


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("a/b.json", "a/*.json", True),
        ("a/error/b.json", "a/*.json", False),
        ("a/error/b.json", "a/**/*.json", True),
        ("a/b.json", "a/**/*.json", True),
        ("a/b.json", "**", True),
        ("ca01", "c[a-r][0-9][0-9]", True),
        ("cats", "c[a-r][0-9][0-9]", False),
        ("A.json", "a.json", False),
        ("a/b", "a", False),
        ("a", "a/b", False),
    ],
)
def test_globs(name: str, pattern: str, fits: bool) -> None:
    assert matches(name, pattern) is fits


NAMES = st.lists(
    st.text("ab唐.-", min_size=1, max_size=4).filter(lambda part: part not in (".", "..")), min_size=1, max_size=3
)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(NAMES.map("/".join), st.binary(max_size=50), min_size=1, max_size=5),
    st.sampled_from(["tar.gz", "zip"]),
)
def test_bytes_survive(files: dict[str, bytes], kind: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        archive = MAKERS[kind](Path(scratch, "archive"), files)
        if any(other.startswith(f"{name}/") for name in files for other in files):  # a file where a folder must be
            with pytest.raises(AssetError):
                extract(archive, Path(scratch, "out"), ["**"])
        else:
            extract(archive, Path(scratch, "out"), ["**"])
            assert content(Path(scratch, "out")) == files


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "a//evil", "./evil", "a\\..\\evil", "C:evil", "a\nb"]
)
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_names_that_escape_are_refused(
    make: Callable[[Path, dict[str, bytes]], Path], name: str, tmp_path: Path
) -> None:
    archive = make(tmp_path / "archive", {"good": b"1", name: b"evil"})
    with pytest.raises(AssetError):
        extract(archive, tmp_path / "deep" / "out", ["**"])
    assert not [file for file in tmp_path.rglob("*") if "evil" in file.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_tar_member_that_is_no_plain_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a/link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(AssetError, match="a/link"):
        extract(tmp_path / "x.tar", tmp_path / "out", ["a/*"])
    assert content(tmp_path / "out") == {}


def test_a_zip_member_that_is_a_link_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(AssetError, match="link"):
        extract(tmp_path / "x.zip", tmp_path / "out", ["*"])


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "link").symlink_to("/etc/passwd")
    with pytest.raises(AssetError, match="link"):
        extract(tmp_path / "from", tmp_path / "out", ["*"])


def test_a_link_that_nobody_asked_for_does_not_matter(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("file"))
    assert list(extract(tmp_path / "x.tar", tmp_path / "out", ["file"])) == ["file"]


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_a_bomb_stops_at_the_limit(kind: str, tmp_path: Path) -> None:
    archive = MAKERS[kind](tmp_path / "bomb", {"zeros": bytes(20_000_000)})
    assert archive.stat().st_size < 50_000
    with pytest.raises(AssetError, match=r"1\.0 MB"):
        extract(archive, tmp_path / "out", ["zeros"], limit=1_000_000)
    assert (tmp_path / "out" / "zeros").stat().st_size <= 1_000_000


def test_skipping_a_bomb_costs_too(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "bomb", {"zeros": bytes(20_000_000), "small": b"1"})
    with pytest.raises(AssetError, match=r"1\.0 MB"):
        extract(archive, tmp_path / "out", ["small"], limit=1_000_000)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("twice"))
    with pytest.raises(AssetError, match="twice"):
        extract(tmp_path / "x.tar", tmp_path / "out", ["*"])


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_truncated_archive_is_named(kind: str, tmp_path: Path) -> None:
    whole = MAKERS[kind](tmp_path / "whole", {"file": bytes(range(256)) * 4000}).read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssetError, match="half"):
        extract(tmp_path / "half", tmp_path / "out", ["file"])


@pytest.mark.parametrize("junk", [b"", b"hello, this is no archive", b"PK\x03\x04 but no zip", b"\x1f\x8b but no gzip"])
def test_what_is_no_archive_is_named(junk: bytes, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(junk)
    with pytest.raises(AssetError, match="junk"):
        extract(tmp_path / "junk", tmp_path / "out", ["file"])


def test_a_changed_byte_in_a_zip_is_noticed(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("file", b"the quick brown fox")
    archive.write_bytes(archive.read_bytes().replace(b"quick", b"quack"))
    with pytest.raises(AssetError, match=r"x\.zip"):
        extract(archive, tmp_path / "out", ["file"])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=4),
)
def test_whatever_is_broken_is_an_asset_error(kind: str, where: float, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        archive = MAKERS[kind](Path(scratch, "archive"), FILES | {"noise": bytes(range(256)) * 4})
        whole = archive.read_bytes()
        place = int(where * len(whole))
        archive.write_bytes(whole[:place] + junk + whole[place + len(junk) :])
        with contextlib.suppress(AssetError):  # any other exception would be a traceback to the reader
            extract(archive, Path(scratch, "out"), ["**"])
        assert {path.name for path in Path(scratch).iterdir()} <= {"archive", "out"}
