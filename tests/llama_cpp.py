"""llama.cpp itself, to compare with: what it makes of a text, and what it says next."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

__all__ = ["LlamaCpp", "llama_cpp"]


class LlamaCpp:
    """A running model. Its HTTP server listens on this machine only."""

    def __init__(self, server) -> None:
        self._server, self._address = server, server.listening_address

    def _ask(self, path: str, **body: object) -> dict:
        request = Request(f"{self._address}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=240) as reply:
            return json.load(reply)

    def tokenize(self, text: str) -> list[int]:
        return self._ask("tokenize", content=text, add_special=False, parse_special=False)["tokens"]

    def render(self, chat: list[dict[str, str]]) -> str:
        """The text that its own Jinja makes of a chat, ready to be answered."""
        return self._ask("apply-template", messages=chat)["prompt"]

    def greedy(self, ids: list[int], tokens: int) -> tuple[list[int], str]:
        """The ids, an end of turn included, and the text that follow `ids` when the best token is always taken."""
        # Its list of probabilities leaves out tokens that are not yet a whole character; `tokens` has them all.
        told = self._ask("completion", prompt=ids, n_predict=tokens, temperature=0.0, top_k=1, cache_prompt=False, return_tokens=True)  # fmt: skip
        return told["tokens"], told["content"]


@contextmanager
def llama_cpp(path: Path, context: int = 512) -> Iterator[LlamaCpp]:
    """Open a GGUF file with llama.cpp, on one thread."""
    xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup = context, 1, 0, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.verbosity = -1
    yield LlamaCpp(xllamacpp.Server(params))
