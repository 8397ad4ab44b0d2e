"""One request at a time: danlu against llama.cpp, transformers, and the memory's own speed.

单个请求:danlu 与 llama.cpp、transformers,以及内存带宽上限的比较。

SmolLM2-135M-Instruct in 8 and 4 bits: seconds a token after a prompt of 64, and seconds for a prompt of 512 tokens.
llama.cpp runs Q8_0 and Q4_1 and is asked for its own timings, so HTTP is not counted; transformers runs bfloat16.
The roofline is the bytes of the weights that a token needs, divided by the measured speed of reading memory.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from _common import arguments, interleave, ratio, show, write
from _smollm import LlamaCpp, forms, question

from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import SamplingParams
from danlu.models.packed import PackedDecoder

PROMPT, ANSWER, LONG = 64, 96, 512


def engine_decode(engine: Engine, prompt: list[int], tokens: int) -> float:
    """Seconds a token, the prompt's pass left out."""
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    number = engine.add(prompt, params)
    engine.step()
    began = time.perf_counter()
    while engine.busy:
        engine.step()
    del number
    return (time.perf_counter() - began) / (tokens - 1)


def engine_prefill(engine: Engine, prompt: list[int]) -> float:
    """Seconds to the first token."""
    engine.add(prompt, SamplingParams(temperature=0, max_tokens=1, ignore_eos=True))
    began = time.perf_counter()
    while engine.busy:
        engine.step()
    return time.perf_counter() - began


def llama_decode(server: LlamaCpp, prompt: list[int], tokens: int) -> float:
    told = server.complete(prompt, tokens)["timings"]
    return told["predicted_ms"] / 1000 / told["predicted_n"]


def llama_prefill(server: LlamaCpp, prompt: list[int]) -> float:
    return server.complete(prompt, 1)["timings"]["prompt_ms"] / 1000


def transformers_runs(folder: str, prompt: list[int], long: list[int]) -> dict[str, Callable[[], float]]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.generation_config.eos_token_id = None

    @torch.inference_mode()
    def seconds(ids: list[int], tokens: int) -> float:
        began = time.perf_counter()
        model.generate(torch.tensor([ids]), max_new_tokens=tokens, do_sample=False, pad_token_id=0)
        return time.perf_counter() - began

    return {
        "decode_transformers_bf16": lambda: (seconds(prompt, 17) - seconds(prompt, 1)) / 16,
        "prefill_transformers_bf16": lambda: seconds(long, 1),
    }


def read_speed() -> float:
    """Bytes a second: the best of summing 256 MB, on all threads."""
    numbers = torch.ones(64_000_000)
    best = 1e9
    for _ in range(10):
        began = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - began)
    return numbers.numel() * 4 / best


def main() -> None:
    read = arguments(__doc__, repeats=7).parse_args()
    files = forms()
    config = EngineConfig(prefix_cache=False, cache_tokens=2048)
    engines = {bits: Engine.open(files["folder" if bits == "int8" else "q4_1"], config.model_copy(update={"weights": bits})) for bits in ("int8", "int4")}  # fmt: skip
    servers = {kind: LlamaCpp(files[kind], 1024) for kind in ("q8_0", "q4_1")}
    tokenizer = engines["int8"].tokenizer
    prompt, long = question(tokenizer, PROMPT), question(tokenizer, LONG)
    runs: dict[str, Callable[[], float | None]] = {}
    for bits, engine in engines.items():
        runs[f"decode_{bits}"] = partial(engine_decode, engine, prompt, ANSWER)
        runs[f"prefill_{bits}"] = partial(engine_prefill, engine, long)
    for kind, server in servers.items():
        runs[f"decode_llama_cpp_{kind}"] = partial(llama_decode, server, prompt, ANSWER)
        runs[f"prefill_llama_cpp_{kind}"] = partial(llama_prefill, server, long)
    runs |= transformers_runs(str(files["folder"]), prompt, long)
    raw = interleave(runs, read.repeats)
    ratios = {}
    for bits, kind in (("int8", "q8_0"), ("int4", "q4_1")):
        for what in ("decode", "prefill"):
            ratios[f"{what}_{bits}_vs_llama_cpp_{kind}"] = ratio(raw, f"{what}_{bits}", f"{what}_llama_cpp_{kind}")
            ratios[f"{what}_{bits}_vs_transformers_bf16"] = ratio(raw, f"{what}_{bits}", f"{what}_transformers_bf16")
    speed = read_speed()
    rows, roofline = [], {}
    for bits, engine in engines.items():
        assert isinstance(engine.model, PackedDecoder)
        least = engine.model.weight_bytes / speed
        roofline[bits] = {"weight_bytes": engine.model.weight_bytes, "bytes_a_second": speed, "share": least / min(raw[f"decode_{bits}"])}  # fmt: skip
        rows.append((bits, engine.model.weight_bytes / 1e6, speed / 1e9, least * 1e3, min(raw[f"decode_{bits}"]) * 1e3))
    show(("weights", "MB a token", "GB/s read", "roofline, ms a token", "danlu, ms a token"), rows)
    show(("run", "best, ms"), [(name, min(times) * 1e3) for name, times in raw.items()])
    write(read.json, "SmolLM2-135M-Instruct, one request: seconds a token, seconds for 512 tokens of prompt", ratios, raw, roofline=roofline)  # fmt: skip


if __name__ == "__main__":
    main()
