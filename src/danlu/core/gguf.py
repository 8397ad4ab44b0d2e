"""Reading GGUF, the one-file format of llama.cpp: a header, typed metadata, a table of tensors, their bytes.

Everything is little-endian. After the magic `GGUF` come a version (2 or 3), the number of tensors and the number of
metadata entries; then the entries (key, type, value), the table (name, dimensions, kind, offset), padding to
`general.alignment`, and the tensors. Dimensions are written innermost first; here shapes are outermost first, as
torch has them. Most kinds are blocks of 32 or 256 weights with a scale: weight = scale · integer (+ minimum).

A file is not trusted: every count, length, offset and size is compared with the bytes that are there before
anything is allocated for it, and tensors may not overlap, so no file takes more memory than its own size allows.
Source: the GGUF specification and the block layouts of ggml.
"""

import math
import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from danlu.core.errors import FolderError
from danlu.core.i18n import tr

__all__ = ["GGUF", "KINDS", "Kind", "TensorInfo", "dequantise", "is_gguf"]

Bytes = NDArray[Any]  # uint8; NumPy does not keep that through shifts, for a type checker
Floats = NDArray[np.float32]
T = TypeVar("T")

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
# Metadata types of one fixed size: number -> NumPy's name of it
_SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_MAX_DIMS = 4
_MAX_ALIGNMENT = 1 << 16
_CHUNK = 1 << 19  # weights dequantised at a time: 2 MB, which stays in the processor's cache


# lesson: gguf-blocks
def _scale(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte `at` of every block: [N, 1]."""
    return blocks[:, at : at + 2].copy().view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """[N, 16] bytes -> [N, 32]: all lower halves, then all upper halves."""
    return np.concatenate((packed & 15, packed >> 4), axis=-1)


def _fifth_bits(blocks: Bytes, at: int) -> Bytes:
    """32 single bits of a block, as the 5th bit of its integers: [N, 32], 0 or 16."""
    return np.unpackbits(blocks[:, at : at + 4], axis=-1, bitorder="little") << 4


def _q4_0(blocks: Bytes) -> Floats:
    return _scale(blocks, 0) * (_nibbles(blocks[:, 2:]).view(np.int8) - np.int8(8))


def _q4_1(blocks: Bytes) -> Floats:
    return _scale(blocks, 0) * _nibbles(blocks[:, 4:]) + _scale(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    integers = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)
    return _scale(blocks, 0) * (integers.view(np.int8) - np.int8(16))


def _q5_1(blocks: Bytes) -> Floats:
    return _scale(blocks, 0) * (_nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)) + _scale(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _scale(blocks, 0) * blocks[:, 2:].view(np.int8)


# end lesson


def _six_bits(packed: Bytes) -> tuple[Bytes, Bytes]:
    """12 bytes -> 8 scales and 8 minima of 6 bits each, [N, 8]; the upper bits of the last four are spread."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate((first & 63, third & 15 | first >> 6 << 4), axis=-1)
    minima = np.concatenate((second & 63, third >> 4 | second >> 6 << 4), axis=-1)
    return scales, minima


def _k_scaled(blocks: Bytes, integers: Bytes) -> Floats:
    """d · scale · integer - dmin · minimum, with a scale and a minimum for each 32 of 256. integers: [N, 8, 32]."""
    scales, minima = _six_bits(blocks[:, 4:16])
    found = (_scale(blocks, 0) * scales)[..., None] * integers
    found -= (_scale(blocks, 2) * minima)[..., None]
    return found.reshape(len(blocks), 256)


def _q4_k(blocks: Bytes) -> Floats:
    return _k_scaled(blocks, _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


def _q5_k(blocks: Bytes) -> Floats:
    fifth = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return _k_scaled(blocks, _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32) | fifth << 4)


def _q6_k(blocks: Bytes) -> Floats:
    """Two halves of 128: 4 lower bits in 64 bytes, 2 upper bits in 32; a signed scale for each 16."""
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3) << 4
    integers = (low | high).view(np.int8) - np.int8(32)
    scales = _scale(blocks, 208) * blocks[:, 192:208].view(np.int8)
    return (scales[..., None] * integers.reshape(-1, 16, 16)).reshape(len(blocks), 256)


def _bf16(blocks: Bytes) -> Floats:
    """The upper half of a float32."""
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


class Kind(NamedTuple):
    """How weights are stored: `size` bytes hold `weights` of them. `decode`: uint8 [N, size] -> float32 [N, weights]."""

    name: str
    weights: int
    size: int
    decode: Callable[[Bytes], Floats]


# By their number in the table of tensors
KINDS = {
    0: Kind("F32", 1, 4, lambda blocks: blocks.view("<f4")),
    1: Kind("F16", 1, 2, lambda blocks: blocks.view("<f2").astype(np.float32)),
    2: Kind("Q4_0", 32, 18, _q4_0),
    3: Kind("Q4_1", 32, 20, _q4_1),
    6: Kind("Q5_0", 32, 22, _q5_0),
    7: Kind("Q5_1", 32, 24, _q5_1),
    8: Kind("Q8_0", 32, 34, _q8_0),
    12: Kind("Q4_K", 256, 144, _q4_k),
    13: Kind("Q5_K", 256, 176, _q5_k),
    14: Kind("Q6_K", 256, 210, _q6_k),
    30: Kind("BF16", 1, 2, _bf16),
}


