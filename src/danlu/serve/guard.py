"""Who comes in, and what is written down about it: host names, the key, request ids, log and metrics."""

import hmac
import json
import logging
import time
import uuid
from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from danlu.core.i18n import tr
from danlu.serve.metrics import Metrics
from danlu.serve.schema import ApiError

__all__ = ["HANG_UP", "LOCAL_NAMES", "Guard"]

log = logging.getLogger("danlu.serve")

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_QUIET = {"/healthz", "/readyz", "/metrics"}  # asked every few seconds by machines
HANG_UP = 499  # no standard; what nginx logs when a client is gone before it is answered


class Guard:
    """ASGI middleware around the whole app.

    With `api_key`, everything under /v1 needs `Authorization: Bearer KEY`. With `hosts`, a request must name one of
    them as its host: a server on the loopback interface is otherwise open to any web site in the same browser that
    points a name of its own to 127.0.0.1 (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, api_key: str | None = None, hosts: Iterable[str] | None = None
    ) -> None:
        self.app, self.metrics = app, metrics
        self._key = api_key.encode() if api_key else None
        self._hosts = frozenset(hosts) if hosts is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        number = uuid.uuid4().hex[:16]
        status = HANG_UP

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", number.encode())]
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, receive, sending)
        except ApiError as error:
            await _answer(error, sending)
        except Exception:
            status = 500  # the server's outermost layer answers it
            raise
        finally:
            self._note(scope, status, time.perf_counter() - began, number)

    def _check(self, scope: Scope) -> None:
        headers = {name: value for name, value in scope["headers"] if name in (b"host", b"authorization")}
        if self._hosts is not None and _bare(headers.get(b"host", b"").decode("latin-1")) not in self._hosts:
            raise ApiError(
                403,
                tr(
                    "this server answers to localhost only; for other names start it with --host or --api-key",
                    "本服务只接受以 localhost 访问;要用别的名字,请以 --host 或 --api-key 启动",
                ),
                code="host_not_allowed",
            )
        if self._key is None or not scope["path"].startswith("/v1/"):
            return
        kind, _, key = headers.get(b"authorization", b"").partition(b" ")
        # compare_digest takes as long for a nearly right key as for a wrong one
        if kind.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self._key):
            raise ApiError(
                401,
                tr(
                    "no valid API key; send 'Authorization: Bearer KEY'",
                    "缺少有效的 API 密钥;请发送 Authorization: Bearer 密钥",
                ),
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _note(self, scope: MutableMapping[str, Any], status: int, seconds: float, number: str) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.requests.labels(scope["method"], route, status).inc()
        self.metrics.latency.labels(route).observe(seconds)
        level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
        log.log(level, "%s %s %d %.0f ms %s", scope["method"], scope["path"], status, seconds * 1000, number)


def _bare(host: str) -> str:
    """'[::1]:8000' -> '::1', 'localhost:8000' -> 'localhost'."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


async def _answer(error: ApiError, send: Send) -> None:
    body = json.dumps(error.body, ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
