import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from danlu.core.errors import ContextError
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import Completion, SamplingParams
from danlu.serve.runner import EngineFailedError, Job, OverloadedError, Piece, Runner, StoppingError

from .conftest import ASK, POEM, POEMS

LONG = SamplingParams(max_tokens=500, seed=1)


@asynccontextmanager
async def started(engine: Engine, max_waiting: int = 4) -> AsyncIterator[Runner]:
    runner = Runner(engine, max_waiting)
    runner.start()
    try:
        yield runner
    finally:
        runner.stop()


async def read(job: Job) -> list[str]:
    texts: dict[int, str] = {}
    with job:
        async for piece in job:
            texts[piece.index] = texts.get(piece.index, "") + piece.text
            if piece.completion:
                assert texts[piece.index] == piece.completion.text
    return [texts[index] for index in sorted(texts)]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def run(scene: Callable[[Runner], Awaitable[None]], engine: Engine, max_waiting: int = 4) -> None:
    async def play() -> None:
        async with started(engine, max_waiting) as runner:
            await scene(runner)

    asyncio.run(play())


def test_text_comes_in_pieces_and_equals_the_engines_own(poet: Path):
    engine = Engine.open(poet, EngineConfig(device="cpu"))
    params = SamplingParams(temperature=0, max_tokens=60)
    prompts = [engine.encode([{"role": "user", "content": ask}]) for ask in POEMS]
    alone = [engine.generate([ids], params)[0].text for ids in prompts]
    assert alone == list(POEMS.values())

    async def scene(runner: Runner) -> None:
        jobs = [runner.submit([(ids, params)]) for ids in prompts]
        both = runner.submit([(ids, params) for ids in prompts])
        texts = await asyncio.gather(read(both), *(read(job) for job in jobs))
        assert texts == [alone, alone[:1], alone[1:]]
        assert runner.running == runner.waiting == 0

    run(scene, engine)


def test_who_wants_the_whole_is_woken_twice(poet: Path):
    engine = Engine.open(poet, EngineConfig(device="cpu"))
    ids = engine.encode([{"role": "user", "content": ASK}])

    async def scene(runner: Runner) -> None:
        with runner.submit([(ids, SamplingParams(temperature=0))], whole=True) as job:
            pieces = [piece async for piece in job]
        assert pieces[-1].completion
        assert pieces[-1].completion.text == POEM
        assert len(pieces) <= 2

    run(scene, engine)


def test_a_slow_reader_gets_several_pieces_as_one(slow: Engine):
    async def scene(runner: Runner) -> None:
        job = Job(runner, 2, whole=False)
        done = Completion("山水", [1, 2], 1, "stop")
        for piece in (Piece(0, "山", None), Piece(0, "水", done), Piece(1, "风", None), Piece(1, "月", done)):
            job.hand_out(piece)
        assert [piece async for piece in job] == [Piece(0, "山水", done), Piece(1, "风月", done)]

    run(scene, slow)


def test_queue_is_full_all_or_none(slow: Engine):
    ids = slow.encode("山")

    async def scene(runner: Runner) -> None:
        assert runner.capacity == 3
        jobs = [runner.submit([(ids, LONG)]) for _ in range(2)]
        with pytest.raises(OverloadedError) as refused:
            runner.submit([(ids, LONG), (ids, LONG)])
        assert 1 <= refused.value.retry_after <= 60
        assert (runner.running, runner.waiting) == (1, 1)
        jobs.append(runner.submit([(ids, LONG)]))
        for job in jobs:
            job.cancel()
        await until(lambda: not slow.busy)

    run(scene, slow, max_waiting=2)


def test_a_prompt_too_long_queues_none_of_its_job(slow: Engine):
    ids = slow.encode("山")

    async def scene(runner: Runner) -> None:
        with pytest.raises(ContextError):
            runner.submit([(ids, LONG), (ids * 600, LONG)])
        assert runner.running == 0
        await until(lambda: not slow.busy)

    run(scene, slow)


def test_leaving_a_job_frees_its_row_for_the_next(slow: Engine):
    ids = slow.encode("山")

    async def scene(runner: Runner) -> None:
        with runner.submit([(ids, LONG)]) as job:
            await anext(job)
        short = runner.submit([(ids, SamplingParams(max_tokens=3, temperature=0))])
        texts = await asyncio.wait_for(read(short), 30)
        assert len(texts) == 1
        await until(lambda: not slow.busy)

    run(scene, slow)


def test_a_failed_step_is_told_and_logged_and_the_next_request_works(slow: Engine, caplog: pytest.LogCaptureFixture):
    ids = slow.encode("山")
    forward, failing = slow._stepper._forward, [True]

    def break_down(parts: list[Any]) -> Any:
        if failing[0]:
            raise IndexError("the forward pass broke down")
        return forward(parts)

    slow._stepper._forward = break_down  # type: ignore[method-assign]

    async def scene(runner: Runner) -> None:
        with pytest.raises(EngineFailedError):
            await read(runner.submit([(ids, LONG)]))
        failing[0] = False
        assert runner.failures == 1
        assert runner.healthy
        await asyncio.wait_for(read(runner.submit([(ids, SamplingParams(max_tokens=2))])), 30)
        failing[0] = True
        for _ in range(3):
            with pytest.raises(EngineFailedError):
                await read(runner.submit([(ids, LONG)]))
        assert not runner.healthy  # what fails every time needs more than patience
        failing[0] = False
        await asyncio.wait_for(read(runner.submit([(ids, SamplingParams(max_tokens=2))])), 30)
        assert runner.healthy

    with caplog.at_level(logging.ERROR, "danlu.serve"):
        run(scene, slow)
    assert "IndexError" in caplog.text


def test_draining_lets_running_requests_finish(slow: Engine):
    ids = slow.encode("山")

    async def scene(runner: Runner) -> None:
        job = runner.submit([(ids, SamplingParams(max_tokens=20, temperature=0))])
        ending = asyncio.ensure_future(runner.drain(grace=10))
        await asyncio.sleep(0)
        assert not runner.ready
        with pytest.raises(StoppingError):
            runner.submit([(ids, LONG)])
        assert len(await read(job)) == 1
        await ending
        assert not runner.healthy

    run(scene, slow)


@pytest.mark.parametrize("grace", [0.0, 60.0])
def test_draining_tells_those_who_are_not_done(slow: Engine, grace: float):
    async def scene(runner: Runner) -> None:
        jobs = [runner.submit([(slow.encode("山"), LONG)]) for _ in range(3)]
        await anext(jobs[0])
        await runner.drain(grace, hurry=lambda: True)
        for job in jobs:
            with pytest.raises(StoppingError):
                await read(job)

    run(scene, slow)


def test_a_reader_whose_loop_is_gone_is_cancelled(slow: Engine):
    before = threading.active_count()
    runner = Runner(slow)
    runner.start()

    async def leave() -> None:
        runner.submit([(slow.encode("山"), LONG)])

    asyncio.run(leave())

    async def settled() -> None:
        await until(lambda: runner.running == 0 and not slow.busy)

    asyncio.run(settled())
    assert runner.healthy
    runner.stop()
    assert threading.active_count() == before


def test_a_poem_is_the_poem(poet: Path):
    engine = Engine.open(poet, EngineConfig(device="cpu"))
    ids = engine.encode([{"role": "user", "content": ASK}])

    async def scene(runner: Runner) -> None:
        assert await read(runner.submit([(ids, SamplingParams(temperature=0))])) == [POEM]

    run(scene, engine)
