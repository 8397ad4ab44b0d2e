"""Shards: a tokenised corpus in memory-mapped files, each whole or absent, each with its digest.

A folder of shards holds `shards.json` (what it is), `tokenizer/` (which tokenizer made it) and for every shard, such as
`train-00003`, plain arrays without a header, little-endian: `.tokens` (uint16 where the vocabulary allows, else
uint32), `.offsets` (uint64 [documents + 1], where each document begins) and, for chats, `.mask` (one bit a token, the
lowest first: whether a loss falls on it). `shards.json` is written anew after each shard, so what it lists is whole.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from danlu.core.errors import DataError
from danlu.core.files import atomic_path, hash_path, read_json
from danlu.core.i18n import tr
from danlu.tokenizer import Tokenizer

__all__ = ["SHARDS_FILE", "TOKENIZER", "ShardArrays", "ShardWriter", "Shards", "Told", "dtype_for", "is_shards"]

SHARDS_FILE, TOKENIZER = "shards.json", "tokenizer"
_OFFSETS = np.dtype("<u8")
_PIECE = 1 << 24  # bytes hashed at a time


class ShardArrays(NamedTuple):
    """A shard's memory-mapped arrays: `tokens` [N], `offsets` [documents + 1], `mask` (bits, uint8) or None."""

    tokens: np.ndarray
    offsets: np.ndarray
    mask: np.ndarray | None


class Told(NamedTuple):
    """Documents, end to end, with what is told of each: int64 [documents], but for `ids` and `mask` [tokens].

    `ends`: the byte of the source at which the document's row ends; `characters` and `sizes` (bytes) of its text.
    """

    ids: np.ndarray
    mask: np.ndarray | None
    lengths: np.ndarray
    ends: np.ndarray
    characters: np.ndarray
    sizes: np.ndarray


def dtype_for(vocab_size: int) -> np.dtype:
    """The smallest dtype that holds every token id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def is_shards(path: Path) -> bool:
    """True for a folder that `danlu data tokenise` wrote or began to write."""
    return (path / SHARDS_FILE).is_file()


class ShardWriter:
    """Collects one split's documents and writes a shard each time `limit` tokens are reached.

    A shard ends with the document that reaches the limit, so its bytes depend on the documents and the limit alone, not
    on how they arrive. `wrote(record)` is called when a shard's files are on disk. Memory: one shard and what was added last.
    Raises StorageError when the disk is full; shards written before stay.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        number: int,
        limit: int,
        dtype: np.dtype,
        wrote: Callable[[dict[str, Any]], None],
    ) -> None:
        self.folder, self.split, self.number, self.limit, self.dtype, self.wrote = (
            folder, split, number, limit, dtype, wrote,
        )  # fmt: skip
        self._parts: list[Told] = []
        self._tokens = 0

    def add(self, part: Told) -> None:
        """Take documents; write the shards that they fill."""
        while len(part.lengths):
            reached = self._tokens + np.cumsum(part.lengths)
            count = int(np.searchsorted(reached, self.limit)) + 1  # documents that go into this shard
            tokens = int(part.lengths[:count].sum())
            self._parts.append(_slice(part, slice(0, count), slice(0, tokens)))
            self._tokens += tokens
            if count > len(part.lengths):
                return
            self._write()
            part = _slice(part, slice(count, None), slice(tokens, None))

    def close(self) -> None:
        """Write what is left as the last shard, which may be small."""
        if self._parts:
            self._write()

    def _write(self) -> None:
        # field by field: the parts of one are let go before the next is joined
        lengths = np.concatenate([part.lengths for part in self._parts])
        masked = self._parts[0].mask is not None
        name = f"{self.split}-{self.number:05}"
        ids = np.concatenate([part.ids for part in self._parts]).astype(self.dtype, copy=False)
        arrays: dict[str, np.ndarray] = {"tokens": ids}
        arrays["offsets"] = np.concatenate(([0], np.cumsum(lengths))).astype(_OFFSETS)
        if masked:
            bits = np.concatenate([part.mask for part in self._parts if part.mask is not None])
            arrays["mask"] = np.packbits(bits.astype(bool), bitorder="little")
        record: dict[str, Any] = {
            "name": name,
            "documents": len(lengths),
            "tokens": len(ids),
            "characters": sum(int(part.characters.sum()) for part in self._parts),
            "bytes": sum(int(part.sizes.sum()) for part in self._parts),
            "source_end": int(self._parts[-1].ends[-1]),
            "files": {},
        }
        for kind, array in arrays.items():
            with atomic_path(self.folder / f"{name}.{kind}") as temporary, open(temporary, "wb") as file:
                file.write(array.view(np.uint8).data)
            record["files"][kind] = {"bytes": array.nbytes, "xxh3": _xxh3(array.view(np.uint8).data)}
        self._parts, self._tokens, self.number = [], 0, self.number + 1
        self.wrote(record)


