"""uvicorn around the app: a socket with a clear message when it is taken, a calm end, a server in the background."""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI

from danlu.core.errors import ServeError
from danlu.core.i18n import tr

__all__ = ["Background", "Server", "listen", "url_of"]

_LAST_WORDS = 2  # seconds for the answers that say that the server stops
_START = 30  # seconds to start in the background


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises ServeError saying why that is not possible."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
    except OSError as error:
        raise ServeError(
            tr(f"there is no host '{host}': {error.strerror}", f"没有名为“{host}”的主机:{error.strerror}"),
            tr(
                "--host 127.0.0.1 for this machine alone, 0.0.0.0 for the network",
                "只供本机用 --host 127.0.0.1,供网络访问用 0.0.0.0",
            ),
        ) from None
    listener = socket.socket(family, kind)
    try:
        if sys.platform != "win32":  # there it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _why_not(error, host, port) from None
    return listener


def _why_not(error: OSError, host: str, port: int) -> ServeError:
    if error.errno == errno.EADDRINUSE:
        return ServeError(
            tr(f"port {port} of {host} is in use by another program", f"{host} 的端口 {port} 已被别的程序占用"),
            tr(f"choose another: --port {port + 1 if port < 65535 else 8000}, or --port 0 for any free one",
               f"请换一个:--port {port + 1 if port < 65535 else 8000},或用 --port 0 自动选取空闲端口"),
        )  # fmt: skip
    if error.errno == errno.EACCES:
        return ServeError(
            tr(f"port {port} is reserved by the system", f"端口 {port} 由系统保留"),
            tr("choose one above 1023: --port 8000", "请使用大于 1023 的端口:--port 8000"),
        )
    return ServeError(
        tr(f"cannot listen on {host}:{port}: {error.strerror}", f"无法监听 {host}:{port}:{error.strerror}"),
        tr(
            "--host 127.0.0.1 for this machine alone, 0.0.0.0 for the network",
            "只供本机用 --host 127.0.0.1,供网络访问用 0.0.0.0",
        ),
    )


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


class Server(uvicorn.Server):
    """Serves an app of `create_app` until it is told to stop, by `should_exit`, Ctrl-C or SIGTERM; then returns.

    When it stops, it takes no more requests; those under way have `grace` seconds, a second Ctrl-C ends them at once.
    """

    def __init__(self, app: FastAPI, grace: float = 10.0) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # the app keeps its own
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(grace + _LAST_WORDS),
        )
        super().__init__(config)
        self._runners, self._grace = app.state.runners, grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The runners first, so that answers which are not ready in time end with an error, not with silence."""
        ending = [runner.drain(self._grace, lambda: self.force_exit) for runner in self._runners]
        await asyncio.gather(super().shutdown(sockets), *ending)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a stop that was asked for is no error: the signal is not raised again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ask to stop; the second time, to stop at once."""
        del frame
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


class Background:
    """A real server in a thread of this process; a context manager that stops it."""

    def __init__(self, app: FastAPI, listener: socket.socket, grace: float = 10.0) -> None:
        self.url = url_of(listener)
        self.app = app
        self._server = Server(app, grace)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="danlu-server", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                listener.close()
                raise ServeError(
                    tr(f"the server at {self.url} did not start", f"{self.url} 处的服务没有启动"),
                    tr("the log above says why", "原因见上方日志"),
                )
            time.sleep(0.01)

    def stop(self) -> None:
        """End it, after the requests under way or the grace. May be called again."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
