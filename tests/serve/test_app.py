import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from danlu.generate.engine import Engine
from danlu.serve.app import create_app
from danlu.serve.served import Served
from danlu.serve.server import Background, listen

from .calls import call, events, figures
from .conftest import ASK, POEM, POEMS

LONG = {"model": "slow", "prompt": "山", "max_tokens": 500}


@pytest.fixture(scope="module")
def client(served: Background) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served.url + "/v1", api_key="none needed", max_retries=0) as client:
        yield client


@pytest.fixture
def busy(slow: Engine) -> Iterator[Background]:
    """A server that computes one request at a time and lets one wait."""
    with Background(create_app([Served.of(slow, "slow")], max_waiting=1), listen("127.0.0.1", 0), grace=0) as server:
        yield server


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def user(text: str = ASK) -> list[Any]:
    return [{"role": "user", "content": text}]


# --- OpenAI's client passes -----------------------------------------------------------------------------------


def test_models(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["sft", "base"]
    assert client.models.retrieve("base").owned_by == "danlu"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none/such")


def test_chat(client: openai.OpenAI):
    reply = client.chat.completions.create(model="sft", messages=user(), temperature=0)
    choice = reply.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", POEM, "stop")
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.completion_tokens == len(POEM)


def test_chat_stream(client: openai.OpenAI):
    stream = client.chat.completions.create(
        model="sft", messages=user(), temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == POEM
    assert len([piece for piece in pieces if piece]) > 1  # it does come bit by bit
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(POEM)


def test_chat_with_the_clients_own_helpers(client: openai.OpenAI):
    with client.chat.completions.stream(model="sft", messages=user(), temperature=0) as stream:
        final = stream.get_final_completion()
    answer = final.choices[0].message
    assert answer.content == POEM
    again = [*user(), answer.model_dump(), *user()]  # what it hands back as history is taken
    assert client.chat.completions.create(model="sft", messages=again, max_tokens=1).usage


def test_stop_and_limit(client: openai.OpenAI):
    first = POEM[: POEM.index("\n")]
    stopped = client.chat.completions.create(model="sft", messages=user(), temperature=0, stop=["\n客", "zzz"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == (first, "stop")
    cut = client.chat.completions.create(model="sft", messages=user(), temperature=0, max_completion_tokens=3)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (POEM[:3], "length")


def test_completions_seeds_and_choices(client: openai.OpenAI):
    def write(**more: Any) -> list[str]:
        reply = client.completions.create(model="base", prompt="山", max_tokens=8, temperature=1, **more)
        return [choice.text for choice in reply.choices]

    assert write(seed=5) == write(seed=5)
    three = write(seed=5, n=3)
    assert len(set(three)) == 3
    assert three[0] == write(seed=5)[0]
    greedy = client.completions.create(model="base", prompt="山", max_tokens=8, temperature=0).choices[0].text
    for own in ({"top_k": 1}, {"min_p": 1.0}):
        assert write(seed=9, extra_body=own) == [greedy]
    assert write(seed=9, top_p=1e-9) == [greedy]
    penalised = client.completions.create(
        model="base", prompt="山", max_tokens=8, temperature=0, extra_body={"repetition_penalty": 9.0}
    )
    assert penalised.choices[0].text != greedy


def test_completions_stream_of_several_choices(client: openai.OpenAI):
    whole = client.completions.create(model="base", prompt=["山", "水"], max_tokens=6, seed=1, n=2)
    stream = client.completions.create(model="base", prompt=["山", "水"], max_tokens=6, seed=1, n=2, stream=True)
    texts, ends = [""] * 4, 0
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
        ends += chunk.choices[0].finish_reason is not None
    assert texts == [choice.text for choice in whole.choices]
    assert ends == 4


def test_prompts_may_be_token_ids(client: openai.OpenAI, base: Path):
    ids = Engine.open(base).encode("山")
    by_ids = client.completions.create(model="base", prompt=ids, temperature=0)
    assert by_ids.choices[0].text == client.completions.create(model="base", prompt="山", temperature=0).choices[0].text
    assert by_ids.usage is not None
    assert by_ids.usage.completion_tokens == 16  # OpenAI's default for texts


@pytest.mark.parametrize(
    ("more", "kind", "param", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model", "model_not_found"),
        ({"messages": user("好" * 500)}, openai.BadRequestError, "messages", "context_length_exceeded"),
        ({"logprobs": True}, openai.BadRequestError, "logprobs", "unsupported_parameter"),
        ({"extra_body": {"beam_width": 3}}, openai.BadRequestError, "beam_width", "unknown_parameter"),
        ({"temperature": 3}, openai.BadRequestError, "temperature", None),
        ({"model": "base"}, openai.BadRequestError, "messages", "no_chat_template"),
        ({"stream": True, "model": "base"}, openai.BadRequestError, "messages", "no_chat_template"),
    ],
)
def test_errors(
    client: openai.OpenAI, more: dict[str, Any], kind: type[openai.APIStatusError], param: str, code: str | None
):
    with pytest.raises(kind) as raised:
        client.chat.completions.create(**{"model": "sft", "messages": user(), **more})
    assert (raised.value.param, raised.value.code) == (param, code)
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["type"] == "invalid_request_error"


def test_many_at_once_get_their_own_answers(client: openai.OpenAI):
    asked = list(POEMS) * 8
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda ask: client.chat.completions.create(model="sft", messages=user(ask), temperature=0), asked)
        )
    assert [answer.choices[0].message.content for answer in answers] == list(POEMS.values()) * 8


# --- the wire -------------------------------------------------------------------------------------------------


def test_stream_is_server_sent_events(served: Background):
    answer = call(
        served, "/v1/chat/completions", {"model": "sft", "messages": user(), "temperature": 0, "stream": True}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    chunks = events(answer)
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all("usage" not in chunk for chunk in chunks[:-1])
    assert POEM[0] in answer.text  # characters as they are, not \u escapes


@pytest.mark.parametrize(
    ("path", "options", "status", "code"),
    [
        ("/v1/chat/completions", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, None),
        (
            "/v1/chat/completions",
            {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
            415,
            "unsupported_media_type",
        ),
        (
            "/v1/chat/completions",
            {"content": b" " * 4_000_001, "headers": {"Content-Type": "application/json"}},
            413,
            "request_too_large",
        ),
        ("/v1/embeddings", {"json": {}}, 404, None),
        ("/v1/models", {"json": {}}, 405, None),
    ],
)
def test_other_errors_have_the_same_shape(
    served: Background, path: str, options: dict[str, Any], status: int, code: str | None
):
    answer = httpx.post(served.url + path, trust_env=False, **options)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code


def test_no_other_site_may_read_the_answers(served: Background):
    preflight = httpx.options(
        served.url + "/v1/models",
        headers={"Origin": "http://other.example", "Access-Control-Request-Method": "POST"},
        trust_env=False,
    )
    assert preflight.status_code == 405
    answer = call(served, "/v1/models", headers={"Origin": "http://other.example"})
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_openapi_tells_of_the_bodies(served: Background):
    told = call(served, "/openapi.json").json()
    body = told["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "temperature" in told["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"]
    names = {"#/components/schemas/" + name for name in told["components"]["schemas"]}
    references = set(json.dumps(told).split('"$ref": "')[1:])
    assert {reference.partition('"')[0] for reference in references} <= names
    assert call(served, "/docs").status_code == 404  # it would load scripts from elsewhere


def test_health_and_metrics(served: Background, client: openai.OpenAI):
    assert call(served, "/healthz").json() == {"status": "ok"}
    assert call(served, "/readyz").json() == {"status": "ready"}
    before = figures(served)
    client.chat.completions.create(model="sft", messages=user(), temperature=0)
    after = figures(served)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('danlu_generated_tokens_total{model="sft"}') == len(POEM)
    assert grown('danlu_answers_total{end="stop",model="sft"}') == 1
    assert grown('danlu_time_to_first_token_seconds_count{model="sft"}') == 1
    assert grown('danlu_http_requests_total{method="POST",route="/v1/chat/completions",status="200"}') == 1
    assert grown('danlu_http_request_seconds_count{route="/v1/chat/completions"}') == 1
    assert after['danlu_requests_running{model="sft"}'] == 0


# --- bad days -------------------------------------------------------------------------------------------------


@contextmanager
def reading(server: Background, stream: bool) -> Iterator[threading.Event]:
    """A client that asks for a long answer and hangs up at the end of the block."""
    begun, leave = threading.Event(), threading.Event()

    def read() -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
            if stream:
                with client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as answer:
                    assert answer.status_code == 200  # taken, though it may have to wait for its turn
                    begun.set()
                    leave.wait(60)
                return
            begun.set()
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/completions", json=LONG, timeout=0.2)

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(60)
    try:
        yield begun
    finally:
        leave.set()
        thread.join()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_hangs_up_frees_its_row(busy: Background, slow: Engine, stream: bool):
    slow.model.hidden = slowly(slow.model.hidden)  # type: ignore[method-assign]
    with reading(busy, stream):
        pass
    until(lambda: not slow.busy)
    cancelled = 'danlu_answers_total{end="cancelled",model="slow"}'
    until(lambda: figures(busy).get(cancelled) == 1)


def slowly(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same, at a pace at which a test can interfere."""

    def wait(*values: Any) -> Any:
        time.sleep(0.02)
        return step(*values)

    return wait


def test_a_full_queue_says_when_to_come_back(busy: Background, slow: Engine):
    slow.model.hidden = slowly(slow.model.hidden)  # type: ignore[method-assign]
    with reading(busy, stream=True), reading(busy, stream=True):
        for stream in (False, True):
            answer = call(busy, "/v1/completions", LONG | {"stream": stream})
            assert answer.status_code == 429
            assert answer.json()["error"]["code"] == "queue_full"
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert figures(busy)['danlu_requests_waiting{model="slow"}'] == 1
    assert figures(busy)['danlu_queue_refusals_total{model="slow"}'] == 2
    until(lambda: call(busy, "/v1/completions", LONG | {"max_tokens": 1}).status_code == 200)


def test_a_failing_engine_is_told_and_survived(busy: Background, slow: Engine, caplog: pytest.LogCaptureFixture):
    good = slow.model.hidden
    failing = threading.Event()

    def fail(*values: Any) -> Any:
        if failing.is_set():
            raise RuntimeError("the device caught fire")
        time.sleep(0.005)
        return good(*values)

    slow.model.hidden = fail  # type: ignore[method-assign]
    failing.set()
    with caplog.at_level(logging.ERROR, "danlu.serve"):
        answer = call(busy, "/v1/completions", LONG)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "engine_failed"
    assert "fire" not in answer.text
    assert "the device caught fire" in caplog.text
    failing.clear()
    assert call(busy, "/v1/completions", LONG | {"max_tokens": 2}).status_code == 200

    with openai.OpenAI(base_url=busy.url + "/v1", api_key="x", max_retries=0) as client:
        stream = client.completions.create(model="slow", prompt="山", max_tokens=500, stream=True)
        next(iter(stream))
        failing.set()
        with pytest.raises(openai.APIError) as raised:  # in the middle of a stream
            list(stream)
    assert raised.value.code == "engine_failed"
    found = figures(busy)
    assert found['danlu_answers_total{end="error",model="slow"}'] == 2
    assert found['danlu_engine_failures{model="slow"}'] == 2


def test_health_tells_of_an_engine_that_never_recovers(busy: Background, slow: Engine):
    def fail(*_: Any) -> Any:
        raise RuntimeError("still burning")

    slow.model.hidden = fail  # type: ignore[method-assign]
    for _ in range(3):
        assert call(busy, "/v1/completions", LONG).status_code == 500
    assert call(busy, "/healthz").status_code == call(busy, "/readyz").status_code == 503


def test_a_folder_is_enough(poet: Path):
    with Background(create_app(poet), listen("127.0.0.1", 0)) as server:
        assert [card["id"] for card in call(server, "/v1/models").json()["data"]] == ["sft"]
