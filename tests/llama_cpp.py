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

    def tokenize(self, text: str) -> list[int]:
        body = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
        request = Request(f"{self._address}/tokenize", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=120) as reply:
            return json.load(reply)["tokens"]

    def greedy(self, ids: list[int], tokens: int) -> tuple[list[int], str]:
        """The ids, an end of turn included, and the text that follow `ids` when the best token is always taken."""
        asked = {
            "prompt": ids,
            "n_predict": tokens,
            "temperature": 0.0,
            "top_k": 1,
            "n_probs": 1,
            "cache_prompt": False,
        }
        (choice,) = self._server.handle_completions(asked)["choices"]
        return [token["id"] for token in choice["logprobs"]["content"]], choice["text"]


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
