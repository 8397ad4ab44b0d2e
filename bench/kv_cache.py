"""Generating with a KV cache and without one, beside transformers doing the same; and two ways to get it wrong.

有 KV 缓存与没有 KV 缓存的生成速度，与 transformers 对照；以及两种常见的错误用法。

A random model of the quickstart's shape with grouped queries, one prompt, greedy: all four must give the same tokens.
"""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from _common import arguments, interleave, ratio, show, write
from torch import Tensor
from transformers import LlamaForCausalLM

from danlu.core.folder import Lineage
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import SamplingParams
from danlu.models import auto, base
from danlu.models.base import KVCache
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.ops.attention import cache_mask
from danlu.tokenizer import TokenizerConfig, train_tokenizer

PROMPT, LENGTHS = 16, (32, 128, 256)  # tokens
SHAPE = DecoderConfig(vocab_size=6482, num_key_value_heads=2, max_position_embeddings=1024)
WORK = (
    f"greedy generation after a prompt of {PROMPT} tokens, by how many are generated / "
    f"在 {PROMPT} 个词元的提示之后贪心生成，按生成的词元数"
)


def best(model: Decoder, new: list[list[int]], positions: Tensor, cache: KVCache, first: int = 0) -> list[int]:
    """The best next token of rows `first`, `first + 1`, ... after their `new` tokens at `positions` [B, T]."""
    cache.select(first, positions)
    hidden = model.hidden({"input_ids": torch.tensor(new), "position_ids": positions}, cache)
    return model.logits(hidden[:, -1]).argmax(-1).tolist()


def with_cache(model: Decoder, prompt: list[int], tokens: int, *, counted: bool = True) -> list[int]:
    """Each step computes the newest token alone; keys and values of the others are read from the cache.

    Not `counted` is a mistake: the new token's position is forgotten, so that each pass begins at 0 again.
    """
    cache = model.new_cache(1, len(prompt) + tokens)
    ids, new = list(prompt), list(prompt)
    for _ in range(tokens):
        start = len(ids) - len(new) if counted else 0
        new = best(model, [new], torch.arange(start, start + len(new))[None], cache)
        ids += new
    return ids[len(prompt) :]


def without_cache(model: Decoder, prompt: list[int], tokens: int) -> list[int]:
    """Each step computes the whole text again."""
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(model.logits(model.hidden({"input_ids": torch.tensor([ids])})[0, -1]).argmax()))
    return ids[len(prompt) :]


def in_a_used_row(model: Decoder, prompt: list[int], tokens: int) -> list[int]:
    """Row 1 held a long text; now `prompt` begins there, while row 0 goes on with its own."""
    long = list(range(PROMPT + 2 * tokens))
    cache = model.new_cache(2, len(long) + tokens)
    others = best(model, [long, long], torch.arange(len(long)).expand(2, -1), cache)[:1]
    ids = [*prompt, *best(model, [prompt], torch.arange(len(prompt))[None], cache, first=1)]
    for step in range(tokens - 1):
        positions = torch.tensor([[len(long) + step], [len(ids) - 1]])
        other, own = best(model, [others[-1:], ids[-1:]], positions, cache)
        others.append(other)
        ids.append(own)
    return ids[len(prompt) :]


