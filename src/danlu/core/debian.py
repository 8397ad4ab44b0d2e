"""Debian packages as a source of data: fetched by the user's own apt, opened without dpkg, never installed.

`deb:PACKAGE=VERSION` names the version that the catalogue knows. Releases move on, so other versions that apt
offers may stand in for it; whether one fits is for the hash over the chosen files to say.
"""

import gzip
import io
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from danlu.core.errors import AssetError, MissingExtraError
from danlu.core.fetch import Unreachable
from danlu.core.files import storage_errors
from danlu.core.i18n import tr

__all__ = ["AR_MAGIC", "fetch_deb", "open_deb", "other_versions"]

AR_MAGIC = b"!<arch>\n"
_HEADER = 60  # bytes before each member of an ar archive: name 16, time 12, owner 6, group 6, mode 8, size 10, end 2
_WINDOW = 1 << 27  # bytes of history that a zstd stream may ask us to hold
_PATIENCE = [
    "-o=Acquire::Retries=1",
    "-o=Acquire::http::Timeout=30",
    "-o=Acquire::https::Timeout=30",
]


def fetch_deb(place: str, target: Path) -> None:
    """Let apt fetch `PACKAGE=VERSION` as it is configured here, into the file `target`. No root is needed.

    Raises AssetError where there is no apt or it does not offer this version, Unreachable without a network.
    """
    package, _, version = place.partition("=")
    offered = _offered(package)
    if version not in offered:
        raise AssetError(_gone(package, version, offered), _advice(offered))
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=target.name, dir=target.parent))
    try:
        done = _apt("apt-get", "download", "-q", *_PATIENCE, f"{package}={version}", folder=folder)
        found = list(folder.glob("*.deb"))
        if done.returncode or len(found) != 1:
            raise _refusal(place, done.stderr)
        os.replace(found[0], target)
    finally:
        shutil.rmtree(folder)


def other_versions(place: str) -> list[str]:
    """`PACKAGE=VERSION` for every other version that apt offers here, newest first; none where there is no apt."""
    package, _, pinned = place.partition("=")
    if shutil.which("apt-cache") is None:
        return []
    return [f"{package}={version}" for version in _offered(package) if version != pinned]


def _offered(package: str) -> list[str]:
    done = _apt("apt-cache", "madison", package)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return list(dict.fromkeys(row[1].strip() for row in rows if len(row) == 3 and "Packages" in row[2]))


def _gone(package: str, version: str, offered: list[str]) -> str:
    if not offered:
        return tr(f"apt knows no package {package}", f"apt 不认识软件包 {package}")
    others = ", ".join(offered)
    return tr(
        f"apt no longer offers {package} {version}, only {others}", f"apt 已不提供 {package} {version},只有 {others}"
    )


def _advice(offered: list[str]) -> str:
    if offered:
        return ""
    return tr("bring its lists up to date: sudo apt-get update", "请先更新软件包列表:sudo apt-get update")


def _refusal(place: str, told: str) -> AssetError:
    lines = [line.removeprefix("E: ") for line in told.splitlines() if line.startswith("E: ")]
    reason = lines[0] if lines else tr("apt gives no reason", "apt 没有说明原因")
    if "404" in reason:  # the lists are older than the archive
        return AssetError(tr(f"{place} is gone: {reason}", f"{place} 已不存在:{reason}"), _advice([]))
    return Unreachable(tr(f"apt cannot fetch {place}: {reason}", f"apt 取不到 {place}:{reason}"))


def _apt(command: str, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = shutil.which(command)
    if path is None:
        raise AssetError(
            tr(
                "this source needs apt (Debian, Ubuntu), which is not here",
                "这个来源需要 apt(Debian、Ubuntu),而这里没有",
            )
        )
    try:
        return subprocess.run(
            [path, *arguments], capture_output=True, encoding="utf-8", errors="replace", timeout=600,
            stdin=subprocess.DEVNULL, cwd=folder, env=os.environ | {"LC_ALL": "C"}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unreachable(tr("apt did not answer within ten minutes", "apt 十分钟没有回应")) from None


# --- the archive ---


@contextmanager
def open_deb(archive: Path) -> Iterator[IO[bytes]]:
    """The tar stream of a package's data.tar, .gz, .xz or .zst, uncompressed as it is read.

    Raises ValueError when the bytes are no Debian package (here and while reading), MissingExtraError.
    """
    with archive.open("rb") as file, ExitStack() as stack:
        name, start, size = _find_data(file)
        window = io.BufferedReader(_Window(file, start, size))
        openers: dict[str, Callable[[IO[bytes]], Any]] = {
            "data.tar": lambda raw: raw,
            "data.tar.gz": lambda raw: gzip.GzipFile(fileobj=raw),
            "data.tar.xz": lzma.LZMAFile,
            "data.tar.zst": lambda raw: stack.enter_context(_zstd(raw)),
        }
        if name not in openers:
            raise ValueError(f"unknown compression: {name}")
        yield openers[name](cast(IO[bytes], window))


def _find_data(file: IO[bytes]) -> tuple[str, int, int]:
    """Name, first byte and length of the ar member that holds the files."""
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        raise ValueError("not an ar archive")
    while header := file.read(_HEADER):
        if len(header) < _HEADER or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            raise ValueError("a broken ar header")
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return name, file.tell(), size
        file.seek(size + size % 2, os.SEEK_CUR)  # members begin at even bytes
    raise ValueError("no data.tar in it")


class _Window(io.RawIOBase):
    """`size` bytes of a file from `start` on, as a file of its own."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self.file, self.left = file, size
        file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.file.read(min(len(buffer), self.left))
        self.left -= len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


@contextmanager
def _zstd(raw: IO[bytes]) -> Iterator[Any]:
    try:
        import zstandard
    except ModuleNotFoundError:
        raise MissingExtraError("zstandard", "data") from None
    try:
        yield zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(raw, read_across_frames=True)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
