"""Opens compressed files and archives that nobody vouches for, one member after another, in bounded memory.

gz, bz2, xz and zst; tar and zip, also `.tar.gz` and files compressed within an archive. Nothing is written and no link is
followed. What is encrypted, leaves the archive by its path, or unpacks to more than `SLACK` + `RATIO` x the size of the
outermost file (a zip bomb), is a `Fault`.
"""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from danlu.core.errors import MissingExtraError
from danlu.data.encodings import Decoder
from danlu.data.faults import Fault

__all__ = ["ARCHIVES", "COMPRESSED", "RATIO", "SLACK", "Member", "Stream", "base_name", "is_archive", "members"]

SLACK = 64 << 20  # bytes that any file may unpack to
RATIO = 200  # text compresses 3 to 20 times, logs perhaps 100 times
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tzst")
_SHORT = {".tgz": ".tar.gz", ".tbz2": ".tar.bz2", ".txz": ".tar.xz", ".tzst": ".tar.zst"}
_MEMORY = 128 << 20  # what a decompressor may take for its window
_DIRECTORY = 64 << 20  # bytes of a zip's directory, about a million names
_TAR_HEAD = 1 << 20  # bytes of a tar's extended header
_ZST_PIECE = 256  # a block of 4 bytes can stand for 128 kB, so these for 8 MB
_DAMAGE = (zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, tarfile.TarError, OverflowError)


class Stream(Protocol):
    """Something read from front to back. `read` raises Fault when it is damaged."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """A file in an archive, or the whole when it was none: `name` is '' then, else 'inner/b.txt' or 'b.tar!c.txt'.

    `base` is its name without what is unpacked already ('b.txt' of 'b.txt.gz'). The stream must be read before the next
    member is asked for. After a fault within a member the next one can be asked for: what is broken raises again.
    """

    name: str
    base: str
    stream: Stream


def base_name(name: str) -> str:
    """'a.jsonl' of 'a.jsonl.gz', 'a.tar' of 'a.tgz', in lower case."""
    name = name.lower()
    for short, long in _SHORT.items():
        name = name.removesuffix(short) + long if name.endswith(short) else name
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def is_archive(name: str) -> bool:
    """Whether a file of that name holds others."""
    return base_name(name).endswith((".tar", ".zip"))


def members(file: BinaryIO, name: str, size: int, wanted: Callable[[str, str], bool]) -> Iterator[Member | Fault]:
    """The members of the file called `name`, of `size` bytes, that are `wanted(name, base)`.

    A Fault that is yielded concerns the member named in its detail; one that is raised, the rest of the file.
    """
    yield from _open(file, name, _Budget(SLACK + RATIO * size), "", wanted, file if file.seekable() else None)


def _open(
    stream: Stream, name: str, budget: "_Budget", prefix: str, wanted: Callable[[str, str], bool], file: BinaryIO | None
) -> Iterator[Member | Fault]:
    long = name.lower()
    for short, full in _SHORT.items():
        long = long.removesuffix(short) + full if long.endswith(short) else long
    if suffix := next((suffix for suffix in COMPRESSED if long.endswith(suffix)), ""):
        stream, file = _Guarded(_READERS[suffix](stream), budget), None
    base = base_name(name)
    if not is_archive(name):
        yield Member(prefix, base, stream)
    elif prefix.count("!") > 1:
        raise Fault("unsupported", "nested")
    elif base.endswith(".tar"):
        yield from _tar(stream, budget, prefix, wanted)
    elif file is None:
        raise Fault("unsupported", "zip in another archive")
    else:
        yield from _zip(file, budget, wanted)


@dataclass
class _Budget:
    """How many bytes may still come out of a file, over all its members."""

    left: int

    def __post_init__(self) -> None:
        self.limit = self.left

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise Fault("bomb", str(self.limit))


class _Guarded:
    """Reads through a decompressor; what it raises becomes a Fault, what it gives is counted."""

    def __init__(self, inner: Stream, budget: _Budget) -> None:
        self._inner, self._budget = inner, budget

    def read(self, size: int) -> bytes:
        try:
            data = self._inner.read(min(size, 1 << 20))
        except EOFError:
            raise Fault("truncated", "the compressed data") from None
        except MemoryError:
            raise Fault("damaged", "it needs too much memory") from None
        except _DAMAGE as error:
            raise Fault("damaged", str(error)) from None
        self._budget.spend(len(data))
        return data


class _Inflate:
    """bz2 and xz: several streams one after the other, output bounded by `read`'s size; EOFError when cut off."""

    def __init__(self, source: Stream, make: Callable[[], Any]) -> None:
        self._source, self._make, self._inner, self._rest, self._some = source, make, make(), b"", False

    def read(self, size: int) -> bytes:
        while True:
            if self._inner.eof:
                self._rest = self._inner.unused_data.lstrip(b"\0") or self._source.read(1 << 16).lstrip(b"\0")
                if not self._rest:
                    return b""
                self._inner = self._make()
            data = self._rest
            if not data and self._inner.needs_input:
                data = self._source.read(1 << 16)
                if not data:
                    if self._some:
                        raise EOFError
                    return b""
            self._rest, self._some = b"", True
            try:
                out = self._inner.decompress(data, size)
            except (OSError, ValueError) as error:  # bz2's way of saying that it is none
                raise Fault("damaged", str(error)) from None
            if out:
                return out


