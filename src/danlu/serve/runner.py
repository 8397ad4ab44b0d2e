"""The thread that owns an engine: requests come in from asyncio, text goes back piece by piece.

A step of the engine takes milliseconds of computing and would block an event loop, so it has a thread of its own.
All requests share that thread; the engine computes them together.
"""

import asyncio
import logging
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from danlu.core.errors import ServeError
from danlu.core.i18n import tr
from danlu.generate.engine import Engine
from danlu.generate.params import Completion, Event, SamplingParams

__all__ = ["EngineFailedError", "Job", "OverloadedError", "Piece", "Runner", "StoppingError"]

log = logging.getLogger("danlu.serve")

_SICK_AFTER = 3  # failed steps in a row
_LONGEST_WAIT = 60  # seconds, of those a client is told to wait


class OverloadedError(ServeError):
    """The queue is full; `retry_after` is a guess, in seconds, of when there is room."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(
            tr(f"the server is busy: {waiting} requests wait already", f"服务繁忙:已有 {waiting} 个请求在等候"),
            tr(f"try again in {retry_after} s", f"请在 {retry_after} 秒后重试"),
        )
        self.retry_after = retry_after


class StoppingError(ServeError):
    """The server is about to end."""

    def __init__(self) -> None:
        super().__init__(tr("the server is stopping", "服务正在停止"), tr("try again later", "请稍后再试"))


class EngineFailedError(ServeError):
    """A step of the engine raised; the cause is in the server's log."""

    def __init__(self) -> None:
        super().__init__(
            tr("the engine failed while it computed this request", "计算该请求时引擎出错"),
            tr("the server's log has the cause; try again", "原因见服务日志;请重试"),
        )


@dataclass(frozen=True)
class Piece:
    """Some text of the `index`-th request of a job, and its completion when it is the last."""

    index: int
    text: str
    completion: Completion | None


