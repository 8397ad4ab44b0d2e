"""Part files: a corpus in pieces of some megabytes, each complete or absent, each vouched for by its ledger.

A part is three things in one folder: `00012.jsonl` (rows), `00012.NAME.npy` (keys, decisions) and `00012.json`, its ledger,
which is written last: where a ledger stands, the part is whole. Reading checks the bytes against the ledger.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash

from danlu.core.errors import DataError
from danlu.core.files import storage_errors
from danlu.core.i18n import tr
from danlu.data.sources import Row

__all__ = ["Parts", "dump_row", "load_row"]


def dump_row(row: Row) -> bytes:
    """One line of JSON with its line end. What UTF-8 cannot hold (half a surrogate pair) becomes '?'."""
    try:
        return orjson.dumps(row) + b"\n"
    except TypeError:  # a number beyond 64 bits, or half a surrogate pair
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def load_row(line: bytes) -> Row:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # a number beyond 64 bits
        return json.loads(line)


class Parts:
    """The parts in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows_file(self, number: int) -> Path:
        return self.folder / f"{number:05}.jsonl"

    def keys_file(self, number: int, name: str) -> Path:
        return self.folder / f"{number:05}.{name}.npy"

    def ledger(self, number: int) -> dict[str, Any] | None:
        """What was written of a part; None when it is not whole."""
        try:
            found = orjson.loads((self.folder / f"{number:05}.json").read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        return found if isinstance(found, dict) else None

    def count(self) -> int:
        """How many parts stand whole one after the other, from the first on."""
        number = 0
        while self.ledger(number) is not None:
            number += 1
        return number

    def write(
        self, number: int, rows: Iterable[Row], ledger: Mapping[str, Any], keys: Mapping[str, np.ndarray]
    ) -> None:
        """Write a part, its ledger last. Raises StorageError when the disk is full: the part is then absent."""
        lines = [dump_row(row) for row in rows]
        data = b"".join(lines)
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._put(self.rows_file(number), data)
            for name, array in keys.items():
                self._put_array(self.keys_file(number, name), array)
            told = {**ledger, "rows": len(lines), "bytes": len(data), "hash": xxhash.xxh3_64_hexdigest(data)}
            self._put(self.folder / f"{number:05}.json", orjson.dumps({**told, "keys": sorted(keys)}))

    def write_array(self, number: int, name: str, array: np.ndarray) -> None:
        with storage_errors(self.folder):
            self._put_array(self.keys_file(number, name), array)

    def lines(self, number: int) -> list[bytes]:
        """The rows of a part as lines. Raises DataError naming the file when it is not what the ledger says."""
        file, told = self.rows_file(number), self.ledger(number)
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            data = b""
        if told is None or len(data) != told["bytes"] or xxhash.xxh3_64_hexdigest(data) != told["hash"]:
            raise DataError(
                tr(f"{file} is damaged or cut short", f"{file} 已损坏或不完整"),
                tr(
                    f"delete {self.folder.parent} and give the same command again; the sources are untouched",
                    f"请删除 {self.folder.parent} 后重新执行同一命令;源数据未受影响",
                ),
            )
        return data.splitlines(keepends=True)

    def read(self, number: int) -> list[Row]:
        return [load_row(line) for line in self.lines(number)]

    def keys(self, number: int, *, names: Iterable[str] | None = None) -> Mapping[str, np.ndarray]:
        """Arrays beside a part, each memory-mapped when it is asked for. Raises DataError naming what cannot be read."""
        told = self.ledger(number) or {}
        return _Mapped(self, number, list(told.get("keys", []) if names is None else names))

    def drop(self, number: int) -> None:
        """Remove the rows and keys of a part that the next pass has taken over; the ledger stays."""
        self.rows_file(number).unlink(missing_ok=True)
        for name in [*(self.ledger(number) or {}).get("keys", []), "decision"]:
            self.keys_file(number, name).unlink(missing_ok=True)

    def array(self, file: Path) -> np.ndarray:
        """A file of keys, memory-mapped. Raises DataError when it is damaged or absent."""
        try:
            return np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise DataError(
                    tr("too many files are open at once", "同时打开的文件过多"),
                    tr("raise the limit (ulimit -n), or make parts larger with --part-mb",
                       "请调高上限(ulimit -n),或用 --part-mb 加大每个部分"),
                ) from None  # fmt: skip
            raise DataError(
                tr(f"{file} is damaged or absent", f"{file} 已损坏或缺失"),
                tr(f"delete {self.folder.parent} and give the same command again",
                   f"请删除 {self.folder.parent} 后重新执行同一命令"),
            ) from None  # fmt: skip

    @staticmethod
    def _put(file: Path, data: bytes) -> None:
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def _put_array(file: Path, array: np.ndarray) -> None:
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            with open(temporary, "wb") as handle:
                np.save(handle, np.ascontiguousarray(array), allow_pickle=False)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


class _Mapped(Mapping[str, np.ndarray]):
    """Keys of a part. Nothing is held open: a mapped file costs a descriptor, and a corpus has many parts."""

    def __init__(self, parts: Parts, number: int, names: list[str]) -> None:
        self._parts, self._number, self._names = parts, number, names

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._parts.array(self._parts.keys_file(self._number, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
