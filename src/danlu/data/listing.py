"""Which files a path stands for: a file, the files of a folder, those that a glob finds."""

import glob
from pathlib import Path

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.containers import ARCHIVES, COMPRESSED, base_name, is_archive
from danlu.data.formats import SUFFIXES, kind_of

__all__ = ["KNOWN", "files_of", "root_of", "unknown_in"]

KNOWN = (*SUFFIXES, *ARCHIVES, *COMPRESSED)


def files_of(path: Path, *, known: bool = True) -> list[Path]:
    """The readable files at `path` (a file, a folder or a glob), sorted; hidden ones are passed over.

    With `known` false also those whose names tell no kind. Raises DataError when there is nothing.
    """
    if path.is_dir():
        return [file for file in _walk(path) if not known or _known(file)]
    if not path.exists() and glob.has_magic(str(path)):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        files = [file for file in found if file.is_file() and (not known or _known(file)) and not _own(file)]
        if files:
            return files
    if not path.exists():
        raise DataError(
            tr(f"no such file or folder: {path}", f"没有这个文件或文件夹:{path}"), tr("check the path", "请检查路径")
        )
    if known and not _known(path):
        raise DataError(
            tr(
                f"cannot read {path}: unknown kind of file '{path.suffix}'",
                f"无法读取 {path}:未知的文件类型“{path.suffix}”",
            ),
            tr(f"known: {', '.join(KNOWN)}; or name its kind", f"可读的有:{'、'.join(KNOWN)};也可以指明类型"),
        )
    return [path]


def root_of(path: Path) -> Path | None:
    """The folder that names of files are told from: the folder itself, or the part of a glob before its first sign."""
    if path.is_dir():
        return path
    if path.exists() or not glob.has_magic(str(path)):
        return None
    return Path(*path.parts[: next(at for at, part in enumerate(path.parts) if glob.has_magic(part))])


def unknown_in(folder: Path) -> int:
    """How many files of a folder are passed over because their names tell no kind."""
    return sum(not _known(file) for file in _walk(folder))


def _known(file: Path) -> bool:
    base = base_name(file.name)
    return bool(kind_of(base)) or is_archive(file.name)


def _walk(folder: Path) -> list[Path]:
    """The files of a folder, sorted, without hidden ones and danlu's own notes."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and not _own(file))
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _own(file: Path) -> bool:
    """A note that danlu wrote beside data: of `danlu pull`, of `danlu data prepare`."""
    beside = {"asset.json": "LICENSE", "data.json": "train.jsonl", "data.html": "train.jsonl"}
    return file.name in beside and (file.parent / beside[file.name]).is_file()