class Job:
    """Requests of one caller, computed together: an async iterator of `Piece`s that ends when all are complete.

    A context manager: whoever leaves it early, for an error or because the client is gone, cancels the rest.
    The iterator raises EngineFailedError or StoppingError when the answer will not come. With `whole`, only the first
    and the last piece of each request come: who waits for all of it need not be woken for every token.
    """

    def __init__(self, runner: "Runner", size: int, whole: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.open: set[int] = set()  # the engine's numbers of what is not complete
        self._runner = runner
        self._left = size
        self._whole, self._begun = whole, set[int]()
        self._pieces: deque[Piece | ServeError] = deque()
        self._some = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Free the rows of whatever still runs. Does nothing after the end."""
        self._runner.cancel(self)

    def wants(self, piece: Piece) -> bool:
        """Whether the reader should hear of it; called by the engine's thread."""
        if not self._whole or piece.completion or piece.index not in self._begun:
            self._begun.add(piece.index)
            return True
        return False

    def hand_out(self, piece: Piece | ServeError) -> None:
        """Give a piece to the reader; called in the reader's loop. A slow reader gets several as one."""
        last = self._pieces[-1] if self._pieces else None
        if isinstance(piece, Piece) and isinstance(last, Piece) and last.index == piece.index:
            self._pieces[-1] = Piece(piece.index, last.text + piece.text, piece.completion)
        else:
            self._pieces.append(piece)
        self._some.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        if not self._left:
            raise StopAsyncIteration
        while not self._pieces:
            self._some.clear()
            await self._some.wait()
        piece = self._pieces.popleft()
        if isinstance(piece, ServeError):
            raise piece
        self._left -= piece.completion is not None
        return piece


class Runner:
    """Steps an engine in a thread for as long as there is work.

    At most the engine's `max_rows` requests are computed at once and `max_waiting` more wait. A step that raises
    fails the requests under way, is logged, and the thread goes on.
    """

    def __init__(self, engine: Engine, max_waiting: int = 64) -> None:
        self.engine, self.rows, self.max_waiting = engine, engine.config.max_rows, max_waiting
        self.failures = 0  # steps that raised, ever
        self._failed_in_a_row = 0
        self._seconds = 1.0  # of a request, smoothed
        self._jobs: dict[int, tuple[Job, int]] = {}
        self._change = threading.Condition()
        self._closing = False
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="danlu-engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def capacity(self) -> int:
        """Requests that it holds at most, running and waiting."""
        return self.rows + self.max_waiting

    @property
    def running(self) -> int:
        return min(len(self._jobs), self.rows)

    @property
    def waiting(self) -> int:
        return max(0, len(self._jobs) - self.rows)

    @property
    def healthy(self) -> bool:
        """The thread lives, and its last steps did not all fail (a broken device never recovers by itself)."""
        return self._thread.is_alive() and self._failed_in_a_row < _SICK_AFTER

    @property
    def ready(self) -> bool:
        """Healthy, and it takes requests."""
        return self.healthy and not self._closing

    # --- called from the event loop ---------------------------------------------------------------------------

    def submit(self, requests: Sequence[tuple[Sequence[int], SamplingParams]], *, whole: bool = False) -> Job:
        """Queue prompts (as token ids), all or none; `whole`: see Job. Must be called in a running event loop.

        Raises ContextError for a prompt that does not fit, OverloadedError when the queue is full, StoppingError.
        """
        job = Job(self, len(requests), whole)
        with self._change:
            if self._closing:
                raise StoppingError
            if len(self._jobs) + len(requests) > self.capacity:
                guess = self._seconds * (len(self._jobs) + len(requests)) / self.rows
                raise OverloadedError(self.waiting, max(1, min(_LONGEST_WAIT, math.ceil(guess))))
            try:
                for index, (ids, params) in enumerate(requests):
                    number = self.engine.add(ids, params)
                    job.open.add(number)
                    self._jobs[number] = (job, index)
            except BaseException:
                self._drop(job)
                raise
            finally:
                self._change.notify_all()
        return job

    def cancel(self, job: Job) -> None:
        """Drop what is not complete of a job."""
        with self._change:
            self._drop(job)
            self._change.notify_all()

    async def drain(self, grace: float = 0.0, hurry: Callable[[], bool] = lambda: False) -> None:
        """Take no more requests, give those under way `grace` seconds, or less once `hurry()`; then `stop`."""
        self._closing = True
        deadline = time.monotonic() + grace
        while self._jobs and time.monotonic() < deadline and not hurry():
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        """Tell those who still wait that nothing comes, end the thread. Blocks for a step. May be called again."""
        with self._change:
            self._closing = self._ended = True
            self._change.notify_all()
        self._tell_all(StoppingError())
        if self._thread.is_alive():
            self._thread.join()

    # --- the thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._ended or self.engine.busy)
                if self._ended:
                    return
            try:
                events = self.engine.step()
            except Exception as error:  # whatever it is, the next requests deserve an answer
                self._survive(error)
            else:
                self._failed_in_a_row = 0
                self._deliver(events)

    def _survive(self, error: Exception) -> None:
        self.failures += 1
        self._failed_in_a_row += 1
        log.error("a step of the engine failed; its requests get an error", exc_info=error)
        self._tell_all(EngineFailedError())
        with self._change:  # a fault that does not go away should not spin
            self._change.wait_for(lambda: self._ended, min(1.0, 0.01 * 2**self._failed_in_a_row))

    def _deliver(self, events: Sequence[Event]) -> None:
        posts: dict[asyncio.AbstractEventLoop, list[tuple[Job, Piece | ServeError]]] = defaultdict(list)
        with self._change:
            for event in events:
                if event.request not in self._jobs:
                    continue  # cancelled while it was computed
                job, index = self._jobs[event.request]
                piece = Piece(index, event.text, event.completion)
                if job.wants(piece):
                    posts[job.loop].append((job, piece))
                if event.completion:
                    self._seconds += 0.1 * (event.completion.seconds - self._seconds)
                    del self._jobs[event.request]
                    job.open.discard(event.request)
            self._change.notify_all()
        for loop, post in posts.items():
            self._post(loop, post)

    def _tell_all(self, error: ServeError) -> None:
        """Every job under way ends with `error`."""
        with self._change:
            jobs = {id(job): job for job, _ in self._jobs.values()}
            for job in jobs.values():
                self._drop(job)
            self._change.notify_all()
        for job in jobs.values():
            self._post(job.loop, [(job, error)])

    def _drop(self, job: Job) -> None:
        for number in job.open:
            self._jobs.pop(number, None)
            self.engine.cancel(number)
        job.open.clear()

    def _post(self, loop: asyncio.AbstractEventLoop, post: list[tuple[Job, Piece | ServeError]]) -> None:
        """One wake-up of the loop for all that a step brought it."""
        try:
            loop.call_soon_threadsafe(_hand_out, post)
        except RuntimeError:  # the loop is closed: nobody reads any more
            for job, _ in post:
                self.cancel(job)


def _hand_out(post: list[tuple[Job, Piece | ServeError]]) -> None:
    for job, piece in post:
        job.hand_out(piece)
