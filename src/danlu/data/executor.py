"""Who does the work on the parts: this process, a pool of processes, or Ray.

Results come in the order of the tasks, and tasks are taken only as fast as they are done, so that a corpus may be
read while its first parts are already worked on.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, Literal, Self, TypeVar

import orjson

from danlu.core import errors
from danlu.core.errors import DanluError, DataError, MissingExtraError
from danlu.core.i18n import tr

__all__ = ["EngineName", "Executor"]

EngineName = Literal["pool", "ray"]
T = TypeVar("T")
_AHEAD = 2  # tasks waiting for each worker


class Executor:
    """Runs functions of tasks; a context manager that ends its processes. One worker is this process itself."""

    def __init__(self, workers: int = 1, engine: EngineName = "pool") -> None:
        self.workers, self.engine = workers, engine
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def run(self, function: Callable[[T], Any], tasks: Iterable[T]) -> Iterator[Any]:
        """`function` of each task, in order.

        Raises DataError when a worker dies, MissingExtraError for Ray without its package; what a task raises goes on.
        """
        if self.engine == "ray":
            yield from _on_ray(function, tasks, self.workers)
            return
        left = iter(tasks)
        first = list(islice(left, 2))
        if self.workers <= 1 or len(first) < 2:  # for a single task no process is started
            yield from map(function, chain(first, left))
            return
        yield from self._in_pool(function, chain(first, left))

    def _in_pool(self, function: Callable[[T], Any], tasks: Iterable[T]) -> Iterator[Any]:
        if self._pool is None:
            # Spawned, not forked: this process may have threads (progress, torch), which a fork would leave locked.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=_serve, initargs=(os.getpid(),))
        waiting: deque[Future[Any]] = deque()
        try:
            for task in tasks:
                waiting.append(self._pool.submit(function, task))
                while waiting and (len(waiting) >= _AHEAD * self.workers or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                tr("a worker process died, perhaps for want of memory", "一个工作进程意外退出,可能是内存不足"),
                tr("give the same command again, with fewer --workers; nothing is lost",
                   "请用更少的 --workers 重新执行同一命令;已完成的部分不会丢失"),
            ) from None  # fmt: skip
        finally:
            for future in waiting:
                future.cancel()


def _serve(parent: int) -> None:
    """In a worker: Ctrl-C is the parent's business, and when the parent is gone, however it went, so is the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_ray(function: Callable[[T], Any], tasks: Iterable[T], workers: int) -> Iterator[Any]:
    """The same by Ray Data, on the cluster at RAY_ADDRESS, else on one of `workers` processes started here.

    Parts are files: the machines of a cluster must share the folder.
    """
    ray: Any
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "cluster") from None
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        here: dict[str, Any] = (
            {"address": address} if address else {"num_cpus": max(1, workers), "include_dashboard": False}
        )
        ray.init(log_to_driver=False, logging_level="error", **here)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    waiting = list(tasks)
    if not waiting:
        return
    data = ray.data.from_items([{"task": task} for task in waiting], override_num_blocks=len(waiting))
    for row in data.map(_OnRay(function)).iter_rows():
        if len(row["error"]):
            name, what, do = row["error"]
            raise getattr(errors, name).again(what, do)
        yield orjson.loads(row["result"])


class _OnRay:
    """`function` for one row of Ray Data, whose columns are plain values."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": orjson.dumps(self.function(row["task"])), "error": []}
        except DanluError as error:  # Ray would wrap it in errors of its own
            return {"result": b"", "error": [type(error).__name__, error.what, error.do]}
