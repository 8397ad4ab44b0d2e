"""Prepares batches ahead of the training loop, in a thread or in processes, so that it does not wait for data."""

import json
import multiprocessing
import queue
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch

from danlu.core.errors import DanluError, DataError
from danlu.core.i18n import tr
from danlu.models.base import Batch

__all__ = ["Feed", "Resumable"]

_TICK = 0.1  # seconds between two looks at whether it was closed


class Resumable(Protocol):
    """What can be fed: `PackedBatches`, `ShardedBatches`, `StreamBatches`."""

    def __next__(self) -> Batch: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class _Ready(NamedTuple):
    """A batch and the state after it, or why there is none: an error, or None at the end."""

    batch: Batch | None
    state: dict[str, Any]
    error: BaseException | None = None


class Feed:
    """The batches of `batches`, in the same order, up to `ahead` of them made before they are asked for.

    Without `workers` a thread makes them: enough where arrays are copied or tokenised, which leaves Python free. With
    `workers`, so many processes do, each every n-th batch; this needs `skip()`, which `StreamBatches` lacks (one
    worker serves it too). `state_dict` counts only what was handed out, so resuming loses nothing and repeats nothing.
    Use it as a context manager, or `close` it; until then leave `batches` alone.

    `waited` is the time, in seconds, that the loop stood still for want of a batch.

    Raises, from `next`, what making a batch raised; DataError when a worker process died.
    """

    def __init__(self, batches: Resumable, *, workers: int = 0, ahead: int = 8) -> None:
        if ahead < 1 or workers < 0 or (workers > 1 and not hasattr(batches, "skip")):
            raise DataError(
                tr(f"{workers} workers cannot prepare {ahead} batches of {type(batches).__name__} ahead",
                   f"{workers} 个进程无法为 {type(batches).__name__} 预备 {ahead} 批"),
                tr("at least one batch ahead; at most one worker for a stream", "至少预备一批;流式数据最多一个进程"),
            )  # fmt: skip
        self.batches, self.workers, self.ahead = batches, workers, ahead
        self.waited = 0.0
        self._state = batches.state_dict()
        self._line: _Line | None = None
        self._ended: _Ready | None = None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __len__(self) -> int:
        """Batches of one epoch. Raises TypeError, as Python's own do, when what is fed has no length."""
        return len(self.batches)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        """What is told of the corpus: `documents`, `fill`, `tokens_per_epoch`."""
        if name.startswith("_") or name == "batches":
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __next__(self) -> Batch:
        if self._ended is None:
            if self._line is None:
                self._line = _Line(self.batches, self._state, self.workers, self.ahead)
            began = time.perf_counter()
            ready = self._line.ready.get()
            self.waited += time.perf_counter() - began
            if ready.batch is not None:
                self._state = ready.state
                return ready.batch
            self._ended = ready
            self._stop()
        if self._ended.error is not None:
            raise self._ended.error
        raise StopIteration

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch handed out, as `batches` would tell it."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch the state was taken at; what was prepared is thrown away."""
        self._stop()
        self.batches.load_state_dict(state)
        self._state, self._ended = self.batches.state_dict(), None

    def close(self) -> None:
        """End the thread and the processes. Calling it again does nothing; `next` after it begins anew."""
        if self._line is not None:
            self._stop()
            self.batches.load_state_dict(self._state)

    def _stop(self) -> None:
        if self._line is not None:
            self._line.stop()
            self._line = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Line:
    """A thread that puts batches into a bounded queue, its own or those of processes."""

    def __init__(self, batches: Resumable, state: dict[str, Any], workers: int, ahead: int) -> None:
        self.ready: queue.Queue[_Ready] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._workers = [_Worker(batches, state, number, workers) for number in range(workers)]
        self._thread = threading.Thread(target=self._run, args=(batches,), name="feed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for worker in self._workers:
            worker.stop()
        self._thread.join()

    def _run(self, batches: Resumable) -> None:
        made = _rounds(self._workers) if self._workers else _made(batches)
        for ready in made:
            while not self._stopped.is_set():
                try:
                    self.ready.put(ready, timeout=_TICK)
                    break
                except queue.Full:
                    continue
            if self._stopped.is_set():
                return


def _made(batches: Resumable) -> Iterator[_Ready]:
    """Batches until the end or an error, which are the last to come."""
    while True:
        try:
            batch = next(batches)
            ready = _Ready(batch, batches.state_dict())
        except StopIteration:
            ready = _Ready(None, {})
        except BaseException as error:  # raised again where the batch is asked for
            ready = _Ready(None, {}, error)
        yield ready
        if ready.batch is None:
            return


def _rounds(workers: "list[_Worker]") -> Iterator[_Ready]:
    """The workers' batches in turn."""
    turn = 0
    while True:
        try:
            ready = workers[turn % len(workers)].receive()
        except BaseException as error:
            ready = _Ready(None, {}, error)
        yield ready
        if ready.batch is None:
            return
        turn += 1


class _Worker:
    """A process that makes every n-th batch, and the pipe that they come through as plain bytes."""

    def __init__(self, batches: Resumable, state: dict[str, Any], number: int, workers: int) -> None:
        # Spawned, not forked: torch's threads would be locked in a fork.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(
            target=_work, args=(batches, state, number, workers, theirs), name=f"feed-{number}", daemon=True
        )
        self._process.start()
        theirs.close()  # so that its end is seen here

    def receive(self) -> _Ready:
        try:
            head = json.loads(self._connection.recv_bytes())
            arrays = [np.frombuffer(bytearray(self._connection.recv_bytes()), dtype) for _, dtype, _ in head["arrays"]]
        except (EOFError, OSError):
            self._process.join(timeout=5)
            raise DataError(
                tr(f"the process that prepares batches died (exit code {self._process.exitcode})",
                   f"预备批次的进程意外退出(退出码 {self._process.exitcode})"),
                tr("perhaps memory ran out; give the same command again, with fewer workers",
                   "可能是内存不足;请减少进程数后重新执行同一命令"),
            ) from None  # fmt: skip
        if head["error"] is not None:
            return _Ready(None, {}, DataError(*head["error"]))
        if not arrays:
            return _Ready(None, {})
        batch = {
            name: torch.from_numpy(array.reshape(shape))
            for (name, _, shape), array in zip(head["arrays"], arrays, strict=True)
        }
        return _Ready(batch, head["state"])

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()


def _work(batches: Any, state: dict[str, Any], number: int, workers: int, connection: Connection) -> None:
    """What a process does. Ctrl-C is the parent's matter: it ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        _send_all(batches, state, number, workers, connection)
    except (BrokenPipeError, ConnectionResetError):  # the parent has left
        return
    except StopIteration:
        _send(connection, {}, {}, None)
    except DanluError as error:
        _send(connection, {}, {}, (error.what, error.do))
    except Exception as error:
        _send(connection, {}, {}, (f"{type(error).__name__}: {error}", ""))
        raise


def _send_all(batches: Any, state: dict[str, Any], number: int, workers: int, connection: Connection) -> None:
    batches.load_state_dict(state)
    turn = 0
    while True:
        if turn % workers == number:
            batch = next(batches)
            _send(connection, batch, batches.state_dict(), None)
        else:
            batches.skip()
        turn += 1


def _send(connection: Connection, batch: Batch, state: dict[str, Any], error: tuple[str, str] | None) -> None:
    arrays = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in batch.items()}
    described = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    connection.send_bytes(json.dumps({"arrays": described, "state": state, "error": error}).encode())
    for array in arrays.values():
        connection.send_bytes(array.reshape(-1).view(np.uint8).data)
