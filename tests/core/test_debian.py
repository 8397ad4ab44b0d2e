"""Debian packages made by hand, good and hostile, and an apt that is a shell script."""

import contextlib
import gzip
import io
import lzma
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.archive import extract
from danlu.core.assets import find, pull
from danlu.core.debian import fetch_deb, open_deb, other_versions
from danlu.core.errors import AssetError
from danlu.core.fetch import Unreachable
from tests.core.test_assets import CONTENT, MEMBERS, content, entry, write_catalogue

FILES = {"./usr/share/words/one.txt": b"one", "./usr/share/words/deep/two.txt": b"2" * 70_000, "./usr/bin/run": b"#!"}
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


def tar_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def ar_of(members: dict[str, bytes]) -> bytes:
    """As deb(5) describes it: headers of 60 bytes, members at even places."""
    parts = [b"!<arch>\n"]
    for name, data in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
        parts.append(data + b"\n" * (len(data) % 2))
    return b"".join(parts)


def make_deb(path: Path, files: dict[str, bytes], kind: str = ".xz") -> Path:
    control = lzma.compress(b"odd" + b"x" * (len(files) % 2))
    data = PACKERS[kind](tar_of(files))
    path.write_bytes(ar_of({"debian-binary": b"2.0\n", "control.tar.xz/": control, f"data.tar{kind}": data}))
    return path


@pytest.mark.parametrize("kind", PACKERS)
def test_the_listed_files_come_out_and_no_others(tmp_path: Path, kind: str) -> None:
    deb = make_deb(tmp_path / "a.deb", FILES, kind)
    found = extract(deb, tmp_path / "out", ["usr/share/words/**"], strip="usr/share/words")
    assert content(tmp_path / "out") == {"one.txt": b"one", "deep/two.txt": b"2" * 70_000}
    assert sorted(found) == ["deep/two.txt", "one.txt"]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd", "none"])
