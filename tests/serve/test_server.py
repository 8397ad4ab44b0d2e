import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from danlu.core.errors import ServeError
from danlu.generate.engine import Engine
from danlu.serve.app import create_app
from danlu.serve.served import Served
from danlu.serve.server import Background, listen, url_of

from .calls import call, events


def test_a_taken_port_is_told_with_a_way_out():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ServeError) as refused:
            listen("127.0.0.1", port)
    assert str(port) in refused.value.what
    assert f"--port {port + 1}" in refused.value.do
    listen("127.0.0.1", port).close()  # free again at once


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machine(host: str):
    with pytest.raises(ServeError, match=host) as refused:
        listen(host, 0)
    assert "127.0.0.1" in refused.value.do


@pytest.mark.parametrize(("host", "name"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "")])
def test_url_can_be_opened_on_this_machine(host: str, name: str):
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener).startswith(f"http://{name}")
        assert url_of(listener).endswith(f":{port}")


def test_ipv6():
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        listener = listen("::1", 0)
    except ServeError:
        pytest.skip("this machine has no IPv6 loopback address")
    with listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_two_servers_in_one_process(poet: Path):
    before = threading.active_count()
    with (
        Background(create_app(poet), listen("127.0.0.1", 0)) as one,
        Background(create_app(poet), listen("127.0.0.1", 0)) as two,
    ):
        assert one.url != two.url
        for server in (one, two):
            assert call(server, "/readyz").status_code == 200
    with pytest.raises(httpx.ConnectError):
        call(one, "/healthz")
    one.stop()  # again does no harm
    assert threading.active_count() == before


@pytest.mark.parametrize("grace", [60, 0], ids=["finishes", "is-told"])
def test_stopping_under_load(slow: Engine, grace: float):
    server = Background(create_app([Served.of(slow, "slow")], grace=grace), listen("127.0.0.1", 0), grace)
    asked = {"model": "slow", "prompt": "山", "max_tokens": 150, "stream": True}
    with (
        httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client,
        client.stream("POST", "/v1/completions", json=asked) as answer,
    ):
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        chunks = events(answer)
    began = time.monotonic()
    stopping.join()
    assert time.monotonic() - began < 30
    if grace:
        assert chunks[-1] == "[DONE]"
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    else:
        # a fast engine may have ended the answer before it was told to stop
        assert chunks[-1] == "[DONE]" or chunks[-1]["error"]["code"] == "stopping"
