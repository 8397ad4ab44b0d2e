"""What clients ask for, in OpenAI's words plus danlu's own, and how they are told that it does not work.

A setting that danlu does not have is refused by name, never dropped; one that is spelt out as its neutral value
(`logprobs: false`, `presence_penalty: 0`) is fine.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from danlu.core.i18n import tr
from danlu.generate.params import SamplingParams

__all__ = ["ApiError", "ChatRequest", "CompletionRequest", "Message", "Request"]

# They tell about the caller and change nothing in the answer: any value.
_LABELS = {"user", "metadata", "safety_identifier", "prompt_cache_key"}
# Settings of OpenAI's that danlu does not have, and the values that ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logprobs": (False,),
    "top_logprobs": (),
    "echo": (False,),
    "best_of": (1,),
    "suffix": ("",),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
}
_MOST_CHOICES, _MOST_STOPS, _LONGEST_STOP, _MOST_PROMPTS = 128, 16, 256, 256


class ApiError(Exception):
    """An answer that is an error, in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """{"error": {"message", "type", "param", "code"}}."""
        kind = "server_error" if self.status >= 500 else _KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


_KINDS = {429: "rate_limit_error"}


class _Strict(BaseModel):
    """No coercion: "0.5" is not 0.5, and true is not 1."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _prompts(value: Any) -> Any:
    """A text, or one list of ids, is one prompt."""
    alone = isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], int))
    return [value] if alone else value


def _text_of_parts(value: Any) -> Any:
    """Content may be a list of text parts; other parts (images, sound) are refused."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError(tr("only parts of type 'text' are supported", "只支持类型为 text 的内容"))
    return "".join(part["text"] for part in value)


class Message(_Strict):
    """One turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text_of_parts)]

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        # Answers of OpenAI's client, sent back as history, carry refusal=null, tool_calls=null and the like.
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


class StreamOptions(_Strict):
    """What a stream tells beside text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Request(_Strict):
    """What both kinds of request have in common; null is as good as absent."""

    model: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    seed: Annotated[int, Field(ge=-(2**62), le=2**62)] | None = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=_LONGEST_STOP)]],
        Field(max_length=_MOST_STOPS),
        BeforeValidator(_listed),
    ] = []
    n: Annotated[int, Field(ge=1, le=_MOST_CHOICES)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None

    @classmethod
    def read(cls, body: bytes) -> Self:
        """The request in a body. Raises ApiError (400) naming the field at fault."""
        try:
            values = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise ApiError(400, tr(f"the body is not valid JSON: {error}", f"请求体不是合法的 JSON:{error}")) from None
        if not isinstance(values, dict):
            raise ApiError(400, tr("the body must be a JSON object", "请求体应为一个 JSON 对象"))
        try:
            request = cls.model_validate(cls._known(values))
        except ValidationError as error:
            fault = error.errors()[0]
            param = _place(fault["loc"], cls)
            raise ApiError(400, f"{param}: {fault['msg'].removeprefix('Value error, ')}", param=param) from None
        if request.stream_options is not None and not request.stream:
            _refuse("stream_options", tr("only goes with stream=true", "只能与 stream=true 一起使用"))
        return request

    @classmethod
    def _known(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Without nulls and neutral settings. Raises ApiError for a setting that would be ignored."""
        kept = {}
        for name, value in values.items():
            if value is None or name in _LABELS:
                continue
            if name in cls.model_fields:
                kept[name] = value
            elif name not in _NEUTRAL:
                near = difflib.get_close_matches(name, cls.model_fields, n=1)
                hint = tr(f"; did you mean '{near[0]}'?", f";是不是想写“{near[0]}”?") if near else ""
                unknown = tr("is not a known argument", "不是已知的参数")
                _refuse(name, unknown + hint, "unknown_parameter")
            elif not any(type(value) is type(neutral) and value == neutral for neutral in _NEUTRAL[name]):
                _refuse(name, tr("is not supported here; leave it out", "在此不受支持,请去掉"), "unsupported_parameter")
        return kept

    @property
    def include_usage(self) -> bool:
        """A stream should end with the number of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, choice: int, max_tokens: int, defaults: SamplingParams) -> SamplingParams:
        """Settings of the `choice`-th answer; a seed in common is made different for each."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        told = {name: value for name in names if (value := getattr(self, name)) is not None}
        seed = None if self.seed is None else self.seed + choice
        return defaults.model_copy(update={**told, "max_tokens": max_tokens, "stop": tuple(self.stop), "seed": seed})


class ChatRequest(Request):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if None not in (both := (self.max_tokens, self.max_completion_tokens)) and both[0] != both[1]:
            raise ValueError(
                tr("max_tokens and max_completion_tokens differ", "max_tokens 与 max_completion_tokens 不一致")
            )
        return self

    def limit(self, prompt: int, context: int) -> int:
        """Most tokens of an answer to a prompt of `prompt` tokens: unless asked, what fits."""
        asked = self.max_completion_tokens or self.max_tokens
        return asked or max(1, context - prompt)

    def turns(self) -> list[dict[str, str]]:
        """The messages as the chat template knows them."""
        roles = {"developer": "system"}  # the newer name of the same thing
        return [{"role": roles.get(turn.role, turn.role), "content": turn.content} for turn in self.messages]


class CompletionRequest(Request):
    """POST /v1/completions."""

    prompt: Annotated[
        list[str | list[Annotated[int, Field(ge=0)]]],
        Field(min_length=1, max_length=_MOST_PROMPTS),
        BeforeValidator(_prompts),
    ]

    def limit(self, prompt: int, context: int) -> int:
        """Most tokens of an answer: 16 unless asked, as OpenAI has it."""
        del prompt, context
        return self.max_tokens or 16


def _refuse(name: str, why: str, code: str | None = None) -> NoReturn:
    raise ApiError(400, f"'{name}' {why}", param=name, code=code)


def _place(place: tuple[int | str, ...], cls: type[BaseModel]) -> str:
    """('messages', 0, 'role') -> 'messages[0].role'; what pydantic adds for a choice of types is left out."""
    if not place:
        return "body"
    text = str(place[0])
    inside = place[1:] if text == "messages" else tuple(part for part in place[1:] if isinstance(part, int))
    if text == "stream_options":
        inside = place[1:]
    assert text in cls.model_fields
    return text + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inside)
