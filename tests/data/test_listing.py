import pytest

from danlu.core.errors import DataError
from danlu.data.listing import KNOWN, files_of, root_of, unknown_in


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a/c.jsonl.gz", "a/d.tar.zst", "e.png", ".hidden/f.txt", "asset.json", "LICENSE", "noext"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    return tmp_path


def names(files, folder):
    return [file.relative_to(folder).as_posix() for file in files]


def test_a_folder_gives_its_known_files_sorted(folder):
    assert names(files_of(folder), folder) == ["a/c.jsonl.gz", "a/d.tar.zst", "b.txt"]
    assert names(files_of(folder, known=False), folder) == ["LICENSE", "a/c.jsonl.gz", "a/d.tar.zst", "b.txt", "e.png", "noext"]  # fmt: skip
    assert unknown_in(folder) == 3
    assert ".zst" in KNOWN


def test_a_glob_gives_what_it_finds(folder):
    assert names(files_of(folder / "**" / "*.txt"), folder) == ["b.txt"]
    assert names(files_of(folder / "*"), folder) == ["b.txt"]
    assert root_of(folder / "a" / "*.gz") == folder / "a"
    assert root_of(folder) == folder
    assert root_of(folder / "b.txt") is None
    with pytest.raises(DataError, match="no such"):
        files_of(folder / "*.md")


def test_a_file_with_signs_in_its_name_is_a_file(folder):
    file = folder / "[1]*.txt"
    file.write_bytes(b"x")
    assert files_of(file) == [file]
    assert root_of(file) is None


def test_a_file_of_no_known_kind_needs_one(folder):
    with pytest.raises(DataError, match=r"\.png"):
        files_of(folder / "e.png")
    assert files_of(folder / "e.png", known=False) == [folder / "e.png"]
