"""SmolLM2-135M-Instruct in the forms that the measurements of generation compare, and llama.cpp to run it."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import torch
import xllamacpp

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


class LlamaCpp:
    """A server of llama.cpp in this process, on as many threads as torch has."""

    def __init__(self, path: Path, context: int, rows: int = 1) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = context * rows, rows, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.verbosity = -1
        self._server = xllamacpp.Server(params)
        self._pool = ThreadPoolExecutor(rows)

    def complete(self, ids: Sequence[int], tokens: int, *, cache: bool = False) -> dict[str, Any]:
        """Its reply, with `timings` of its own: prompt_ms and predicted_ms leave HTTP out."""
        body = {"prompt": list(ids), "n_predict": tokens, "temperature": 0.0, "top_k": 1, "cache_prompt": cache, "ignore_eos": True}  # fmt: skip
        address = f"{self._server.listening_address}/completion"
        request = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=600) as reply:
            return json.load(reply)

    def together(self, prompts: Sequence[Sequence[int]], tokens: int, *, cache: bool = False) -> list[dict[str, Any]]:
        """All at once."""
        return list(self._pool.map(lambda ids: self.complete(ids, tokens, cache=cache), prompts))


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