class _Zstd:
    """zst: fed with little at a time, because a little can stand for much; EOFError when cut off within a frame."""

    def __init__(self, source: Stream) -> None:
        try:
            import zstandard
        except ImportError:
            raise MissingExtraError("zstandard", "data") from None
        self._source, self._error, self._rest = source, zstandard.ZstdError, b""
        self._maker = zstandard.ZstdDecompressor(max_window_size=_MEMORY)
        self._inner: Any = None
        self._ready = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._ready:
            if not self._rest:
                self._rest = self._source.read(1 << 16)
                if not self._rest:
                    if self._inner is not None:
                        raise EOFError
                    return b""
            self._ready = memoryview(self._more(size))
        data, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return data

    def _more(self, size: int) -> bytes:
        """What the next pieces stand for: about `size` bytes, fewer when the source has to be read first."""
        out, count = [], 0
        while count < size and self._rest:
            piece, self._rest = self._rest[:_ZST_PIECE], self._rest[_ZST_PIECE:]
            self._inner = self._inner or self._maker.decompressobj()
            try:
                data = self._inner.decompress(piece)
            except self._error as error:
                raise Fault("damaged", str(error)) from None
            if self._inner.eof:
                self._rest, self._inner = self._inner.unused_data + self._rest, None
            out.append(data)
            count += len(data)
        return b"".join(out)


_READERS: dict[str, Callable[[Stream], Stream]] = {
    ".gz": lambda source: gzip.GzipFile(fileobj=source),  # pyright: ignore[reportArgumentType, reportReturnType]
    ".bz2": lambda source: _Inflate(source, bz2.BZ2Decompressor),
    ".xz": lambda source: _Inflate(source, lambda: lzma.LZMADecompressor(memlimit=_MEMORY)),
    ".zst": _Zstd,
}


def _zip(file: BinaryIO, budget: _Budget, wanted: Callable[[str, str], bool]) -> Iterator[Member | Fault]:
    size = file.seek(0, io.SEEK_END)
    _check_directory(file, size)
    try:
        archive = zipfile.ZipFile(file)
        infos = [info for info in archive.infolist() if not info.is_dir()]
    except (*_DAMAGE, ValueError, NotImplementedError, EOFError, OSError) as error:
        raise Fault("damaged", str(error)) from None
    if sum(info.compress_size for info in infos) > size:
        raise Fault("bomb", str(budget.limit))  # members that share their bytes
    seen: dict[str, int] = {}
    for info in infos:
        name = _unique(_zip_name(info), seen)
        if _unsafe(name):
            yield Fault("unsafe_path", name)
        elif wanted(name, base_name(name)):
            try:
                yield from _zip_member(archive, info, name, budget, wanted)
            except Fault as fault:
                if fault.reason == "bomb":
                    raise
                yield Fault(fault.reason, name)


