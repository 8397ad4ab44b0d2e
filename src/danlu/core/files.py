"""Files that are complete or absent, never half there."""

import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from danlu.core.errors import DataError, FolderError, StorageError
from danlu.core.i18n import tr

__all__ = [
    "atomic_folder",
    "atomic_path",
    "hash_path",
    "human_size",
    "read_json",
    "read_lines",
    "remove_folder",
    "sha256_file",
    "storage_errors",
    "write_json",
]

# What only tells about a file, or was made beside it, does not count as its content.
_NOT_CONTENT = {".DS_Store", "__pycache__"}
_NOT_WRITABLE = {errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; it takes the name only when the block succeeds.

    Raises StorageError when the disk is full or not writable; an old `path` then still stands.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        try:
            yield temporary
            _fsync(temporary)
            os.replace(temporary, path)
            _fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the name only when the block succeeds.

    Raises StorageError as `atomic_path` does, and when `path` is a file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with storage_errors(path):
        if path.is_file():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary.mkdir()
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _fsync(file)
            _fsync(temporary)
            _exchange(temporary, path)
            _fsync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn 'disk full' and 'not allowed' while writing `path` into a StorageError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(_existing(path)).free
            raise StorageError(
                tr(f"the disk is full while writing {path}", f"写入 {path} 时磁盘已满"),
                tr(
                    f"{human_size(free)} are free there; make room and give the same command again, nothing was lost",
                    f"该处剩余 {human_size(free)};腾出空间后重新执行同一命令即可,已有内容没有丢失",
                ),
            ) from None
        if error.errno in _NOT_WRITABLE:
            raise StorageError(
                tr(f"cannot write {path}: {error.strerror}", f"无法写入 {path}:{error.strerror}"),
                tr("choose another place with --out", "请用 --out 换一个位置"),
            ) from None
        raise


def remove_folder(path: Path) -> None:
    """Remove a folder: it is whole or gone, also when the process is killed amid it."""
    path = Path(path)
    with storage_errors(path):
        _sweep(path)
        gone = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        os.replace(path, gone)
        shutil.rmtree(gone)


def _exchange(temporary: Path, path: Path) -> None:
    """Put the folder `temporary` in the place of `path`."""
    if not path.exists():
        os.replace(temporary, path)
        return
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    os.replace(path, old)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.replace(old, path)
        raise
    shutil.rmtree(old)


def _sweep(path: Path) -> None:
    """Remove what a process that was killed left beside `path`; killed amid an exchange, give the old folder back."""
    for kind in ("tmp", "old"):
        for left in path.parent.glob(f".{glob.escape(path.name)}.{kind}-*"):
            pid = left.name.rpartition("-")[2]
            if _alive(pid) and pid != str(os.getpid()):  # in a container the next process has the same number
                continue
            if kind == "old" and not path.exists():
                os.replace(left, path)
            else:
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_path(path: Path) -> str:
    """Hex digest of a file's, or of a whole folder's, names and bytes. Raises FileNotFoundError."""
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        raise FileNotFoundError(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file() and not _NOT_CONTENT.intersection(file.parts):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically (UTF-8, characters as they are)."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


_AGAIN = tr("copy it again, or run the stage that made it", "请重新拷贝,或重跑生成它的阶段")


def read_json(path: Path) -> Any:
    """Read JSON; raise FolderError that names the file and what is wrong with it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(tr(f"missing file: {path}", f"缺少文件:{path}"), _AGAIN) from None
    except OSError as error:  # a folder of that name, or no permission
        raise FolderError(
            tr(f"cannot read {path}: {error.strerror}", f"无法读取 {path}:{error.strerror}"), _AGAIN
        ) from None
    except RecursionError:
        raise FolderError(tr(f"{path} is damaged: nested too deeply", f"{path} 已损坏:嵌套过深"), _AGAIN) from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise FolderError(tr(f"{path} is damaged: {error}", f"{path} 已损坏:{error}"), _AGAIN) from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8, empty ones too. Raises DataError naming what is wrong with it."""
    try:
        return Path(path).read_text(encoding="utf-8").removeprefix("\ufeff").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            tr(
                f"{path} is not UTF-8: byte {error.start} cannot be decoded",
                f"{path} 不是 UTF-8：第 {error.start} 个字节无法解码",
            ),
            tr("convert it first, for instance with iconv", "请先转换编码，例如用 iconv"),
        ) from None
    except OSError as error:
        raise DataError(tr(f"cannot read {path}: {error.strerror}", f"无法读取 {path}：{error.strerror}")) from None


def human_size(size: float) -> str:
    """Bytes for people: 15.6 MB (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
