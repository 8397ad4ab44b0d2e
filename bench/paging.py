"""Keys and values in pages: memory given out beside rows of full length, and what a shared beginning saves.

键和值分页存放：与按最大长度预留整行相比给出了多少内存，以及相同的开头能省下多少。

Requests of uneven length on a random model. "rows": each request has room for the whole context from the start; "exact":
the tokens that are really there. Then requests that begin alike, with pages found again by their content and without.
"""

import random
from collections.abc import Sequence
from statistics import mean
from unittest import mock

from _common import arguments, interleave, ratio, show, write
from _small import decoder

from danlu.generate import scheduler
from danlu.generate.engine import Engine, EngineConfig, Step
from danlu.generate.params import SamplingParams
from danlu.models.decoder import Decoder
from danlu.models.paged import PAGE
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

VOCABULARY, CONTEXT = 2048, 1024
SHAPE = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "max_position_embeddings": CONTEXT}
REQUESTS, LONGEST = 48, 160  # tokens of prompt and answer
ALIKE, BEGINNING = 8, 400  # requests with the same beginning, and its tokens
WORK = (
    f"{REQUESTS} requests of 8 to {LONGEST} tokens, context {CONTEXT}; {ALIKE} requests that share {BEGINNING} tokens / "
    f"{REQUESTS} 个长 8 到 {LONGEST} 词元的请求，上下文 {CONTEXT}；{ALIKE} 个请求共用开头的 {BEGINNING} 个词元"
)


def drawn(draw: random.Random, tokens: int) -> list[int]:
    return [draw.randrange(VOCABULARY) for _ in range(tokens)]


def wish(tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)


def memory(model: Decoder, tokenizer: Tokenizer, memory_rows: int) -> dict[str, float]:
    """Tokens of cache given out at the fullest step, and how many requests ran together in the same memory."""
    draw = random.Random(0)
    engine = Engine(model, tokenizer, EngineConfig(cache_tokens=memory_rows * CONTEXT, max_rows=64, prefix_cache=False))
    held, together, really = [], [], []

    def look(_: Step) -> None:
        running = engine.scheduler.running
        held.append(engine.scheduler.pool.held * PAGE)
        together.append(len(running))
        really.append(sum(request.computed for request in running))

    engine.watch = look
    asked = []
    for _ in range(REQUESTS):
        length = min(LONGEST, 8 + int(draw.expovariate(1 / 40)))
        prompt = draw.randint(4, length - 3)
        asked.append((drawn(draw, prompt), wish(length - prompt)))
    engine.generate([ids for ids, _ in asked], [one for _, one in asked])
    fullest = max(range(len(held)), key=held.__getitem__)
    return {
        "together": together[fullest],
        "exact": really[fullest],
        "pages": held[fullest],
        "rows": together[fullest] * CONTEXT,
        "wasted_by_pages": 1 - sum(really) / sum(held),
        "wasted_by_rows": 1 - mean(really) / (mean(together) * CONTEXT),
    }


def alike() -> list[list[int]]:
    draw = random.Random(2)
    beginning = drawn(draw, BEGINNING)
    return [[*beginning, *drawn(draw, draw.randint(8, 40))] for _ in range(ALIKE)]


def keys(model: Decoder, tokenizer: Tokenizer) -> tuple[int, int]:
    """How many of an answer's 8 tokens are right, where keys tell a page's past and where they do not.

    Computed before: one text with the same second page after another first one, and one with the same first page.
    """
    draw = random.Random(4)
    first, tail = drawn(draw, PAGE), drawn(draw, 40)
    before, asked = [[*drawn(draw, PAGE), *tail], [*first, *drawn(draw, 4)]], [*first, *tail]

    def careless(ids: Sequence[int], known: Sequence[bytes] = (), salt: bytes = b"") -> list[bytes]:
        """The mistake: a page's key is made of its own tokens alone."""
        return [repr(ids[at : at + PAGE]).encode() for at in range(0, len(ids) - PAGE + 1, PAGE)]

    def told(earlier: list[list[int]]) -> list[int]:
        engine = Engine(model, tokenizer)
        for ids in earlier:
            engine.generate([ids], wish(1))
        return engine.generate([asked], wish(8))[0].ids

    alone, right = told([]), told(before)
    with mock.patch.object(scheduler, "page_keys", careless):
        wrong = told(before)
    with_past, without = (sum(a == b for a, b in zip(alone, ids, strict=True)) for ids in (right, wrong))
    return with_past, without


def main() -> None:
    read = arguments(__doc__, repeats=3).parse_args()
    model = decoder(VOCABULARY, **SHAPE)
    for name, parameter in model.named_parameters():
        if "self_attn" in name:
            parameter.data *= 8  # as strong in the residual stream as training makes it: else no mistake would show
    tokenizer = train_tokenizer(["春夏秋冬"], TokenizerConfig(kind="char", min_frequency=1))
    given = memory(model, tokenizer, memory_rows=8)
    token = 2 * SHAPE["num_hidden_layers"] * 2 * (SHAPE["hidden_size"] // 4) * 4  # keys and values, 2 heads, 4 bytes
    show(
        ("memory for", "tokens", "MB"),
        [(name, round(given[name]), round(given[name] * token / 1e6, 1)) for name in ("exact", "pages", "rows")],
    )
    print(
        f"\n{given['together']} requests at once where 8 rows of {CONTEXT} would fit; unused of what was given out: "
        f"{given['wasted_by_pages']:.0%} with pages, {given['wasted_by_rows']:.0%} with rows\n"
    )
    prompts = alike()
    engines = {
        "shared": Engine(model, tokenizer, EngineConfig(step_tokens=128)),
        "apart": Engine(model, tokenizer, EngineConfig(step_tokens=128, prefix_cache=False)),
    }
    told: dict[str, list[list[int]]] = {}
    computed, found, most = (dict.fromkeys(engines, 0) for _ in range(3))

    def timed(name: str) -> None:
        engine = engines[name]
        engine.sync(model)  # forgets what it computed
        computed[name] = found[name] = most[name] = 0

        def look(step: Step) -> None:
            computed[name] += sum(part[2] for part in step.parts)
            found[name] += sum(tokens for _, tokens in step.admitted)
            most[name] = max(most[name], step.pages_held)

        engine.watch = look
        told[name] = [answer.ids for answer in engine.generate(prompts, wish(8))]

    times = interleave({name: lambda name=name: timed(name) for name in engines}, read.repeats)
    show(
        ("pages of the beginning", "tokens computed", "tokens found", "most pages held", "seconds"),
        [(name, computed[name], found[name], most[name], round(min(times[name]), 2)) for name in engines],
    )
    same = float(told["shared"] == told["apart"])
    print(f"\nthe same answers: {same:.0%}\n")
    right, wrong = keys(model, tokenizer)
    print(f"keys without the past: {wrong} of 8 tokens right; with the past: {right} of 8\n")
    ratios = {"shared_vs_apart": ratio(times, "shared", "apart")}
    write(read.json, WORK, ratios, times, memory=given, same_answers=same, computed=computed, found=found,
          trap={"right": right, "wrong": wrong})  # fmt: skip


if __name__ == "__main__":
    main()
