"""One request at a time, 4 bits: danlu against onnxruntime-genai.

单个请求、4 位权重：danlu 与 onnxruntime-genai 的比较。

SmolLM2-135M-Instruct: seconds a token after a prompt of 64, and seconds for a prompt of 512 tokens. Both have blocks of
32 weights and round activations to 8 bits. onnxruntime-genai's weights are symmetric, its output matrix has 4 bits as
well; danlu's are asymmetric (Q4_1), its output matrix keeps 8, so it reads more for each token. The other's file is made
here, once, by its own model builder from the same model in bfloat16; nothing is fetched.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from _common import arguments, interleave, ratio, show, write
from _smollm import forms, question
from decode import ANSWER, LONG, PROMPT, engine_decode, engine_prefill

from danlu.generate.engine import Engine, EngineConfig

genai: Any = import_module("onnxruntime_genai")  # compiled, without types
QUANTISED = ("block_size=32", "accuracy_level=4")  # level 4: activations in int8


def built(folder: Path) -> Path:
    """The folder that onnxruntime-genai runs, beside the one it was built from; complete or absent."""
    done = folder.with_name("smollm2-genai-int4")
    if not done.exists():
        part = done.with_name(f"{done.name}.part-{os.getpid()}")
        words = (
            "-i",
            folder,
            "-o",
            part,
            "-p",
            "int4",
            "-e",
            "cpu",
            "-c",
            part / "cache",
            "--extra_options",
            *QUANTISED,
        )
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *map(str, words)]
        told = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        if told.returncode:
            shutil.rmtree(part, ignore_errors=True)
            raise SystemExit(f"onnxruntime-genai's builder failed:\n{told.stderr[-2000:]}")
        part.rename(done)
    return done


def opened(folder: Path) -> Any:
    """On as many threads as torch has."""
    config = genai.Config(str(folder))
    options = {"intra_op_num_threads": torch.get_num_threads()}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return genai.Model(config)


def begun(model: Any, prompt: list[int], tokens: int) -> Any:
    """Greedy, and no end before so many tokens."""
    params = genai.GeneratorParams(model)
    length = len(prompt) + tokens
    params.set_search_options(max_length=length, min_length=length, do_sample=False)
    return genai.Generator(model, params)


def genai_decode(model: Any, prompt: list[int], tokens: int) -> float:
    """Seconds a token, the prompt's pass left out."""
    generator = begun(model, prompt, tokens)
    generator.append_tokens(prompt)
    generator.generate_next_token()
    began = time.perf_counter()
    while not generator.is_done():
        generator.generate_next_token()
    took = time.perf_counter() - began
    assert len(generator.get_sequence(0)) == len(prompt) + tokens
    return took / (tokens - 1)


def genai_prefill(model: Any, prompt: list[int]) -> float:
    """Seconds to the first token."""
    generator = begun(model, prompt, 1)
    began = time.perf_counter()
    generator.append_tokens(prompt)
    generator.generate_next_token()
    return time.perf_counter() - began


def main() -> None:
    read = arguments(__doc__, repeats=7).parse_args()
    files = forms()
    engine = Engine.open(files["q4_1"], EngineConfig(weights="int4", prefix_cache=False, cache_tokens=2048))
    model = opened(built(files["folder"]))
    prompt, long = question(engine.tokenizer, PROMPT), question(engine.tokenizer, LONG)
    runs: dict[str, Callable[[], float | None]] = {
        "decode_int4": partial(engine_decode, engine, prompt, ANSWER),
        "decode_genai": partial(genai_decode, model, prompt, ANSWER),
        "prefill_int4": partial(engine_prefill, engine, long),
        "prefill_genai": partial(genai_prefill, model, long),
    }
    raw = interleave(runs, read.repeats)
    ratios = {f"{what}_int4_vs_genai": ratio(raw, f"{what}_int4", f"{what}_genai") for what in ("decode", "prefill")}
    show(("run", "best, ms"), [(name, min(times) * 1e3) for name, times in raw.items()])
    work = "SmolLM2-135M-Instruct in 4 bits, one request: seconds a token, seconds for 512 tokens of prompt"
    write(read.json, work, ratios, raw)


if __name__ == "__main__":
    main()
