"""Take chosen files out of a tar, a zip, a Debian package or a folder that nobody vouches for.

Nothing is executed, linked or given a mode: each member is read and written as plain bytes. What would
escape the target folder, is not a plain file, or unpacks to more than a bound, is refused.
"""

import bz2
import errno
import fnmatch
import functools
import gzip
import hashlib
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from danlu.core.debian import AR_MAGIC, open_deb
from danlu.core.errors import AssetError
from danlu.core.files import human_size
from danlu.core.i18n import tr

__all__ = ["extract", "matches"]

_LIMIT = 4_000_000_000
_MAX_FILES = 100_000
_CHUNK = 1 << 20
# What the readers raise on bytes that are no archive; ValueError and RuntimeError are zipfile's for headers that lie.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,
)
_DAMAGE_CODES = (None, errno.EINVAL, errno.ENAMETOOLONG)  # of an OSError: the archive's fault, not the disk's
# How a compressed tar begins, and who reads it.
_READERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


@dataclass(frozen=True)
class _Member:
    name: str
    plain: bool  # neither link, device, pipe nor encrypted
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    spent: bool = False  # its bytes are counted while the archive is read, not when they are written


def matches(name: str, pattern: str) -> bool:
    """Whether a member's name fits a glob: `*`, `?`, `[a-z]` stay within one folder, `**` spans folders."""
    return _fits(name.split("/"), pattern.split("/"))


def _fits(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_fits(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _fits(parts[1:], patterns[1:])


def extract(
    archive: Path,
    into: Path,
    members: Sequence[str],
    *,
    strip: str = "",
    rename: Mapping[str, str] | None = None,
    limit: int = _LIMIT,
    advance: Callable[[int], None] = lambda size: None,
) -> dict[str, str]:
    """Copy the files that fit one of the globs `members` from `archive` (tar, zip, deb or folder) into `into`.

    `strip` is a leading folder that is left out of the written names; `rename` gives single members a
    name of their own and takes them too. `limit` bounds the bytes unpacked, in a tar also those skipped.
    `advance` hears of each piece written, in bytes. Returns written name -> sha256.

    Raises AssetError when the archive is damaged, a member would escape or is a link, two would get one
    name, the limit is passed, or a glob or a renamed member finds nothing.
    """
    rename, written, missing = rename or {}, {}, {*members, *(rename or {})}
    budget = _Budget(archive, limit)
    try:
        for member in _members(archive, budget):
            hits = {pattern for pattern in members if matches(member.name, pattern)} | ({member.name} & set(rename))
            if not hits:
                continue
            missing -= hits
            name = rename.get(member.name) or _shorten(member.name, strip)
            _refuse_unsafe(archive, member, name)
            if len(written) >= _MAX_FILES:
                raise _refusal(archive, tr(f"more than {_MAX_FILES} files", f"文件多于 {_MAX_FILES} 个"))
            written[name] = _copy(archive, member, into / name, budget, advance)
    except _DAMAGE as error:
        raise _refusal(archive, tr(f"it is damaged or no archive: {error}", f"已损坏,或不是压缩包:{error}")) from None
    except OSError as error:
        if error.errno not in _DAMAGE_CODES:
            raise
        raise _refusal(archive, tr(f"it is damaged: {error}", f"已损坏:{error}")) from None
    if missing:
        names = ", ".join(sorted(missing))
        raise _refusal(archive, tr(f"it does not contain {names}", f"其中没有 {names}"))
    return dict(sorted(written.items()))


class _Budget:
    """Counts unpacked bytes and stops at the limit, whatever the archive's headers claim."""

    def __init__(self, archive: Path, limit: int) -> None:
        self.archive, self.limit, self.spent = archive, limit, 0

    def spend(self, size: int) -> None:
        self.spent += size
        if self.spent > self.limit:
            bound = human_size(self.limit)
            raise _refusal(self.archive, tr(f"it unpacks to more than {bound}", f"解开后超过 {bound}"))


class _Counted:
    """A tar's byte stream, read through the budget: skipping a huge member costs too."""

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        self.stream, self.budget = stream, budget

    def read(self, size: int) -> bytes:
        piece = self.stream.read(size)
        self.budget.spend(len(piece))
        return piece


def _members(archive: Path, budget: _Budget) -> Iterator[_Member]:
    if archive.is_dir():
        yield from _in_folder(archive)
    elif _start(archive).startswith(b"PK\x03\x04"):
        yield from _in_zip(archive)
    else:
        yield from _in_tar(archive, budget)


def _start(archive: Path) -> bytes:
    with archive.open("rb") as file:
        return file.read(len(AR_MAGIC))


def _in_folder(folder: Path) -> Iterator[_Member]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(place, file)
            plain = stat.S_ISREG(path.lstat().st_mode)
            yield _Member(path.relative_to(folder).as_posix(), plain, functools.partial(path.open, "rb"))


def _in_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made on Windows
            plain = kind in (0, stat.S_IFREG) and not info.flag_bits & 1
            yield _Member(
                info.filename, plain, lambda info=info: cast(AbstractContextManager[IO[bytes]], opened.open(info))
            )


def _in_tar(archive: Path, budget: _Budget) -> Iterator[_Member]:
    start = _start(archive)
    is_deb = start == AR_MAGIC
    reader = next((opener for magic, opener in _READERS.items() if start.startswith(magic)), open)
    with open_deb(archive) if is_deb else reader(archive, "rb") as stream:
        counted = cast(IO[bytes], _Counted(stream, budget))
        with tarfile.open(fileobj=counted, mode="r|") as opened:
            for info in opened:
                if not info.isdir():
                    content = cast(Callable[[], IO[bytes]], lambda info=info: opened.extractfile(info))
                    name = info.name.removeprefix("./") if is_deb else info.name  # as Debian writes all its names
                    yield _Member(name, info.isreg(), content, spent=True)


def _shorten(name: str, strip: str) -> str:
    prefix = strip.rstrip("/") + "/"
    return name.removeprefix(prefix) if strip else name


def _refuse_unsafe(archive: Path, member: _Member, name: str) -> None:
    if not member.plain:
        raise _refusal(archive, tr(f"'{member.name}' is not a plain file", f"“{member.name}”不是普通文件"))
    for text in (member.name, name):
        if any(part in ("", ".", "..") for part in text.split("/")) or re.search(r"[\x00-\x1f\\:]", text):
            raise _refusal(archive, tr(f"'{text!r}' is no safe name", f"“{text!r}”不是安全的文件名"))


def _copy(archive: Path, member: _Member, target: Path, budget: _Budget, advance: Callable[[int], None]) -> str:
    """Write one member and return its sha256."""
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(exist_ok=False)
    except (FileExistsError, NotADirectoryError):
        raise _refusal(
            archive, tr(f"two members are named '{target.name}'", f"有两个成员同名:“{target.name}”")
        ) from None
    with member.open() as source, target.open("wb") as file:
        while piece := source.read(_CHUNK):
            if not member.spent:
                budget.spend(len(piece))
            file.write(piece)
            digest.update(piece)
            advance(len(piece))
    return digest.hexdigest()


def _refusal(archive: Path, reason: str) -> AssetError:
    return AssetError(
        tr(f"cannot take the files out of {archive.name}: {reason}", f"无法从 {archive.name} 取出文件:{reason}"),
        tr(
            "nothing of it was kept; fetch it again, or from another source",
            "没有保留其中任何内容;请重新获取,或换一个来源",
        ),
    )
