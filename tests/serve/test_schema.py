import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.i18n import language
from danlu.generate.params import SamplingParams
from danlu.serve.schema import ApiError, ChatRequest, CompletionRequest, Message

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "你好"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "从前"}


@pytest.fixture(autouse=True, scope="module")
def english() -> Iterator[None]:
    """The wordings below are looked for in English, whatever this machine speaks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_LANG", "en")
        language.cache_clear()
        yield
    language.cache_clear()


def chat(**more: Any) -> ChatRequest:
    return ChatRequest.read(json.dumps(CHAT | more).encode())


def text(**more: Any) -> CompletionRequest:
    return CompletionRequest.read(json.dumps(TEXT | more).encode())


def test_reads_what_it_knows():
    request = chat(
        temperature=1, top_p=0.9, n=2, stop="。", seed=7, stream=True, stream_options={"include_usage": True}
    )
    assert (request.temperature, request.top_p, request.n, request.stop, request.seed) == (1.0, 0.9, 2, ["。"], 7)
    assert request.stream
    assert request.include_usage
    assert not chat().include_usage


@pytest.mark.parametrize(
    ("values", "param", "part"),
    [
        ({"temperature": "0.5"}, "temperature", "number"),
        ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
        ({"temperature": True}, "temperature", "number"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 1.5}, "n", "integer"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"seed": 2**80}, "seed", "less than"),
        ({"stop": ""}, "stop[0]", "at least 1 character"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"stream": "yes"}, "stream", "boolean"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "'system'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages[0].name", "not permitted"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "'text'"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream=true"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "not permitted"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "body", "differ"),
        ({"tempurature": 1}, "tempurature", "did you mean 'temperature'"),
        ({"zzz": 1}, "zzz", "not a known argument"),
        ({"logprobs": True}, "logprobs", "not supported"),
        ({"tools": [{"type": "function"}]}, "tools", "not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
        ({"prompt": "x"}, "prompt", "not a known argument"),
    ],
)
def test_refuses_by_name(values: dict[str, Any], param: str, part: str):
    with pytest.raises(ApiError) as refused:
        chat(**values)
    error = refused.value.body["error"]
    assert refused.value.status == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param.rpartition(".")[2] in error["message"]
    assert part in error["message"]


@pytest.mark.parametrize("values", [{"logprobs": 0}, {"logprobs": 5}, {"echo": True}, {"best_of": 2}, {"suffix": "x"}])
def test_a_text_has_no_logprobs_either(values: dict[str, Any]):
    with pytest.raises(ApiError) as refused:
        text(**values)
    assert refused.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    "values",
    [
        {"logprobs": False},
        {"presence_penalty": 0, "frequency_penalty": 0.0},
        {"tools": None, "logit_bias": {}},
        {"temperature": None, "stop": None, "n": None} | {"n": 1},
        {"response_format": {"type": "text"}},
        {"user": "someone", "metadata": {"a": "b"}},
    ],
)
def test_neutral_values_and_labels_are_fine(values: dict[str, Any]):
    assert chat(**values) == chat()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"model": "m", "temperature": NaN}', b"[" * 5000, b'"\\ud800"']
)
def test_what_is_no_json_object(body: bytes):
    with pytest.raises(ApiError) as refused:
        ChatRequest.read(body)
    assert refused.value.status == 400


@given(
    st.dictionaries(
        st.sampled_from([*ChatRequest.model_fields, "logprobs", "x"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["role", "content"]), inner),
            max_leaves=4,
        ),
    )
)
def test_any_object_is_read_or_refused(values: dict[str, Any]):
    status = 200
    try:
        ChatRequest.read(json.dumps(CHAT | values).encode("utf-8", "surrogatepass"))
    except ApiError as error:
        status = error.status
    assert status in (200, 400)


def test_turns():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    answer = {
        "role": "assistant",
        "content": "c",
        "refusal": None,
        "tool_calls": None,
    }  # as OpenAI's client sends it back
    request = chat(messages=[{"role": "developer", "content": "d"}, {"role": "user", "content": parts}, answer])
    assert request.turns() == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c"},
    ]
    assert Message(role="user", content="x").content == "x"


@pytest.mark.parametrize(
    ("prompt", "read"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])]
)
def test_prompts(prompt: Any, read: list[Any]):
    assert text(prompt=prompt).prompt == read


@pytest.mark.parametrize("prompt", [[], [-1], [1.5], {"a": 1}, 3, [True], [["a"]], ["a", 1]])
def test_what_is_no_prompt(prompt: Any):
    with pytest.raises(ApiError) as refused:
        text(prompt=prompt)
    assert str(refused.value.param).startswith("prompt")


def test_limits():
    assert chat().limit(prompt=30, context=128) == 98
    assert chat(max_tokens=5).limit(30, 128) == 5
    assert chat(max_completion_tokens=6).limit(30, 128) == 6
    assert chat().limit(prompt=200, context=128) == 1  # too long anyway; the engine says so
    assert text().limit(30, 128) == 16


def test_sampling_takes_what_was_asked_over_the_models_defaults():
    defaults = SamplingParams(temperature=0.7, top_k=50)
    first, second = (chat(n=2, seed=5, top_p=0.5, stop=["x"]).sampling(i, 9, defaults) for i in range(2))
    assert (first.temperature, first.top_k, first.top_p, first.max_tokens, first.stop) == (0.7, 50, 0.5, 9, ("x",))
    assert (first.seed, second.seed) == (5, 6)
    assert chat(temperature=0).sampling(0, 9, defaults).temperature == 0
    assert chat().sampling(0, 9, defaults).seed is None


def test_a_server_error_is_called_one():
    error = ApiError(500, "broken", code="engine_failed")
    assert error.body == {
        "error": {"message": "broken", "type": "server_error", "param": None, "code": "engine_failed"}
    }
