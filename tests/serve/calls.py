"""Plain HTTP calls, for what OpenAI's client would hide."""

import json
from typing import Any

import httpx

from danlu.serve.server import Background


def call(server: Background, path: str, body: Any = None, **options: Any) -> httpx.Response:
    """GET without a body, else POST."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        return client.get(path, **options) if body is None else client.post(path, json=body, **options)


def events(response: httpx.Response) -> list[Any]:
    """The data of server-sent events; the last may be the text [DONE]."""
    found = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    return [event if event == "[DONE]" else json.loads(event) for event in found]


def figures(server: Background) -> dict[str, float]:
    """/metrics as {'name{labels}': value}."""
    lines = [line for line in call(server, "/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
