"""One request on its way: to token ids, through the engine, back as OpenAI's objects."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from danlu.core.errors import ConfigError, ContextError, DanluError, DataError, ServeError
from danlu.core.i18n import tr
from danlu.generate.params import Completion
from danlu.serve.metrics import Metrics
from danlu.serve.replies import Reply, usage_of
from danlu.serve.runner import EngineFailedError, OverloadedError, Piece, Runner, StoppingError
from danlu.serve.schema import ApiError, ChatRequest, CompletionRequest
from danlu.serve.served import Served

__all__ = ["Answer", "fault_of", "unless_gone"]

T = TypeVar("T")


class Answer:
    """The answers to one request, queued in the engine. Read them, once, with `stream` if a stream was asked for, else with `whole`."""

    def __init__(
        self,
        asked: ChatRequest | CompletionRequest,
        prompts: list[list[int]],
        served: Served,
        runner: Runner,
        metrics: Metrics,
    ) -> None:
        self._prompts, self._metrics, self._model = prompts, metrics, served.name
        context = served.engine.longest
        limits = [asked.limit(len(ids), context) for ids in prompts for _ in range(asked.n)]
        params = [asked.sampling(choice, limit, served.defaults) for choice, limit in enumerate(limits)]
        self._completions: list[Completion | None] = [None] * len(params)
        self._began = time.perf_counter()
        self._silent = set(range(len(params)))  # of whom nothing was heard yet
        self._reply = Reply(isinstance(asked, ChatRequest), served.name, served.fingerprint, asked.include_usage)
        ids = [ids for ids in prompts for _ in range(asked.n)]
        self._job = runner.submit(list(zip(ids, params, strict=True)), whole=not asked.stream)

    @classmethod
    async def begin(
        cls, asked: ChatRequest | CompletionRequest, served: Served, runner: Runner, metrics: Metrics
    ) -> "Answer":
        """Encode and queue. Raises ApiError for what cannot be answered."""
        try:
            # in a thread of its own: a long prompt would hold up everybody's streams
            prompts = await asyncio.to_thread(_encode, asked, served)
            if len(prompts) * asked.n > runner.capacity:
                raise ApiError(
                    400,
                    tr(f"asks for {len(prompts) * asked.n} answers at once; this server holds {runner.capacity}",
                       f"一次要求 {len(prompts) * asked.n} 个回答,而本服务最多容纳 {runner.capacity} 个"),
                    param="n",
                )  # fmt: skip
            return cls(asked, prompts, served, runner, metrics)
        except DanluError as error:
            if isinstance(error, OverloadedError):
                metrics.refused.labels(served.name).inc()
            raise fault_of(error, "messages" if isinstance(asked, ChatRequest) else "prompt") from None

    async def whole(self) -> dict[str, Any]:
        """The answer as one object. Raises ServeError when the engine cannot give it."""
        try:
            async for piece in self._job:
                self._note(piece)
        except ServeError:
            self._lost("error")
            raise
        finally:
            self.close()
        completions = [done for done in self._completions if done is not None]
        return self._reply.whole(completions, usage_of(self._prompts, completions))

    async def stream(self) -> AsyncIterator[str]:
        """The answer as the data of server-sent events; a failure under way is an event too, the last."""
        try:
            for index in range(len(self._completions)):
                for chunk in self._reply.opening(index):
                    yield _json(chunk)
            async for piece in self._job:
                self._note(piece)
                if piece.text:
                    yield _json(self._reply.piece(piece.index, piece.text))
                if piece.completion:
                    yield _json(self._reply.closing(piece.index, piece.completion.finish_reason))
            if self._reply.usage:
                completions = [done for done in self._completions if done is not None]
                yield _json(self._reply.counted(usage_of(self._prompts, completions)))
            yield "[DONE]"
        except ServeError as error:
            self._lost("error")
            yield _json(fault_of(error).body)
        finally:
            self.close()

    def close(self) -> None:
        """Cancel whatever is not complete. May be called again."""
        if self._job.open:
            self._lost("cancelled")
        self._job.cancel()

    async def aclose(self) -> None:
        """`close`, for callers that await."""
        self.close()

    def _lost(self, end: str) -> None:
        self._metrics.answers.labels(self._model, end).inc(self._completions.count(None))

    def _note(self, piece: Piece) -> None:
        if piece.text and piece.index in self._silent:
            self._silent.discard(piece.index)
            self._metrics.first_token.labels(self._model).observe(time.perf_counter() - self._began)
        if piece.completion:
            self._completions[piece.index] = piece.completion
            self._metrics.prompt_tokens.labels(self._model).inc(piece.completion.prompt_tokens)
            self._metrics.generated_tokens.labels(self._model).inc(len(piece.completion.ids))
            self._metrics.answers.labels(self._model, piece.completion.finish_reason).inc()


def fault_of(error: DanluError, param: str | None = None) -> ApiError:
    """What a client is told of an error."""
    message = "; ".join(part for part in (error.what, error.do) if part)
    if isinstance(error, ContextError):
        return ApiError(400, message, code="context_length_exceeded", param=param)
    if isinstance(error, DataError | ConfigError):
        return ApiError(400, message, param=param)
    if isinstance(error, OverloadedError):
        return ApiError(429, message, code="queue_full", headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, StoppingError):
        return ApiError(503, message, code="stopping", headers={"Retry-After": "5"})
    if isinstance(error, EngineFailedError):
        return ApiError(500, message, code="engine_failed")
    return ApiError(500, message)


async def unless_gone(request: HttpRequest, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; cancelled when the client hangs up before, with ClientDisconnect.

    The request's body must have been read.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _hang_up(request: HttpRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _encode(asked: ChatRequest | CompletionRequest, served: Served) -> list[list[int]]:
    """Token ids of each prompt."""
    engine = served.engine
    if isinstance(asked, ChatRequest):
        if not engine.tokenizer.has_chat:
            raise ApiError(
                400,
                tr(f"'{served.name}' has no chat template, it only continues text; use /v1/completions",
                   f"“{served.name}”没有聊天模板,只会续写文本;请改用 /v1/completions"),
                code="no_chat_template",
                param="messages",
            )  # fmt: skip
        return [engine.encode(asked.turns())]
    size = engine.vocab_size
    for prompt in asked.prompt:
        if not isinstance(prompt, str) and (beyond := [number for number in prompt if number >= size]):
            what = tr(
                f"token id {beyond[0]} is beyond the vocabulary of {size}",
                f"词元编号 {beyond[0]} 超出大小为 {size} 的词表",
            )
            raise ApiError(400, what, param="prompt")
    encoded = [engine.encode(prompt) for prompt in asked.prompt]
    if not all(encoded):
        raise ApiError(
            400, tr("a prompt is empty; give at least one character", "提示词为空;请至少给出一个字"), param="prompt"
        )
    return encoded


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
