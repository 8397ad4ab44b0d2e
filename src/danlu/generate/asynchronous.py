"""The engine for asyncio: many coroutines ask, one thread steps."""

import asyncio
from collections.abc import AsyncIterator

from danlu.generate.engine import Engine, Prompt
from danlu.generate.params import Completion, Event, SamplingParams

__all__ = ["AsyncEngine"]


class AsyncEngine:
    """`generate` and `stream` as coroutines. Requests of all of them are computed together.

    A step runs in a thread, so the event loop stays free; it runs as long as somebody waits for an answer. To be used
    from one event loop.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._queues: dict[int, asyncio.Queue[Event | BaseException]] = {}
        self._driver: asyncio.Task[None] | None = None

    async def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> Completion:
        """The whole answer."""
        async for event in self.stream(prompt, params):
            if event.completion:
                return event.completion
        raise AssertionError("a stream ends with a completion")

    async def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> AsyncIterator[Event]:
        """Piece by piece; the last event has the completion. Whoever leaves early cancels the request."""
        number = self.engine.add(prompt, params)
        queue = self._queues[number] = asyncio.Queue()
        try:
            self._drive()
            while True:
                event = await queue.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if event.completion:
                    return
        finally:
            del self._queues[number]
            self.engine.cancel(number)

    def _drive(self) -> None:
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while self._queues:
            try:
                events = await asyncio.to_thread(self.engine.step)
            except Exception as error:
                for queue in self._queues.values():
                    queue.put_nowait(error)
                return
            for event in events:
                if event.request in self._queues:  # others have left
                    self._queues[event.request].put_nowait(event)
            await asyncio.sleep(0)  # readers come first
