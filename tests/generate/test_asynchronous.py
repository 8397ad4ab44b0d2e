import asyncio

import pytest

from danlu.generate.asynchronous import AsyncEngine
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=12)
PROMPTS = ["春", "夏山来，秋水去", "冬云生。晨花", "暮风"]


def test_many_at_once_say_what_each_says_alone(model, tokenizer):
    async def ask():
        engine = AsyncEngine(Engine(model, tokenizer))
        first = await asyncio.gather(*(engine.generate(prompt, GREEDY) for prompt in PROMPTS))
        second = await engine.generate(PROMPTS[1], GREEDY)  # after everybody had gone
        return [*first, second], engine

    answers, engine = asyncio.run(ask())
    wanted = Engine(model, tokenizer).generate([*PROMPTS, PROMPTS[1]], GREEDY)
    assert [answer.ids for answer in answers] == [answer.ids for answer in wanted]
    assert engine.engine.steps < sum(len(answer.ids) for answer in wanted)  # they were computed together


def test_a_stream_is_the_text_in_pieces_and_leaving_it_cancels(model, tokenizer):
    wish = SamplingParams(temperature=1.0, seed=3, max_tokens=20, ignore_eos=True)

    async def ask():
        engine = AsyncEngine(Engine(model, tokenizer))
        pieces = [event.text async for event in engine.stream("春", wish)]
        stream = engine.stream("夏", wish)
        await anext(stream)
        await stream.aclose()
        await engine.generate("秋", GREEDY)
        return pieces, engine.engine

    pieces, engine = asyncio.run(ask())
    assert len(pieces) > 1
    assert "".join(pieces) == Engine(model, tokenizer).generate(["春"], [wish])[0].text
    engine.step()
    assert not engine.busy
    assert engine.scheduler.pool.held == 0


def test_the_loop_is_free_while_a_step_runs(model, tokenizer, monkeypatch):
    engine = Engine(model, tokenizer)
    step = engine.step

    async def ask():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await AsyncEngine(engine).generate("春", SamplingParams(temperature=0, max_tokens=3, ignore_eos=True))
        ticking.cancel()
        return ticks

    def slow():
        import time

        time.sleep(0.1)
        return step()

    monkeypatch.setattr(engine, "step", slow)
    assert asyncio.run(ask()) >= 3


def test_a_failed_step_is_told_to_all_who_wait(model, tokenizer, monkeypatch):
    engine = Engine(model, tokenizer)

    async def ask():
        monkeypatch.setattr(engine, "step", lambda: (_ for _ in ()).throw(RuntimeError("broken")))
        asking = AsyncEngine(engine)
        return await asyncio.gather(*(asking.generate(prompt) for prompt in PROMPTS[:2]), return_exceptions=True)

    for error in asyncio.run(ask()):
        assert isinstance(error, RuntimeError)
        with pytest.raises(RuntimeError, match="broken"):
            raise error