def dequantise(kind: Kind, blocks: Bytes) -> Floats:
    """Whole blocks, uint8 [N, kind.size], to float32 [N, kind.weights]."""
    with np.errstate(invalid="ignore", over="ignore"):  # a scale that is no number stays none
        return kind.decode(np.ascontiguousarray(blocks))


class TensorInfo(NamedTuple):
    """A row of the table. `offset` and `size` are bytes, `shape` is outermost first."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    offset: int
    size: int


def is_gguf(path: Path | str) -> bool:
    """Whether `path` is named, or begins, like a GGUF file. A folder is none."""
    path = Path(path)
    if path.is_dir():
        return False
    if path.suffix.lower() == ".gguf" or not path.is_file():
        return path.suffix.lower() == ".gguf"
    with open(path, "rb") as file:
        return file.read(4) == _MAGIC


class GGUF:
    """An open file: `metadata` by key, `tensors` by name, weights read from the memory-mapped bytes when asked for.

    Raises FolderError for what is no GGUF, is cut short, or contradicts itself.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                if file.read(4) != _MAGIC:
                    self.refuse("it does not begin with the letters GGUF", "开头不是 GGUF 四个字母")
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            self.refuse(str(error.strerror), str(error.strerror))
        self._at = 4
        self.version = self._scalar("<I")
        if self.version not in (2, 3):
            self.refuse(
                f"version {self.version} (danlu reads 2 and 3, little-endian)",
                f"版本为 {self.version}(danlu 读取小端序的 2 与 3)",
            )
        tensors, entries = self._scalar("<Q"), self._scalar("<Q")
        self.metadata: dict[str, Any] = {}
        for _ in range(self._possible(entries, 13)):  # the shortest entry: 8 of key length, 4 of type, 1 of value
            key = self._string()
            if key in self.metadata:
                self.refuse(f"the key {key!r} stands there twice", f"键 {key!r} 出现了两次")
            self.metadata[key] = self._value(self._scalar("<I"), key)
        self.tensors = self._table(self._possible(tensors, 24))

    def refuse(self, en: str, zh: str) -> NoReturn:
        """Raise FolderError that names the file."""
        raise FolderError(
            tr(f"{self.path} cannot be used: {en}", f"无法使用 {self.path}:{zh}"),
            tr("copy or download the file again", "请重新拷贝或下载该文件"),
        )

    # --- metadata ---------------------------------------------------------------------------------------------

    def value(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The entry `key`: int, float (an integer will do), bool, str, list (of texts) or np.ndarray (of numbers).

        Raises FolderError when it is of another type, or absent and without a default.
        """
        found = self.metadata.get(key, default)
        if found is None:
            self.refuse(f"the metadata lack {key}", f"元数据缺少 {key}")
        if kind is float and type(found) is int:
            found = float(found)
        if type(found) is not kind or (isinstance(found, float) and not math.isfinite(found)):
            self.refuse(
                f"{key} is {str(found)[:40]!r}, no {kind.__name__}",
                f"{key} 为 {str(found)[:40]!r},不是 {kind.__name__}",
            )
        return found  # type: ignore[return-value]

    def _take(self, size: int) -> int:
        """Step over `size` bytes; return where they begin."""
        at = self._at
        if size > len(self._bytes) - at:
            self.refuse(
                f"it ends at byte {len(self._bytes)}, before its header does",
                f"文件在第 {len(self._bytes)} 字节处中断,头部不完整",
            )
        self._at += size
        return at

    def _possible(self, count: int, least: int) -> int:
        """`count`, if so many things of at least `least` bytes can still follow."""
        if count * least > len(self._bytes) - self._at:
            self.refuse(f"it is too short for {count} entries", f"文件太短,容不下 {count} 个条目")
        return count

    def _scalar(self, form: str) -> Any:
        return struct.unpack_from(form, self._bytes, self._take(struct.calcsize(form)))[0]

    def _string(self) -> str:
        size = self._scalar("<Q")
        at = self._take(size)
        try:
            return self._bytes[at : at + size].decode("utf-8")
        except UnicodeDecodeError:
            self.refuse(f"the text at byte {at} is no UTF-8", f"第 {at} 字节处的文本不是 UTF-8")

    def _numbers(self, kind: int, count: int) -> NDArray[Any]:
        form = np.dtype(_SCALARS[kind])
        if kind == 7:
            form = np.dtype("u1")  # any byte that is not zero is true
        at = self._take(count * form.itemsize)
        found = np.frombuffer(self._bytes, form, count, at)
        return found != 0 if kind == 7 else found

    def _value(self, kind: int, key: str) -> Any:
        if kind in _SCALARS:
            return self._numbers(kind, 1)[0].item()
        if kind == _STRING:
            return self._string()
        inner = kind
        if kind == _ARRAY:
            inner, count = self._scalar("<I"), self._scalar("<Q")
            if inner in _SCALARS:
                return self._numbers(inner, count)
            if inner == _STRING:
                return [self._string() for _ in range(self._possible(count, 8))]
        return self.refuse(f"{key} is of the unknown type {inner}", f"{key} 的类型 {inner} 未知")

    # --- tensors ----------------------------------------------------------------------------------------------

    def _table(self, count: int) -> dict[str, TensorInfo]:
        rows = [self._row() for _ in range(count)]
        alignment = self.value("general.alignment", int, 32)
        if not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
            self.refuse(f"general.alignment is {alignment}", f"general.alignment 为 {alignment}")
        start = -(-self._at // alignment) * alignment
        found: dict[str, TensorInfo] = {}
        for row in rows:
            if row.name in found:
                self.refuse(f"the tensor {row.name!r} stands there twice", f"张量 {row.name!r} 出现了两次")
            if row.offset % alignment or start + row.offset + row.size > len(self._bytes):
                self.refuse(
                    f"the file is cut short, or the place of {row.name} is wrong",
                    f"文件被截断,或 {row.name} 的位置有误",
                )
            found[row.name] = row._replace(offset=start + row.offset)
        end, last = start, ""
        for row in sorted(found.values(), key=lambda row: row.offset):
            if row.offset < end:  # else a small file could ask for any amount of memory
                self.refuse(f"the tensors {last} and {row.name} overlap", f"张量 {last} 与 {row.name} 重叠")
            self._check_gap(row.offset - end, alignment, last)
            end, last = row.offset + row.size, row.name
        if rows:
            self._check_gap(len(self._bytes) - end, alignment, last)
        return found

    def _check_gap(self, gap: int, alignment: int, last: str) -> None:
        """Tensors follow each other without gaps: bytes that nobody claims mean that a kind or a shape is wrong."""
        if gap >= alignment:
            self.refuse(
                f"{gap} bytes behind {last or 'the header'} are no tensor's",
                f"{last or '头部'} 之后有 {gap} 字节不属于任何张量",
            )

    def _row(self) -> TensorInfo:
        name, dims = self._string(), self._scalar("<I")
        if not 1 <= dims <= _MAX_DIMS:
            self.refuse(f"{name} has {dims} dimensions", f"{name} 有 {dims} 个维度")
        shape = tuple(self._scalar("<Q") for _ in range(dims))[::-1]
        number, offset = self._scalar("<I"), self._scalar("<Q")
        if number not in KINDS:
            known = ", ".join(kind.name for kind in KINDS.values())
            self.refuse(
                f"{name} is of kind {number}, danlu reads {known}", f"{name} 的类型为 {number},danlu 可读 {known}"
            )
        kind = KINDS[number]
        if 0 in shape or shape[-1] % kind.weights:
            self.refuse(
                f"{name} of shape {list(shape)} cannot be {kind.name}",
                f"{name} 形状为 {list(shape)},不能存为 {kind.name}",
            )
        return TensorInfo(name, shape, kind, offset, math.prod(shape) // kind.weights * kind.size)

    def blocks(self, name: str) -> Bytes:
        """The bytes of a tensor as they lie in the file, uint8 [blocks, bytes a block]; not copied, read-only."""
        info = self.tensors[name]
        return np.frombuffer(self._bytes, np.uint8, info.size, info.offset).reshape(-1, info.kind.size)

    def rows(self, name: str) -> Iterator[tuple[int, Floats]]:
        """A tensor in float32, some rows at a time: the number of the first, and [rows, ...] of them.

        A row is all that stands under one outermost index; of a vector, a single number. What has been read of the
        file does not stay resident, so that whoever reads all of it holds little of it at a time.
        """
        info = self.tensors[name]
        each = math.prod(info.shape[1:])
        step = max(1, _CHUNK // each)
        step *= info.kind.weights if info.kind.weights > 1 and len(info.shape) == 1 else 1
        blocks = self.blocks(name)
        for first in range(0, info.shape[0], step):
            last = min(first + step, info.shape[0])
            part = blocks[first * each // info.kind.weights : last * each // info.kind.weights]
            yield first, dequantise(info.kind, part).reshape(last - first, *info.shape[1:])
            self._release(info.offset + first * each // info.kind.weights * info.kind.size, part.nbytes)

    def _release(self, at: int, size: int) -> None:
        """Give back the pages of `size` bytes from `at`; read again, they come from the file again."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            begin = at // mmap.PAGESIZE * mmap.PAGESIZE
            self._bytes.madvise(mmap.MADV_DONTNEED, begin, at + size - begin)

    def array(self, name: str) -> Floats:
        """A whole tensor in float32, in the shape that torch has it."""
        return dequantise(self.tensors[name].kind, self.blocks(name)).reshape(self.tensors[name].shape)
