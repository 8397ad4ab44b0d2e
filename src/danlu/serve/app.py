"""The HTTP server: OpenAI's API over danlu's engine, health, metrics, and a page to talk to the model."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic.json_schema import models_json_schema
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from danlu import __version__
from danlu.core.errors import DanluError
from danlu.core.i18n import tr
from danlu.serve.answer import Answer, fault_of, unless_gone
from danlu.serve.guard import HANG_UP, LOCAL_NAMES, Guard
from danlu.serve.metrics import Metrics
from danlu.serve.page import page, preferred_language
from danlu.serve.runner import Runner
from danlu.serve.schema import ApiError, ChatRequest, CompletionRequest
from danlu.serve.served import Served

__all__ = ["create_app"]

log = logging.getLogger("danlu.serve")

_PING = 15  # seconds between signs of life in a stream that waits, so that proxies keep it open

# The library would cut every open stream when the server is asked to stop; ours end by themselves, within the grace.
AppStatus.disable_automatic_graceful_drain()


def create_app(
    models: Sequence[Served] | Path | str,
    *,
    api_key: str | None = None,
    max_waiting: int = 64,
    grace: float = 10.0,
    max_body: int = 4_000_000,
    local_only: bool = False,
) -> FastAPI:
    """The app for models in memory, or for a model folder.

    `max_waiting`: requests a model's queue holds beside those that are computed; more get 429. `grace`: seconds that
    running requests have when the server stops. `max_body`: bytes of a request's body; more gets 413. `local_only`:
    only requests that name this machine as localhost are answered.
    """
    if isinstance(models, str | Path):
        models = [Served.open(models)]
    metrics = Metrics()
    serving = {model.name: (model, Runner(model.engine, max_waiting)) for model in models}
    runners = [runner for _, runner in serving.values()]
    for name, (_, runner) in serving.items():
        _watch(metrics, name, runner)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for runner in runners:
            runner.start()
        yield
        await asyncio.gather(*(runner.drain(grace) for runner in runners))

    app = FastAPI(title="danlu", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.runners = runners
    app.add_middleware(Guard, metrics=metrics, api_key=api_key, hosts=LOCAL_NAMES if local_only else None)
    _answer_errors(app)
    _add_api(app, serving, metrics, max_body)
    _add_status(app, runners, metrics)
    _add_page(app)
    _describe(app)
    return app


def _watch(metrics: Metrics, name: str, runner: Runner) -> None:
    metrics.watch(name, lambda: runner.running, lambda: runner.waiting, lambda: runner.failures)


def _add_api(app: FastAPI, serving: dict[str, tuple[Served, Runner]], metrics: Metrics, max_body: int) -> None:
    def find(name: str) -> tuple[Served, Runner]:
        if name not in serving:
            known = ", ".join(serving)
            what = tr(f"no model '{name}' here; there is: {known}", f"这里没有模型“{name}”;可用:{known}")
            raise ApiError(404, what, code="model_not_found", param="model")
        return serving[name]

    async def answer(request: Request, kind: type[ChatRequest | CompletionRequest]) -> Response:
        asked = kind.read(await _body(request, max_body))
        answer = await Answer.begin(asked, *find(asked.model), metrics)
        if asked.stream:
            # closed by a background task too: a client may be gone before the stream was begun
            closing = BackgroundTask(answer.aclose)
            return EventSourceResponse(answer.stream(), ping=_PING, sep="\n", background=closing)
        return JSONResponse(await unless_gone(request, answer.whole()))

    @app.post("/v1/chat/completions", openapi_extra=_takes(ChatRequest))
    async def chat_completions(request: Request) -> Response:
        return await answer(request, ChatRequest)

    @app.post("/v1/completions", openapi_extra=_takes(CompletionRequest))
    async def completions(request: Request) -> Response:
        return await answer(request, CompletionRequest)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model.card for model, _ in serving.values()]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        return find(name)[0].card


def _add_status(app: FastAPI, runners: Sequence[Runner], metrics: Metrics) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        """Alive: 503 means that only a restart helps."""
        healthy = all(runner.healthy for runner in runners)
        return JSONResponse({"status": "ok" if healthy else "failing"}, 200 if healthy else 503)

    @app.get("/readyz")
    async def readyz() -> Response:
        """Takes requests: 503 means that they should go elsewhere for now."""
        ready = all(runner.ready for runner in runners)
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    @app.get("/metrics")
    async def figures() -> Response:
        return Response(metrics.render(), headers={"Content-Type": metrics.content_type})


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        html, headers = page(preferred_language(request.headers.get("accept-language")))
        return HTMLResponse(html, headers=headers)


def _answer_errors(app: FastAPI) -> None:
    """Whatever goes wrong, the answer has OpenAI's shape."""

    def respond(error: ApiError) -> Response:
        return JSONResponse(error.body, error.status, headers=error.headers)

    @app.exception_handler(ApiError)
    async def told(_: Request, error: ApiError) -> Response:
        return respond(error)

    @app.exception_handler(DanluError)
    async def foreseen(_: Request, error: DanluError) -> Response:
        return respond(fault_of(error))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        del error
        return Response(status_code=HANG_UP)  # nobody reads it; the log and the metrics do

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        message = f"{error.detail}: {request.method} {request.url.path}"
        return respond(ApiError(error.status_code, message, headers=error.headers))

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        del error  # logged with its traceback by the server
        what = tr("the server made a mistake; its log has the cause", "服务内部出错;原因见服务日志")
        return respond(ApiError(500, what, code="internal_error"))


async def _body(request: Request, most: int) -> bytes:
    """The JSON body of a request; stops reading where it is too long."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # other kinds could be sent by any web site without the browser asking us first
        what = tr("send the header 'Content-Type: application/json'", "请带上请求头 Content-Type: application/json")
        raise ApiError(415, what, code="unsupported_media_type")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            what = tr(f"the body is longer than {most} bytes", f"请求体超过 {most} 字节")
            raise ApiError(413, what, code="request_too_large", headers={"Connection": "close"})
    return bytes(body)


def _takes(kind: type[ChatRequest | CompletionRequest]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _describe(app: FastAPI) -> None:
    """/openapi.json, with the bodies that the handlers read by themselves."""
    kinds = [(kind, "validation") for kind in (ChatRequest, CompletionRequest)]
    _, found = models_json_schema(kinds, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schema.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
    app.openapi = lambda: schema  # type: ignore[method-assign]  (the documented way to extend it)
