"""Static batches and continuous batching on answers of very different lengths; and what one long prompt does to the others.

静态批处理与连续批处理：各请求的回答长短不一；以及一个长提示词对其他请求的影响。

One engine, one random model, the same requests on the same number of rows. "padded": a batch is computed until its longest
answer ends, and what the others write meanwhile is thrown away; "static": rows that ended drop out, but nobody joins.
"""

import random
import time
from collections.abc import Callable, Sequence
from statistics import mean

import torch
from _common import arguments, interleave, machine, ratio, show, write
from _small import decoder

from danlu.generate.engine import Engine, EngineConfig, Step
from danlu.generate.params import SamplingParams
from danlu.models.decoder import Decoder
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

ROWS, REQUESTS, VOCABULARY = 8, 32, 4096
SHAPE = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "max_position_embeddings": 2048}
LONG_PROMPT, PIECES = 768, (1024, 64)  # tokens; step_tokens with and without chunks
WORK = (
    f"{REQUESTS} requests with answers of 4 to 128 tokens on {ROWS} rows / "
    f"{REQUESTS} 个请求，回答长 4 到 128 个词元，{ROWS} 行"
)
Run = Callable[[Engine, Sequence[tuple[list[int], int]]], list[list[int]]]


def requests() -> list[tuple[list[int], int]]:
    """Prompts, and how many tokens each answer has: most are short, a few are long."""
    draw = random.Random(0)
    return [
        ([draw.randrange(VOCABULARY) for _ in range(draw.randint(4, 24))], min(128, 4 + int(draw.expovariate(1 / 28))))
        for _ in range(REQUESTS)
    ]


def wish(tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)


def continuous(engine: Engine, asked: Sequence[tuple[list[int], int]]) -> list[list[int]]:
    """Whoever waits joins as soon as a row is free."""
    return [answer.ids for answer in engine.generate([ids for ids, _ in asked], [wish(tokens) for _, tokens in asked])]


def static(engine: Engine, asked: Sequence[tuple[list[int], int]]) -> list[list[int]]:
    """A batch begins when all of the one before have ended."""
    groups = [asked[at : at + ROWS] for at in range(0, len(asked), ROWS)]
    return [answer for group in groups for answer in continuous(engine, group)]


def padded(engine: Engine, asked: Sequence[tuple[list[int], int]]) -> list[list[int]]:
    """As `static`, and each row goes on until the longest of its batch has ended."""
    groups = [asked[at : at + ROWS] for at in range(0, len(asked), ROWS)]
    told = []
    for group in groups:
        longest = max(tokens for _, tokens in group)
        answers = continuous(engine, [(ids, longest) for ids, _ in group])
        told += [answer[:tokens] for answer, (_, tokens) in zip(answers, group, strict=True)]
    return told


def use(engine: Engine, run: Run) -> dict[str, float]:
    """Steps, the share of rows that wrote something that was asked for, and the step at which a request was done."""
    asked, seen = requests(), list[Step]()
    engine.watch = seen.append
    run(engine, asked)
    engine.watch = None
    ended = [at for at, step in enumerate(seen, 1) for _ in step.ended]
    useful = sum(tokens for _, tokens in asked)
    return {"steps": len(seen), "use": useful / (ROWS * len(seen)), "mean_done": mean(ended)}


def pauses(model: Decoder, tokenizer: Tokenizer, pieces: int) -> dict[str, float]:
    """Three answers are under way when a long prompt arrives: the longest pause between two of their tokens, and its own wait.

    Returns both in milliseconds, and the median step before the arrival.
    """
    engine = Engine(model, tokenizer, EngineConfig(step_tokens=pieces, prefix_cache=False))
    took: list[float] = []
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[machine()["clock"]]

    def step() -> None:
        start = clock()
        engine.step()
        took.append(1000 * (clock() - start))

    draw = random.Random(1)
    for _ in range(3):
        engine.add([draw.randrange(VOCABULARY) for _ in range(8)], wish(60))
    for _ in range(20):
        step()
    late = engine.add([draw.randrange(VOCABULARY) for _ in range(LONG_PROMPT)], wish(2))
    waits = len(took)
    while late in {request.number for request in (*engine.scheduler.waiting, *engine.scheduler.running)}:
        step()
    before = sorted(took[5:20])[7]
    return {"pause": max(took[20:]), "first_token": sum(took[waits:-1]), "usual": before}


@torch.inference_mode()
def main() -> None:
    read = arguments(__doc__, repeats=2).parse_args()
    model = decoder(VOCABULARY, **SHAPE)
    tokenizer = train_tokenizer(["春夏秋冬"], TokenizerConfig(kind="char", min_frequency=1))
    engine = Engine(model, tokenizer, EngineConfig(max_rows=ROWS, prefix_cache=False))
    asked, told = requests(), {}
    runs: dict[str, Run] = {"continuous": continuous, "static": static, "padded": padded}

    def timed(name: str) -> None:
        told[name] = runs[name](engine, asked)

    times = interleave({name: lambda name=name: timed(name) for name in runs}, read.repeats)
    tokens = sum(tokens for _, tokens in asked)
    used = {name: use(engine, run) for name, run in runs.items()}
    show(
        ("batches", "steps", "rows in use", "mean step of the end", "tokens/s"),
        [
            (name, one["steps"], f"{one['use']:.0%}", round(one["mean_done"]), round(tokens / min(times[name])))
            for name, one in used.items()
        ],
    )
    same = sum(told[name] == told["continuous"] for name in told) / len(told)
    print(f"\n{tokens} tokens asked for; all three give the same answers: {same:.0%}\n")
    gaps = {pieces: [pauses(model, tokenizer, pieces) for _ in range(read.repeats)] for pieces in PIECES}
    best = {pieces: {name: min(one[name] for one in many) for name in many[0]} for pieces, many in gaps.items()}
    show(
        ("tokens of a step", "usual step, ms", "longest pause, ms", "its own first token after, ms"),
        [(pieces, *(round(one[name]) for name in ("usual", "pause", "first_token"))) for pieces, one in best.items()],
    )
    print()
    ratios = {f"continuous_vs_{name}": ratio(times, "continuous", name) for name in ("static", "padded")}
    write(read.json, WORK, ratios, times, used=used, same_answers=same, pauses=best)


if __name__ == "__main__":
    main()
