"""SmolLM2-135M-Instruct in the forms that the measurements of generation compare, and llama.cpp to run it."""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import torch

from danlu.core.assets import asset_path
from danlu.core.folder import Lineage
from danlu.export import gguf
from danlu.models import auto
from danlu.tokenizer import Tokenizer

__all__ = ["LlamaCpp", "forms", "question"]


def forms() -> dict[str, Path]:
    """The pulled file ("q4_1"), the same weights as a folder in bfloat16 ("folder") and as another file ("q8_0").

    The last two are made once, beside the cache of assets.
    """
    file = next(asset_path("smollm2-135m-instruct").glob("*.gguf"))
    home = asset_path("smollm2-135m-instruct").parent.parent / "bench"
    found = {"q4_1": file, "folder": home / "smollm2", "q8_0": home / "smollm2-q8_0.gguf"}
    if not found["folder"].exists():
        home.mkdir(parents=True, exist_ok=True)
        model = auto.load(file, dtype=torch.bfloat16)
        auto.save(model, found["folder"], lineage=Lineage(verb="bench"), save_tokenizer=Tokenizer.load(file).save)
    if not found["q8_0"].exists():
        gguf.run(gguf.Config(folder=found["folder"], out=found["q8_0"], type="q8_0"))
    return found


def question(tokenizer: Tokenizer, tokens: int, start: int = 0) -> list[int]:
    """A prompt of exactly so many ids: numbered facts, other ones from each `start`."""
    lines = [
        f"Fact {n}: the square of {n} is {n * n}, and its cube is {n * n * n}." for n in range(start, start + tokens)
    ]
    return tokenizer.encode("\n".join(lines))[:tokens]


_SERVE = """
import sys, xllamacpp
path, context, rows, threads = sys.argv[1], *map(int, sys.argv[2:])
params = xllamacpp.CommonParams()
params.model.path = path
params.n_ctx, params.n_parallel, params.n_gpu_layers, params.verbosity = context * rows, rows, 0, -1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class LlamaCpp:
    """A server of llama.cpp in a process of its own, on as many threads as torch has.

    It sleeps (SIGSTOP) but while it is asked: idle, its threads poll, which would slow down whoever is measured next.
    """

    def __init__(self, path: Path, context: int, rows: int = 1) -> None:
        command = [sys.executable, "-c", _SERVE, str(path), str(context), str(rows), str(torch.get_num_threads())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
        assert self._process.stdout is not None
        self._address = next(line.strip() for line in self._process.stdout if line.startswith("http"))
        self._pool = ThreadPoolExecutor(rows)
        atexit.register(self._process.kill)
        self._process.send_signal(signal.SIGSTOP)

    def complete(self, ids: Sequence[int], tokens: int, *, cache: bool = False) -> dict[str, Any]:
        """Its reply, with `timings` of its own: prompt_ms and predicted_ms leave HTTP out."""
        return self.together([ids], tokens, cache=cache)[0]

    def _ask(self, ids: Sequence[int], tokens: int, cache: bool) -> dict[str, Any]:
        body = {"prompt": list(ids), "n_predict": tokens, "temperature": 0.0, "top_k": 1, "cache_prompt": cache, "ignore_eos": True}  # fmt: skip
        request = Request(
            f"{self._address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=600) as reply:
            return json.load(reply)

    def together(self, prompts: Sequence[Sequence[int]], tokens: int, *, cache: bool = False) -> list[dict[str, Any]]:
        """All at once."""
        self._process.send_signal(signal.SIGCONT)
        try:
            return list(self._pool.map(lambda ids: self._ask(ids, tokens, cache), prompts))
        finally:
            self._process.send_signal(signal.SIGSTOP)


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
