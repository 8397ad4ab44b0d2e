"""Checkpoints: the resumable state of a run, complete or absent, written while training goes on.

`torch.distributed.checkpoint` writes the tensors, as safetensors; the rest is JSON. Nothing is pickled.
"""

import re
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from danlu.core.errors import FolderError
from danlu.core.files import atomic_folder, read_json, sha256_file, write_json
from danlu.core.i18n import tr
from danlu.train.loop import Hook, Loop, TrainState

__all__ = ["Checkpoints", "latest", "load_checkpoint", "save_checkpoint"]

_STATE = "state.json"
_FIELDS = ("step", "tokens", "seconds", "values", "data")


def save_checkpoint(path: Path, state: TrainState) -> None:
    """Write `state` under `path`, or nothing at all."""
    with atomic_folder(path) as temporary:
        with _plain_errors():
            dcp.save(dict(state.tensors), storage_writer=HuggingFaceStorageWriter(path=str(temporary)))
        hashes = {file.name: sha256_file(file) for file in sorted(temporary.iterdir())}
        write_json(
            temporary / _STATE, {"schema": 1, "files": hashes, **{name: getattr(state, name) for name in _FIELDS}}
        )


def load_checkpoint(path: Path) -> TrainState:
    """Read it back. Raises FolderError when a file is missing or not as it was written."""
    record = read_json(path / _STATE)
    for name, expected in record["files"].items():
        file = path / name
        if not file.exists() or sha256_file(file) != expected:
            raise FolderError(
                tr(f"checkpoint {path}: {name} is missing or damaged", f"检查点 {path}:{name} 缺失或已损坏"),
                tr("delete this checkpoint; the one before it is then used", "删除这个检查点,即可改用前一个"),
            )
    tensors = _empty_tensors(path)
    with _plain_errors():
        dcp.load(tensors, storage_reader=HuggingFaceStorageReader(path=str(path)))
    return TrainState(**{name: record[name] for name in _FIELDS}, tensors=tensors)


def _empty_tensors(path: Path) -> dict[str, Tensor]:
    """Room for every tensor of the checkpoint, since DCP loads in place."""
    with _plain_errors():
        metadata = HuggingFaceStorageReader(path=str(path)).read_metadata()
    return {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What DCP's own exception (no `Exception`: it would pass by every handler) wraps; no warning of its single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            yield
        except CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from None


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run, if there is one."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8}", path.name)]
    return max(found, default=None)


class Checkpoints(Hook):
    """Save every `every` steps and at the end, keep the last `keep`. The writing happens in a thread."""

    def __init__(self, folder: Path, every: int, keep: int) -> None:
        self.folder, self.every, self.keep = folder, every, keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def on_step(self, loop: Loop, metrics: object) -> None:
        if loop.state.step % self.every == 0:
            self.save(loop)

    def on_end(self, loop: Loop) -> None:
        self.wait()
        last = latest(self.folder)
        if last is None or last.name != self._name(loop.state.step):
            self.save(loop)
        self.wait()

    def save(self, loop: Loop) -> None:
        self.wait()  # one at a time; also where a failed write is told
        state = loop.snapshot()
        self._thread = threading.Thread(target=self._write, args=(state,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the last save is on disk; raise what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    @staticmethod
    def _name(step: int) -> str:
        return f"step-{step:08d}"

    def _write(self, state: TrainState) -> None:
        try:
            save_checkpoint(self.folder / self._name(state.step), state)
            for old in sorted(self.folder.glob("step-*"))[: -self.keep]:
                shutil.rmtree(old)
        except BaseException as error:
            self._error = error
