"""A server on the loopback interface that behaves as badly as a test asks."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """One answer. `breaks` lists after how many bytes of the body each request in turn is cut off."""

    body: bytes = b""
    status: int = 200
    kind: str = "application/octet-stream"
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    only_agent: str = ""  # others get 401
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    address: str
    pages: dict[str, Page]
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about."""


@contextmanager
def serving(make_pages: Callable[[str], dict[str, Page]]) -> Iterator[Server]:
    """Serve the pages that `make_pages` returns for the server's own address; anything else is a 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(with_body=True)

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def answer(self, with_body: bool) -> None:
            wanted = self.headers.get("Range", "")
            server.seen.append((self.command, self.path, wanted))
            page = server.pages.get(self.path.partition("?")[0], Page(b"no such page", 404))
            if page.only_agent not in self.headers.get("User-Agent", ""):
                page = Page(b"who are you", 401)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and page.ranges else 0
            status = page.status
            if start and start >= len(page.body):
                page, start, status = Page(), 0, 416
            body = page.body[start:]
            self.send_response(206 if start else status)
            self.send_header("Content-Type", page.kind)
            self.send_header("Content-Length", str(len(body)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body[: page.breaks.pop(0)] if page.breaks else body)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass  # the test's output is not the place

    with _QuietServer(("127.0.0.1", 0), Handler) as http:
        address = f"http://127.0.0.1:{http.server_port}"
        server = Server(address, make_pages(address))
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
