"""Ten minutes of random load: does the engine's memory stay flat, and does every request end?

十分钟随机负载:引擎内存是否平稳,每个请求是否都结束。

Requests of random prompts (some begin alike), lengths, settings and arrival times; a tenth is cancelled under way. The
cache is small, so pages run out and requests are preempted. After a warm-up of a tenth of the time, resident memory is
sampled each second; growth is that of the last tenth's median over the first's. A random model of 8 M parameters.
"""

import argparse
import random
import time
from pathlib import Path
from statistics import median

import torch
from _common import machine, show

from danlu.core.files import write_json
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import SamplingParams
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.models.packed import PackedDecoder
from danlu.tokenizer import TokenizerConfig, train_tokenizer


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def wish(chance: random.Random) -> SamplingParams:
    return SamplingParams(
        temperature=chance.choice([0.0, 0.7, 1.2]),
        top_p=chance.choice([1.0, 0.9]),
        repetition_penalty=chance.choice([1.0, 1.0, 1.2]),
        logprobs=chance.choice([None, None, 2]),
        max_tokens=chance.randint(1, 120),
        seed=chance.randint(0, 99),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    read = parser.parse_args()
    torch.set_num_threads(read.threads)
    chance = random.Random(0)
    tokenizer = train_tokenizer(
        ["".join(map(chr, range(0x4E00, 0x4E00 + 3000)))], TokenizerConfig(kind="char", min_frequency=1)
    )
    model = Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size, hidden_size=256, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4, head_dim=32, max_position_embeddings=512)).eval()  # fmt: skip
    model.initialise(torch.Generator().manual_seed(0))
    engine = Engine(PackedDecoder(model, "int8"), tokenizer, EngineConfig(max_rows=16, cache_tokens=1792, guesses=2))
    preempted = 0

    def count(step: object) -> None:
        nonlocal preempted
        preempted += len(step.preempted)  # type: ignore[attr-defined]

    engine.watch = count
    starts = [[chance.randrange(100, 3000) for _ in range(120)] for _ in range(4)]
    open_, added, ended, cancelled = set[int](), 0, 0, 0
    began, samples, last = time.monotonic(), [], 0.0
    while (now := time.monotonic() - began) < read.minutes * 60 or engine.busy:
        if now < read.minutes * 60 and len(open_) < 60 and chance.random() < 0.5:
            own = [chance.randrange(100, 3000) for _ in range(chance.randint(1, 200))]
            open_.add(engine.add((chance.choice(starts) if chance.random() < 0.4 else []) + own, wish(chance)))
            added += 1
        if open_ and chance.random() < 0.01:
            gone = chance.choice(sorted(open_))
            engine.cancel(gone)
            open_.discard(gone)
            cancelled += 1
        for event in engine.step():
            if event.completion and event.request in open_:
                open_.discard(event.request)
                ended += 1
        if now - last >= 1 and now >= read.minutes * 6:
            last = now
            samples.append(resident())
    tenth = max(1, len(samples) // 10)
    told = {
        "minutes": read.minutes,
        "added": added,
        "ended": ended,
        "cancelled": cancelled,
        "preempted": preempted,
        "steps": engine.steps,
        "pages_held_at_the_end": engine.scheduler.pool.held,
        "unanswered": len(open_),
        "memory_growth": median(samples[-tenth:]) / median(samples[:tenth]) - 1,
        "resident_bytes": median(samples[-tenth:]),
    }
    show(("measure", "value"), list(told.items()))
    if read.json:
        write_json(
            read.json,
            {
                "machine": machine(),
                "work": "random load on the engine",
                "ratios": {},
                **told,
                "raw": {"resident": samples},
            },
        )


if __name__ == "__main__":
    main()
