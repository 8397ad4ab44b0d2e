import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from danlu.core.errors import ContextError, DataError
from danlu.generate.engine import Engine
from danlu.serve.answer import Answer, fault_of, unless_gone
from danlu.serve.metrics import Metrics
from danlu.serve.runner import EngineFailedError, OverloadedError, Runner, StoppingError
from danlu.serve.schema import ApiError, ChatRequest, CompletionRequest
from danlu.serve.served import Served

from .conftest import ASK, POEM


def begin(folder: Path, asked: ChatRequest | CompletionRequest, max_waiting: int = 8) -> Any:
    """Begin an answer and read it whole."""

    async def scene() -> Any:
        served = Served.of(Engine.open(folder), "m")
        runner = Runner(served.engine, max_waiting)
        runner.start()
        try:
            return await (await Answer.begin(asked, served, runner, Metrics())).whole()
        finally:
            runner.stop()

    return asyncio.run(scene())


def chat(text: str = ASK, **more: Any) -> ChatRequest:
    return ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0.0, **more}
    )


def test_a_chat_is_answered_whole(poet: Path):
    reply = begin(poet, chat(n=2))
    assert [choice["message"]["content"] for choice in reply["choices"]] == [POEM, POEM]
    rendered = Engine.open(poet).encode([{"role": "user", "content": ASK}])
    assert reply["usage"]["prompt_tokens"] == len(rendered)


def test_prompts_times_choices_keep_their_order(base: Path):
    asked = CompletionRequest(model="m", prompt=["山", "水"], n=2, seed=3, max_tokens=5, temperature=1.0)
    texts = [choice["text"] for choice in begin(base, asked)["choices"]]
    alone = [
        begin(base, CompletionRequest(model="m", prompt=[p], seed=s, max_tokens=5, temperature=1.0))
        for p, s in zip("山山水水", range(3, 7), strict=True)
    ]
    assert texts == [reply["choices"][0]["text"] for reply in alone]


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        (chat("好" * 200), "messages", "context_length_exceeded"),
        (chat("\ud800"), "messages", None),
        (chat(n=128), "n", None),
    ],
)
def test_what_a_chat_cannot_be(poet: Path, asked: ChatRequest, param: str, code: str | None):
    with pytest.raises(ApiError) as refused:
        begin(poet, asked)
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)


@pytest.mark.parametrize("prompt", [[""], [[]], [[10**6]], ["山", ""], ["山" * 600]])
def test_what_a_prompt_cannot_be(base: Path, prompt: list[Any]):
    with pytest.raises(ApiError) as refused:
        begin(base, CompletionRequest(model="m", prompt=prompt))
    assert (refused.value.status, refused.value.param) == (400, "prompt")


def test_a_base_model_does_not_chat(base: Path):
    with pytest.raises(ApiError, match="/v1/completions") as refused:
        begin(base, chat())
    assert refused.value.code == "no_chat_template"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextError("long", "shorten"), 400, "context_length_exceeded"),
        (DataError("odd"), 400, None),
        (OverloadedError(3, 7), 429, "queue_full"),
        (StoppingError(), 503, "stopping"),
        (EngineFailedError(), 500, "engine_failed"),
    ],
)
def test_faults(error: Any, status: int, code: str | None):
    fault = fault_of(error)
    assert (fault.status, fault.code) == (status, code)
    assert error.what in fault.message
    assert error.do in fault.message
    assert ("Retry-After" in fault.headers) == (status in (429, 503))


def test_work_is_dropped_when_the_client_hangs_up():
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def forever() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    async def quick() -> int:
        return 7

    async def fails() -> int:
        raise ApiError(400, "no")

    async def scene() -> None:
        gone = Request({"type": "http"}, receive)
        here = Request({"type": "http"}, forever)
        with pytest.raises(ClientDisconnect):
            await unless_gone(gone, asyncio.sleep(60))
        assert await unless_gone(here, quick()) == 7
        with pytest.raises(ApiError):
            await unless_gone(here, fails())
        assert len(asyncio.all_tasks()) == 1  # nothing left behind

    asyncio.run(scene())
