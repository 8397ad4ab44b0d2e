"""Real requests to a running server, several at once, with a stopwatch."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from danlu.core.errors import ServeError
from danlu.core.i18n import tr

__all__ = ["probe"]

Messages = Sequence[dict[str, str]]

# Never through a proxy: what is measured is this server.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def probe(
    url: str,
    prompts: Sequence[str | Messages],
    *,
    model: str | None = None,
    concurrency: int = 4,
    api_key: str | None = None,
    timeout: float = 120.0,
    **settings: Any,
) -> dict[str, Any]:
    """Ask `prompts` (a text is a user's turn), `concurrency` at a time; `settings` go into each request.

    `model` is by default the server's first; one without a chat template is asked to continue the texts. Returns
    {"requests": n, "concurrency", "seconds", "p50_ms", "p99_ms", "tokens_per_second", "texts": [...]}: latencies
    from the client's side, texts in the order of the prompts. Raises ServeError when a request is not answered.
    """
    if not prompts:
        raise ServeError(tr("there is nothing to ask: no prompts", "没有要问的内容:提示词为空"))
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})

    def call(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return _call(url.rstrip("/") + path, headers, body, timeout)

    cards = {card["id"]: card for card in call("/v1/models")["data"]}
    model = model or next(iter(cards))
    chat = cards.get(model, {}).get("danlu", {}).get("chat", True)

    def ask(prompt: str | Messages) -> tuple[float, dict[str, Any]]:
        began = time.perf_counter()
        if chat:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
            answer = call("/v1/chat/completions", {"model": model, "messages": messages, **settings})
        else:
            text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
            answer = call("/v1/completions", {"model": model, "prompt": text, "max_tokens": 80, **settings})
        return time.perf_counter() - began, answer

    began = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        answered = list(pool.map(ask, prompts))
    seconds = time.perf_counter() - began
    p50, p99 = np.percentile([took * 1000 for took, _ in answered], [50, 99])
    choices = [answer["choices"][0] for _, answer in answered]
    tokens = sum(answer["usage"]["completion_tokens"] for _, answer in answered)
    return {
        "requests": len(answered),
        "concurrency": concurrency,
        "seconds": round(seconds, 3),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "tokens_per_second": round(tokens / seconds, 1),
        "texts": [choice["message"]["content"] if chat else choice["text"] for choice in choices],
    }


def _call(address: str, headers: dict[str, str], body: dict[str, Any] | None, timeout: float) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data=data, headers=headers)
    try:
        with _opener.open(request, timeout=timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        told = error.read().decode("utf-8", "replace")
        try:
            told = json.loads(told)["error"]["message"]
        except (ValueError, LookupError, TypeError):
            told = told[:200]  # another server's words
        raise ServeError(
            tr(f"{address} answered {error.code}: {told}", f"{address} 返回 {error.code}:{told}")
        ) from None
    except (OSError, ValueError) as error:
        raise ServeError(
            tr(f"no answer from {address}: {error}", f"{address} 没有应答:{error}"),
            tr("is the server up? danlu serve FOLDER", "服务启动了吗?danlu serve 文件夹"),
        ) from None