class Shards:
    """A folder of shards, opened to be read. `record` is what shards.json holds.

    Raises DataError when the folder is not finished, when a file is missing or has another length than was written, or
    when the tokenizer beside the shards is not the one that made them. A shard's bytes are checked against its digest
    when it is first mapped: DataError names the file.
    """

    def __init__(self, path: Path, record: Mapping[str, Any]) -> None:
        self.path, self.record = Path(path), record
        self.dtype = np.dtype(record["dtype"])
        self.masked = bool(record["masked"])
        self._mapped: dict[str, ShardArrays] = {}

    @classmethod
    def open(cls, path: Path | str) -> Self:
        path = Path(path)
        if not is_shards(path):
            raise DataError(
                tr(f"{path} holds no {SHARDS_FILE}", f"{path} 中没有 {SHARDS_FILE}"),
                tr("make shards: danlu data tokenise --data PREPARED --tokenizer FOLDER --out SHARDS",
                   "请先生成分片:danlu data tokenise --data 准备好的数据 --tokenizer 分词器文件夹 --out 输出文件夹"),
            )  # fmt: skip
        record = read_json(path / SHARDS_FILE)
        shards = cls(path, record)
        if not record["complete"]:
            raise DataError(
                tr(f"the shards in {path} are not finished", f"{path} 中的分片尚未写完"),
                tr("give the same `danlu data tokenise` command again; it goes on", "再次执行同一条 danlu data tokenise 命令即可继续"),
            )  # fmt: skip
        if hash_path(path / TOKENIZER) != record["tokenizer"]:
            raise DataError(
                tr(f"the tokenizer in {path / TOKENIZER} is not the one that made these shards",
                   f"{path / TOKENIZER} 中的分词器不是生成这些分片的那一个"),
                _AGAIN,
            )  # fmt: skip
        for split in record["splits"]:
            for shard in shards.list(split):
                if found := shards.fault(shard, digests=False):
                    raise DataError(found, _AGAIN)
        return shards

    def list(self, split: str) -> list[dict[str, Any]]:
        """The records of a split's shards, in order. Raises DataError for a split that is not there."""
        if split not in self.record["splits"]:
            there = ", ".join(self.record["splits"])
            raise DataError(
                tr(f"{self.path} has no split '{split}'", f"{self.path} 中没有“{split}”部分"),
                tr(f"it has: {there}", f"其中有:{there}"),
            )
        return self.record["splits"][split]

    def total(self, split: str, what: str) -> int:
        """Sum over a split's shards of 'documents', 'tokens', 'characters' or 'bytes' (of text)."""
        return sum(shard[what] for shard in self.list(split))

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the shards."""
        return Tokenizer.load(self.path / TOKENIZER)

    def fault(self, shard: Mapping[str, Any], digests: bool = True) -> str:
        """What is wrong with a shard's files, naming the first; '' when they are as they were written."""
        for kind, told in shard["files"].items():
            file = self.path / f"{shard['name']}.{kind}"
            size = file.stat().st_size if file.is_file() else -1
            if size < 0:
                return tr(f"{file} is missing", f"缺少 {file}")
            if size != told["bytes"]:
                return tr(f"{file} has {size} bytes, {told['bytes']} were written",
                          f"{file} 有 {size} 字节,写入时为 {told['bytes']} 字节")  # fmt: skip
            if digests and _xxh3(_map(file, np.dtype(np.uint8))) != told["xxh3"]:
                return tr(f"{file} is not what was written: its digest differs", f"{file} 与写入时不同:摘要不符")
        return ""

    def arrays(self, shard: Mapping[str, Any]) -> ShardArrays:
        """Map a shard. Raises DataError, naming the file, when it is not as it was written."""
        name = shard["name"]
        if name not in self._mapped:
            if found := self.fault(shard):
                raise DataError(found, _AGAIN)
            place = {kind: self.path / f"{name}.{kind}" for kind in shard["files"]}
            self._mapped[name] = ShardArrays(
                _map(place["tokens"], self.dtype),
                _map(place["offsets"], _OFFSETS),
                _map(place["mask"], np.dtype(np.uint8)) if self.masked else None,
            )
        return self._mapped[name]

    def verify(self) -> None:
        """Check the bytes of every shard. Raises DataError naming the first file that differs."""
        for split in self.record["splits"]:
            for shard in self.list(split):
                if found := self.fault(shard):
                    raise DataError(found, _AGAIN)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.record)


_AGAIN = tr(
    "give the `danlu data tokenise` command that made it again: what is damaged is made anew",
    "请再次执行生成它的 danlu data tokenise 命令:损坏的部分会重新生成",
)


def _slice(part: Told, documents: slice, tokens: slice) -> Told:
    per_document = (array[documents] for array in (part.lengths, part.ends, part.characters, part.sizes))
    return Told(part.ids[tokens], None if part.mask is None else part.mask[tokens], *per_document)


def _map(file: Path, dtype: np.dtype) -> np.ndarray:
    if file.stat().st_size == 0:  # nothing can be mapped there
        return np.empty(0, dtype=dtype)
    return np.memmap(file, dtype=dtype, mode="r")


def _xxh3(data: Any) -> str:
    """Hex digest (XXH3, 64 bits): it finds damage, not malice."""
    try:
        import xxhash
    except ImportError:
        from danlu.core.errors import MissingExtraError

        raise MissingExtraError("xxhash", "data") from None
    digest = xxhash.xxh3_64()
    for at in range(0, len(data), _PIECE):
        digest.update(data[at : at + _PIECE])
    return digest.hexdigest()