def by_engine(model: Decoder, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """danlu's engine with fewer rows than prompts, so that one joins when another has ended."""
    tokenizer = train_tokenizer(["春夏秋冬"], TokenizerConfig(kind="char", min_frequency=1))
    engine = Engine(model, tokenizer, EngineConfig(max_rows=len(prompts) - 1))
    lengths = [SamplingParams(temperature=0, max_tokens=tokens - 3 * row) for row in range(len(prompts))]
    return [answer.ids for answer in engine.generate(prompts, lengths)]


def careless_mask(position_ids: Tensor, length: int, window: int | None = None) -> Tensor:
    """The mistake: 'one new token needs no mask, all that the cache holds is its past'."""
    mask = cache_mask(position_ids, length, window)
    return torch.ones_like(mask) if position_ids.shape[1] == 1 else mask


def random_model() -> Decoder:
    """Random, with attention as strong in the residual stream as training makes it: else no mistake would show."""
    model = Decoder(SHAPE).eval()
    model.initialise(torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if "self_attn" in name:
            parameter.data *= 8
    return model


def transformers_model(model: Decoder) -> LlamaForCausalLM:
    """The same weights in transformers, by way of the model folder."""
    with tempfile.TemporaryDirectory() as folder:
        auto.save(model, Path(folder) / "model", lineage=Lineage(verb="bench"))
        theirs = LlamaForCausalLM.from_pretrained(Path(folder) / "model", dtype=torch.float32)
    theirs.generation_config.eos_token_id = None  # a random model would end anywhere
    return theirs.eval()


def their_tokens(model: LlamaForCausalLM, prompt: list[int], tokens: int, *, use_cache: bool) -> list[int]:
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "use_cache": use_cache, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    return model.generate(ids, max_new_tokens=tokens, **settings)[0, len(prompt) :].tolist()


def equal(told: list[int], wanted: list[int]) -> float:
    """The share of tokens that are the right ones, each at its place."""
    return sum(one == other for one, other in zip(told, wanted, strict=True)) / len(wanted)


@torch.inference_mode()
def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=LENGTHS, help="how many to generate / 生成多少个词元")
    read = parser.parse_args()
    model = random_model()
    theirs = transformers_model(model)
    prompt = torch.randint(SHAPE.vocab_size, (PROMPT,), generator=torch.Generator().manual_seed(1)).tolist()
    runs: dict[str, Callable[[int], list[int]]] = {
        "danlu": functools.partial(with_cache, model, prompt),
        "danlu_uncached": functools.partial(without_cache, model, prompt),
        "transformers": functools.partial(their_tokens, theirs, prompt, use_cache=True),
        "transformers_uncached": functools.partial(their_tokens, theirs, prompt, use_cache=False),
    }
    ratios, raw, rows, same = {}, {}, [], []
    for tokens in read.tokens:
        told: dict[str, list[int]] = {}

        def timed(name: str, tokens: int = tokens, told: dict[str, list[int]] = told) -> None:
            told[name] = runs[name](tokens)

        times = interleave({name: functools.partial(timed, name) for name in runs}, read.repeats)
        same += [equal(ids, told["danlu_uncached"]) for ids in told.values()]
        raw |= {f"{name}_{tokens}": seconds for name, seconds in times.items()}
        for other in ("danlu_uncached", "transformers"):
            ratios[f"cached_{tokens}_vs_{other}"] = ratio(times, "danlu", other)
        rows.append((tokens, *(round(tokens / min(seconds)) for seconds in times.values())))
    show(("tokens", *(f"{name}, tokens/s" for name in runs)), rows)
    tokens = read.tokens[0]
    right = without_cache(model, prompt, tokens)
    mistakes = {"none": equal(in_a_used_row(model, prompt, tokens), right)}
    mistakes["positions_forgotten"] = equal(with_cache(model, prompt, tokens, counted=False), right)
    with mock.patch.object(base, "cache_mask", careless_mask):
        mistakes["stale_entries_seen"] = equal(in_a_used_row(model, prompt, tokens), right)
    prompts = [prompt, prompt[: PROMPT // 2], prompt[::-1] + prompt]
    answers = by_engine(model, prompts, tokens)
    exact = [without_cache(model, ids, len(answer)) for ids, answer in zip(prompts, answers, strict=True)]
    engine = min(equal(answer, wanted) for answer, wanted in zip(answers, exact, strict=True))
    print(f"\nthe engine, three prompts on two rows, gives the tokens of each alone: {engine:.1%}")
    print(f"all four give the same tokens: {min(same):.1%}\n")
    show(("mistake", f"right of {tokens} tokens"), [(name, f"{share:.0%}") for name, share in mistakes.items()])
    print()
    write(read.json, WORK, ratios, raw, same_tokens=min(same), engine_same_tokens=engine, mistakes=mistakes)


if __name__ == "__main__":
    main()