def _check_directory(file: BinaryIO, size: int) -> None:
    """The directory is read as a whole by `zipfile`, so one that says it is huge is not opened."""
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    said = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if said == 0xFFFFFFFF and (at := tail.rfind(b"PK\6\6")) >= 0:
        said = int.from_bytes(tail[at + 40 : at + 48], "little")
    if said > _DIRECTORY:
        raise Fault("too_long", str(_DIRECTORY))


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, budget: _Budget, wanted: Callable[[str, str], bool]
) -> Iterator[Member | Fault]:
    if info.flag_bits & 1:
        raise Fault("encrypted")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise Fault("not_a_file")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Fault("unsupported", str(info.compress_type))  # zipfile reads the others without a bound on memory
    if info.file_size > SLACK + RATIO * info.compress_size:
        raise Fault("bomb", str(SLACK + RATIO * info.compress_size))
    try:
        inner = archive.open(info)
    except (*_DAMAGE, ValueError, NotImplementedError, EOFError, RuntimeError, OSError) as error:
        raise Fault("damaged", str(error)) from None
    with inner:
        yield from _open(_Guarded(inner, budget), name, budget, name, wanted, None)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Names that are not marked as UTF-8 are in the encoding of the machine that packed them."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename.replace("\\", "/")
    decoder = Decoder()
    try:
        return decoder.feed(info.filename.encode("cp437"), final=True).replace("\\", "/")
    except UnicodeEncodeError:
        return info.filename.replace("\\", "/")


def _tar(stream: Stream, budget: _Budget, prefix: str, wanted: Callable[[str, str], bool]) -> Iterator[Member | Fault]:
    """Headers are read here, not by `tarfile.open`, which takes an extended header of any size into memory."""
    seen: dict[str, int] = {}
    said: dict[str, str] = {}  # by an extended header, about the next member
    empty = True
    while block := _exactly(stream, tarfile.BLOCKSIZE, empty):
        if not block.strip(b"\0"):
            return
        empty = False
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise Fault("damaged", str(error)) from None
        padding = -info.size % tarfile.BLOCKSIZE
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, *tarfile.GNU_TYPES[:2]):
            if info.size > _TAR_HEAD:
                raise Fault("too_long", str(_TAR_HEAD))
            said |= _extended(info.type, _exactly(stream, info.size + padding, False)[: info.size])
            continue
        size = said.get("size", str(info.size))
        if not size.isdecimal() or len(size) > 18:
            raise Fault("damaged", "size")
        name = _plain(said.get("path", info.name))
        said, body = {}, _Part(stream, int(size))
        padding = -int(size) % tarfile.BLOCKSIZE
        if info.isdir():
            pass
        elif _unsafe(name):
            yield Fault("unsafe_path", name)
        elif info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
            yield Fault("unsupported" if info.type == tarfile.GNUTYPE_SPARSE else "not_a_file", name)
        elif wanted(name, base_name(name)):
            name = _unique(name, seen)
            try:
                yield from _open(body, name, budget, f"{prefix}!{name}" if prefix else name, wanted, None)
            except Fault as fault:
                if fault.reason == "bomb":
                    raise
                yield Fault(fault.reason, name)
        body.skip()
        _exactly(stream, padding, False)


def _extended(kind: bytes, data: bytes) -> dict[str, str]:
    """What a pax header (records 'LENGTH KEY=VALUE\\n') or a GNU one (a long name) says of the next member."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "replace")}
    if kind in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
        return {}
    said = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or len(length) > 7 or not len(length) < int(length) <= len(data):
            raise Fault("damaged", "extended header")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if key in (b"path", b"size"):
            said[key.decode()] = value.decode("utf-8", "replace")
        data = data[int(length) :]
    return said


class _Part:
    """The next `left` bytes of a stream."""

    def __init__(self, stream: Stream, left: int) -> None:
        self._stream, self._left = stream, left

    def read(self, size: int) -> bytes:
        if not (wish := min(size, self._left)):
            return b""
        data = self._stream.read(wish)
        if not data:
            raise Fault("truncated", "the archive")
        self._left -= len(data)
        return data

    def skip(self) -> None:
        while self.read(1 << 20):
            pass


def _exactly(stream: Stream, size: int, may_end: bool) -> bytes:
    """`size` bytes; b'' at the end of the stream where that may be."""
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            if not data and (may_end or size == tarfile.BLOCKSIZE):
                return b""  # without its two empty blocks a tar is complete enough
            raise Fault("truncated", "the archive")
        data += more
    return data


def _unique(name: str, seen: dict[str, int]) -> str:
    """The same name again becomes 'name@2'."""
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}@{seen[name]}"


def _plain(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\\", "/").removeprefix("./")


def _unsafe(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/") or name[1:2] == ":" or "\0" in name or not name
