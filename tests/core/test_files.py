import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from danlu.core import files
from danlu.core.errors import DataError, FolderError, StorageError
from danlu.core.files import (
    atomic_folder,
    atomic_path,
    hash_path,
    human_size,
    read_json,
    read_lines,
    remove_folder,
    sha256_file,
    storage_errors,
    write_json,
)

NOBODY = 2**22 + 1  # above the largest process number


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(folder: Path, size: int) -> None:
    (folder / "a.txt").write_text("a")
    (folder / "b.bin").write_bytes(b"x" * size)


def test_a_path_is_written_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "deep" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("two")
        raise KeyError
    assert path.read_text() == "one"
    assert names(path.parent) == ["a.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "folder"
    with atomic_folder(path) as temporary:
        fill(temporary, 3)
        (temporary / "inner").mkdir()
    with pytest.raises(KeyError), atomic_folder(path) as temporary:
        (temporary / "c").write_text("c")
        raise KeyError
    assert names(path) == ["a.txt", "b.bin", "inner"]
    with atomic_folder(path) as temporary:
        (temporary / "c").write_text("c")
    assert names(path) == ["c"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("write", [atomic_path, atomic_folder])
def test_leftovers_of_a_killed_process_are_swept(write, tmp_path: Path):
    target = tmp_path / "out[1]"
    for pid in (NOBODY, os.getpid()):  # in a container, the next process has the same number
        left = tmp_path / f".out[1].tmp-{pid}"
        left.mkdir() if write is atomic_folder else left.write_text("half")
    alive = tmp_path / f".out[1].tmp-{os.getppid()}"
    alive.mkdir()
    with write(target) as temporary:
        temporary.mkdir(exist_ok=True) if write is atomic_folder else temporary.write_text("whole")
    assert names(tmp_path) == [alive.name, "out[1]"]


def test_killed_amid_an_exchange_the_old_folder_comes_back(tmp_path: Path):
    old = tmp_path / f".folder.old-{NOBODY}"
    old.mkdir()
    (old / "precious").write_text("x")
    with pytest.raises(KeyError), atomic_folder(tmp_path / "folder"):
        raise KeyError
    assert names(tmp_path / "folder") == ["precious"]


def test_an_exchange_that_fails_gives_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "precious").write_text("x")
    replace, calls = os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(KeyboardInterrupt), atomic_folder(path):
        pass
    assert names(path) == ["precious"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so_and_nothing_is_lost(number: int, tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(StorageError, match="full") as caught, atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert str(path) in caught.value.what
    assert "free" in caught.value.do
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_really_full_disk(small_disk: Callable[[str], Path]):
    disk = small_disk("64k")
    with atomic_folder(disk / "folder") as temporary:
        fill(temporary, 20_000)
    before = hash_path(disk / "folder")
    with pytest.raises(StorageError, match="full"), atomic_folder(disk / "folder") as temporary:
        fill(temporary, 200_000)
    assert hash_path(disk / "folder") == before
    with pytest.raises(StorageError, match="full"):
        write_json(disk / "a.json", ["x" * 1000] * 200)
    assert names(disk) == ["folder"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_what_may_not_be_written_says_so(number: int, tmp_path: Path):
    with pytest.raises(StorageError, match="cannot write"), storage_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_other_errors_pass(tmp_path: Path):
    with pytest.raises(OSError, match="Input/output"), storage_errors(tmp_path):
        raise OSError(errno.EIO, "Input/output error")


def test_a_file_in_the_way_is_kept(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(StorageError, match="cannot write"), atomic_folder(file):
        pass
    with pytest.raises(StorageError, match="cannot write"), atomic_folder(file / "inside"):
        pass
    with pytest.raises(StorageError, match="cannot write"):
        write_json(tmp_path, {})
    assert file.read_text() == "mine"


def test_remove_folder(tmp_path: Path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    remove_folder(tmp_path / "folder")
    assert names(tmp_path) == []


def test_content_hash(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        fill(tmp_path / name, 4)
        (tmp_path / name / "inner" / "c").write_text("c")
    one, two = (tmp_path / name for name in ("one", "two"))
    assert hash_path(one) == hash_path(two)
    (two / ".DS_Store").write_text("of a viewer")
    assert hash_path(one) == hash_path(two)
    (two / "inner" / "c").rename(two / "c")
    assert hash_path(one) != hash_path(two)
    assert hash_path(one / "a.txt") == sha256_file(one / "a.txt")
    assert sha256_file(one / "a.txt") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    with pytest.raises(FileNotFoundError):
        hash_path(tmp_path / "none")


def test_json_keeps_characters_and_refuses_what_is_not_json(tmp_path: Path):
    file = tmp_path / "a.json"
    write_json(file, {"诗": [1, 2.5, None]})
    assert "诗" in file.read_text(encoding="utf-8")
    assert read_json(file) == {"诗": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, float("nan"))
    assert json.loads(file.read_text(encoding="utf-8")) == {"诗": [1, 2.5, None]}


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe{}", b"nothing", b"[" * 100_000, b"9" * 10_000])
def test_damaged_json_names_the_file(content: bytes, tmp_path: Path):
    file = tmp_path / "a.json"
    with pytest.raises(FolderError, match=r"missing file: .*a\.json"):
        read_json(file)
    file.write_bytes(content)
    with pytest.raises(FolderError, match=r"a\.json is damaged"):
        read_json(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(FolderError, match=r"cannot read .*a\.json"):
        read_json(file)


@pytest.mark.parametrize(
    ("size", "told"),
    [(0, "0 B"), (999, "999 B"), (15_600_000, "15.6 MB"), (1500, "1.5 kB"), (2e9, "2.0 GB"), (3.5e12, "3.5 TB")],
)
def test_human_size(size: float, told: str):
    assert human_size(size) == told


def test_alive_knows_this_process():
    assert files._alive(str(os.getpid()))
    assert not files._alive(str(NOBODY))
    assert not files._alive("nothing")


def test_lines_are_all_there_and_faults_are_named(tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeff一\r\n\n three \n".encode())
    assert read_lines(path) == ["一", "", " three "]
    path.write_bytes(b"a\xff")
    with pytest.raises(DataError, match=r"lines.txt is not UTF-8: byte 1"):
        read_lines(path)
    with pytest.raises(DataError, match="cannot read"):
        read_lines(tmp_path / "nowhere")
