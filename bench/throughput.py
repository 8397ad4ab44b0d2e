"""Many requests at once: danlu's engine against llama.cpp's server and transformers' padded batches.

多请求并发:danlu 引擎与 llama.cpp 服务、transformers 补齐批处理的比较。

SmolLM2-135M-Instruct, 8 bits (transformers: bfloat16). Prompts of 32 to 96 tokens, 96 tokens of answer each; then 16
requests that begin with the same 400 tokens, with and without the prefix cache; then a text to be copied, with and
without guesses looked up in it (and whether the answer stays the same).
"""

import resource
import time
from collections.abc import Callable
from functools import partial

import torch
from _common import arguments, interleave, ratio, show, write
from _smollm import LlamaCpp, forms, question

from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import SamplingParams

ANSWER, SHARED, COPIED = 96, 400, 160
TEXT = (
    "The harbour master keeps a ledger of every boat that enters the bay, its name, its cargo and the hour of the tide. "
    "On the ninth of March the schooner Amelia Grey came in at half past four with timber, salt and eleven barrels of "
    "lamp oil, and left again before the storm with nothing but ballast and a letter for the lighthouse keeper. "
)


def danlu(engine: Engine, prompts: list[list[int]], tokens: int) -> float:
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    began = time.perf_counter()
    answers = engine.generate(prompts, params)
    took = time.perf_counter() - began
    assert all(len(answer.ids) == tokens for answer in answers)
    return took


def danlu_forgetting(engine: Engine, prompts: list[list[int]], tokens: int) -> float:
    """Nothing is left from the round before."""
    engine.scheduler.pool.forget()
    return danlu(engine, prompts, tokens)


def llama(server: LlamaCpp, prompts: list[list[int]], tokens: int) -> float:
    began = time.perf_counter()
    told = server.together(prompts, tokens)
    took = time.perf_counter() - began
    assert all(one["tokens_predicted"] == tokens for one in told)
    return took


def padded(folder: str) -> Callable[[list[list[int]], int], float]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.generation_config.eos_token_id = None

    @torch.inference_mode()
    def run(prompts: list[list[int]], tokens: int) -> float:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        began = time.perf_counter()
        model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
        return time.perf_counter() - began

    return run


def main() -> None:
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 16], help="requests / 并发数")
    read = parser.parse_args()
    files = forms()
    config = EngineConfig(weights="int8", cache_tokens=16384)
    engine = Engine.open(files["folder"], config)
    tokenizer = engine.tokenizer
    forgetful = Engine(engine.model, tokenizer, config.model_copy(update={"prefix_cache": False}))
    guessing = Engine(engine.model, tokenizer, config.model_copy(update={"guesses": 6}))
    server, batch = LlamaCpp(files["q8_0"], 512, rows=max(read.at_once)), padded(str(files["folder"]))
    runs: dict[str, Callable[[], float | None]] = {}
    for many in read.at_once:
        prompts = [question(tokenizer, 32 + 64 * at // max(1, many - 1 or 1), 7000 + at * 100) for at in range(many)]
        runs[f"danlu_{many}"] = partial(danlu, forgetful, prompts, ANSWER)
        runs[f"llama_cpp_{many}"] = partial(llama, server, prompts, ANSWER)
        runs[f"transformers_{many}"] = partial(batch, prompts, ANSWER)
    start = question(tokenizer, SHARED)
    shared = [start + question(tokenizer, 16, 9000 + at * 50) for at in range(16)]
    runs["shared_prefix"] = partial(danlu_forgetting, engine, shared, 16)
    runs["shared_no_prefix_cache"] = partial(danlu, forgetful, shared, 16)
    copy = [tokenizer.encode(TEXT * 2 + TEXT[:90])]
    runs["copy_guessing"] = partial(danlu, guessing, copy, COPIED)
    runs["copy_plain"] = partial(danlu, forgetful, copy, COPIED)
    raw = interleave(runs, read.repeats)
    wish = SamplingParams(temperature=0, max_tokens=COPIED, ignore_eos=True)
    same = guessing.generate(copy, wish)[0].ids == forgetful.generate(copy, wish)[0].ids
    ratios = {}
    for many in read.at_once:
        for other in ("llama_cpp", "transformers"):
            ratios[f"{many}_at_once_vs_{other}"] = ratio(raw, f"danlu_{many}", f"{other}_{many}")
    ratios["shared_prefix_vs_no_prefix_cache"] = ratio(raw, "shared_prefix", "shared_no_prefix_cache")
    ratios["lookup_vs_plain"] = ratio(raw, "copy_guessing", "copy_plain")
    told = {
        "lookup_same_text": same,
        "lookup_guesses_right": guessing.guessed_right / max(1, guessing.guessed),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    show(
        ("at once", "danlu, tokens/s", "llama.cpp", "transformers"),
        [(many, *(round(many * ANSWER / min(raw[f"{name}_{many}"])) for name in ("danlu", "llama_cpp", "transformers"))) for many in read.at_once],
    )  # fmt: skip
    show(("measure", "value"), list(told.items()))
    write(read.json, "SmolLM2-135M-Instruct, many requests at once: seconds for all of them", ratios, raw, **told)


if __name__ == "__main__":
    main()