def test_packages_that_dpkg_makes_are_read(tmp_path: Path, kind: str) -> None:
    import subprocess

    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: words\nVersion: 1\nArchitecture: all\nMaintainer: no <n@o>\nDescription: x\n"
    )
    (tree / "usr/share/words").mkdir(parents=True)
    (tree / "usr/share/words/长.txt").write_bytes(os.urandom(100_001))
    done = subprocess.run(
        ["dpkg-deb", f"-Z{kind}", "--build", tree, tmp_path / "w.deb"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this dpkg-deb makes no {kind}")
    extract(tmp_path / "w.deb", tmp_path / "out", ["usr/share/words/*"], strip="usr/share/words")
    assert content(tmp_path / "out") == {"长.txt": (tree / "usr/share/words/长.txt").read_bytes()}


@pytest.mark.parametrize("name", ["./../evil", "../evil", "/evil", "./usr/../../evil", "././evil"])
def test_what_would_escape_is_refused(tmp_path: Path, name: str) -> None:
    deb = make_deb(tmp_path / "a.deb", {name: b"x"})
    with pytest.raises(AssetError, match="safe name"):
        extract(deb, tmp_path / "in/out", ["**"])
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.deb"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("./usr/link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    (tmp_path / "a.deb").write_bytes(ar_of({"data.tar": stream.getvalue()}))
    with pytest.raises(AssetError, match="not a plain file"):
        extract(tmp_path / "a.deb", tmp_path / "out", ["usr/*"])


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path, kind: str) -> None:
    deb = make_deb(tmp_path / "a.deb", {"./big": bytes(5_000_000), "./small": b"x"}, kind)
    with pytest.raises(AssetError, match="unpacks to more"):
        extract(deb, tmp_path / "out", ["small"], limit=1_000_000)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"!<arch>\n", "no data.tar"),
        (ar_of({"debian-binary": b"2.0\n"}), "no data.tar"),
        (ar_of({"data.tar.lzma": b"x"}), "unknown compression"),
        (b"!<arch>\n" + b"x" * 60, "broken ar header"),
        (b"!<arch>\ndata.tar", "broken ar header"),
        (ar_of({"data.tar.xz": b"not xz"}), "damaged"),
        (ar_of({"data.tar.zst": b"not zstd"}), "damaged"),
        (ar_of({"data.tar.zst": zstandard.compress(tar_of(FILES))[:-20]}), "damaged"),
        (ar_of({"data.tar.xz": lzma.compress(tar_of(FILES))})[:-40], "damaged"),
    ],
)
def test_what_is_no_package_is_told(tmp_path: Path, raw: bytes, reason: str) -> None:
    (tmp_path / "a.deb").write_bytes(raw)
    with pytest.raises(AssetError, match=reason):
        extract(tmp_path / "a.deb", tmp_path / "out", ["usr/share/words/*"])


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 2000), to=st.integers(0, 255), kind=st.sampled_from(sorted(PACKERS)), cut=st.integers(0, 2000))
def test_no_changed_byte_does_anything_but_fail_cleanly(at: int, to: int, kind: str, cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        raw = bytearray(make_deb(place / "a.deb", {"./usr/a": b"a" * 100}, kind).read_bytes())
        raw[at % len(raw)] = to
        (place / "a.deb").write_bytes(raw[: len(raw) - cut % 7])
        with contextlib.suppress(AssetError):
            extract(place / "a.deb", place / "out", ["usr/*"], limit=10_000_000)
        assert {path.relative_to(place).parts[0] for path in place.rglob("*")} <= {"a.deb", "out"}


def test_opening_reads_the_tar_stream_and_nothing_after_it(tmp_path: Path) -> None:
    tar = tar_of(FILES)
    (tmp_path / "a.deb").write_bytes(ar_of({"data.tar": tar, "trailer": b"z" * 99}))
    with open_deb(tmp_path / "a.deb") as stream:
        assert stream.read() == tar


# --- apt ---

APT_CACHE = '#!/bin/sh\n[ "$1" = madison ] || exit 9\ncat "$FAKE/list" 2>/dev/null; exit 0\n'
APT_GET = """#!/bin/sh
[ "$1" = download ] || exit 9
for last; do :; done
[ -f "$FAKE/told" ] && { cat "$FAKE/told" >&2; exit 100; }
cp "$FAKE/${last#*=}.deb" "./${last%%=*}_fake_all.deb"
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the archive: VERSION.deb are its packages, `list` is what it says it has."""
    tools, archive = tmp_path / "tools", tmp_path / "archive"
    tools.mkdir()
    archive.mkdir()
    for name, text in (("apt-cache", APT_CACHE), ("apt-get", APT_GET)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(archive))
    monkeypatch.setenv("DANLU_CACHE", str(tmp_path / "cache"))
    return archive


def offer(apt: Path, *versions: str) -> None:
    (apt / "list").write_text(
        "".join(f"     tiny | {version} | somewhere stable/main Packages\n" for version in versions)
    )


def tiny_entry(apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The asset 'tiny' of test_assets, in version 1.0 of a Debian package."""
    make_deb(apt / "1.0.deb", {f"./{name}": data for name, data in MEMBERS.items()})
    told = entry(apt / "1.0.deb", "deb:tiny=1.0")
    write_catalogue(tmp_path / "own.yaml", {"tiny": told})
    monkeypatch.setenv("DANLU_ASSETS", str(tmp_path / "own.yaml"))
    assert find("tiny").content == CONTENT


def test_the_pinned_version_is_fetched(apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_entry(apt, tmp_path, monkeypatch)
    offer(apt, "2.0", "1.0")
    folder = pull("tiny")
    assert (folder / "one.json").read_bytes() == b'["poem"]'
    assert '"deb:tiny=1.0"' in (folder / "asset.json").read_text()
    assert list((tmp_path / "cache/downloads").iterdir()) == []


def test_another_version_with_the_same_files_will_do(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_entry(apt, tmp_path, monkeypatch)
    more = {f"./{name}": data for name, data in MEMBERS.items()} | {"./changelog": b"only this is new"}
    make_deb(apt / "1.1.deb", more, ".zst")
    offer(apt, "1.1")
    assert '"deb:tiny=1.1"' in (pull("tiny") / "asset.json").read_text()


def test_a_version_with_other_files_is_refused_and_both_are_named(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_entry(apt, tmp_path, monkeypatch)
    make_deb(apt / "1.1.deb", {f"./{name}": data + b" " for name, data in MEMBERS.items()})
    offer(apt, "1.1")
    with pytest.raises(AssetError, match=r"(?s)no longer offers tiny 1\.0, only 1\.1.*deb:tiny=1\.1.*not what danlu"):
        pull("tiny")
    assert list((tmp_path / "cache/downloads").iterdir()) == []


def test_a_package_with_a_changed_byte_is_refused(apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_entry(apt, tmp_path, monkeypatch)
    offer(apt, "1.0")
    (apt / "1.0.deb").write_bytes((apt / "1.0.deb").read_bytes() + b"\n")
    with pytest.raises(AssetError, match="not what danlu knows"):
        pull("tiny")


def test_a_package_in_hand(apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_entry(apt, tmp_path, monkeypatch)
    assert (pull("tiny", source=f"file:{apt / '1.0.deb'}") / "one.json").is_file()


def test_an_unknown_package_asks_for_fresh_lists(apt: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"(?s)knows no package tiny.*apt-get update"):
        fetch_deb("tiny=1.0", tmp_path / "t.deb")
    assert other_versions("tiny=1.0") == []


@pytest.mark.parametrize(
    ("told", "kind", "match"),
    [
        ("E: Failed to fetch a  404  Not Found [IP: 1.2.3.4]\nE: Some files failed", AssetError, "is gone.*404"),
        ("E: Failed to fetch a  Could not resolve 'a'\nE: Unable", Unreachable, "cannot fetch.*resolve"),
        ("", Unreachable, "no reason"),
    ],
)
def test_what_apt_says_is_told(apt: Path, tmp_path: Path, told: str, kind: type[AssetError], match: str) -> None:
    offer(apt, "1.0")
    (apt / "told").write_text(told)
    with pytest.raises(kind, match=f"(?s){match}"):
        fetch_deb("tiny=1.0", tmp_path / "t.deb")
    assert not (tmp_path / "t.deb").exists()


def test_other_versions_are_the_offered_ones_once(apt: Path) -> None:
    offer(apt, "3", "2", "1", "2")
    assert other_versions("tiny=2") == ["tiny=3", "tiny=1"]


def test_without_apt_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert other_versions("tiny=1") == []
    with pytest.raises(AssetError, match="needs apt"):
        fetch_deb("tiny=1", tmp_path / "t.deb")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt")
def test_wordnet_really_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANLU_CACHE", str(tmp_path))
    folder = pull("wordnet")
    synsets = [
        line
        for kind in ("noun", "verb", "adj", "adv")
        for line in (folder / f"data.{kind}").read_text().splitlines()
        if not line.startswith("  ")
    ]
    assert len(synsets) == 117_659
