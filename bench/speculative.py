"""Speculative decoding: steps saved, right guesses, and the text, which must not change; and three ways to accept a guess.

投机解码：省下的步数、猜中的比例，以及不能改变的文本；还有三种接受猜测的方法。

A small decoder learns bytes of Python's standard library, and goes on writing code; a smaller one learns to guess for
it. Weights are int8, so that no rounding depends on how many tokens a pass holds.
"""

from collections.abc import Callable, Sequence

import torch
from _common import arguments, interleave, ratio, show, write
from _small import BYTES, decoder, library
from scipy.stats import chisquare
from torch import Tensor

from danlu.data.batches import PackedBatches
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import Completion, SamplingParams
from danlu.models.decoder import Decoder
from danlu.models.packed import PackedDecoder
from danlu.ops.sampling import distribution, sample
from danlu.tokenizer import TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.loop import fit
from danlu.train.objective import cross_entropy

LENGTH, ROWS, STEPS = 128, 8, 200  # of training
LARGE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4}
SMALL = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 1, "num_attention_heads": 4}
PROMPTS, PROMPT, TOKENS, GUESSES = 6, 120, 96, 4
DRAWS = 20_000
WORK = f"{PROMPTS} pieces of code, {TOKENS} bytes written for each / {PROMPTS} 段代码，各续写 {TOKENS} 个字节"


def learnt(shape: dict[str, int], steps: int) -> Decoder:
    """A decoder of bytes, after some steps."""
    torch.manual_seed(0)
    settings = {"precision": "fp32", "device": "cpu", "seq_len": LENGTH, "warmup": 20, "batch_size": ROWS, "lr": 5e-3}
    model = decoder(BYTES, **shape, max_position_embeddings=512)
    batches = PackedBatches(library(3000, LENGTH), LENGTH, ROWS)
    fit(model, batches, cross_entropy, TrainConfig.parse({**settings, "steps": steps}, "bench"))
    return model.eval()


def wish(temperature: float) -> SamplingParams:
    return SamplingParams(temperature=temperature, max_tokens=TOKENS, ignore_eos=True, seed=5)


def accepted(rule: str, p: Tensor, guess: int, uniform: Tensor) -> Tensor:
    """The token [n] that comes where `guess` was proposed and the model's distribution is `p`, by one of four rules."""
    logits, one = p.log()[None].expand(len(uniform), -1), torch.ones(len(uniform))
    drawn = sample(logits, uniform, one)
    if rule == "drawn":  # the guess is right when it is what the model draws
        return drawn
    if rule == "likely":  # accepted where the model finds it likely enough
        return torch.full_like(drawn, guess) if p[guess] >= 0.2 else drawn
    taken = torch.rand(len(uniform), generator=torch.Generator().manual_seed(9)) < p[guess]
    if rule == "residual":  # Leviathan et al. 2023 for a guess that is certain: else from what is left without it
        without = logits.clone()
        without[:, guess] = float("-inf")
        drawn = sample(without, uniform, one)
    return torch.where(taken, guess, drawn)  # "residual forgotten": else from p, which may give the guess once more


def chi_square(p: Tensor, tokens: Tensor) -> float:
    """The probability that draws from `p` are at least as far from it; rare tokens count as one."""
    seen, wanted = torch.bincount(tokens, minlength=len(p)).double(), p.double() * len(tokens)
    rare = wanted < 10
    seen, wanted = (torch.cat((part[~rare], part[rare].sum()[None])) for part in (seen, wanted))
    return float(chisquare(seen.numpy(), (wanted * (seen.sum() / wanted.sum())).numpy()).pvalue)


def uncertain(model: PackedDecoder, prompts: Sequence[list[int]]) -> tuple[Tensor, int]:
    """A distribution whose best token has a share of 0.3 to 0.7, the last such place of the prompts; and that token."""
    for ids in prompts:
        logits = model({"input_ids": torch.tensor([ids])})[0].float()
        shares = distribution(logits, torch.ones(len(logits)))
        best, which = shares.max(-1)
        places = ((best > 0.3) & (best < 0.7)).nonzero()
        if len(places):
            return shares[int(places[-1])], int(which[int(places[-1])])
    raise SystemExit("the model is certain everywhere")


def rules(model: PackedDecoder, prompts: Sequence[list[int]]) -> list[tuple[str, float, float, float]]:
    """For each rule: how often the guess came, how often it should, and the chi-square's p-value."""
    p, guess = uncertain(model, prompts)
    uniform = torch.rand(DRAWS, generator=torch.Generator().manual_seed(1))
    told = []
    for rule in ("drawn", "residual", "residual forgotten", "likely"):
        tokens = accepted(rule, p, guess, uniform)
        told.append((rule, float((tokens == guess).float().mean()), float(p[guess]), chi_square(p, tokens)))
    return told


def main() -> None:
    read = arguments(__doc__, repeats=2).parse_args()
    large, small = learnt(LARGE, STEPS), PackedDecoder(learnt(SMALL, STEPS), "int8")
    model = PackedDecoder(large, "int8")
    tokenizer = train_tokenizer(["春夏秋冬"], TokenizerConfig(kind="char", min_frequency=1))
    prompts = [list(document.ids) for document in library(PROMPTS, PROMPT, seed=7)]
    engines = {
        "plain": Engine(model, tokenizer),
        "lookup": Engine(model, tokenizer, EngineConfig(guesses=GUESSES)),
        "draft": Engine(model, tokenizer, EngineConfig(guesses=GUESSES), draft=small),
    }
    times, rows, same, ratios, figures = {}, [], [], {}, {}
    for temperature in (0.0, 0.8):
        told: dict[str, list[Completion]] = {}

        def timed(name: str, temperature: float = temperature, told: dict[str, list[Completion]] = told) -> None:
            engine = engines[name]
            engine.sync(engine.model)  # forget the prompts
            engine.steps = engine.guessed = engine.guessed_right = 0
            told[name] = [engine.generate([prompt], wish(temperature))[0] for prompt in prompts]

        runs: dict[str, Callable[[], float | None]] = {name: lambda name=name: timed(name) for name in engines}
        took = interleave(runs, read.repeats)
        for name, engine in engines.items():
            same.append([one.ids for one in told[name]] == [one.ids for one in told["plain"]])
            right = engine.guessed_right / engine.guessed if engine.guessed else 0.0
            saved = engines["plain"].steps / engine.steps
            rows.append(
                (
                    temperature,
                    name,
                    engine.steps,
                    f"{saved:.2f}",
                    f"{right:.0%}",
                    round(PROMPTS * TOKENS / min(took[name])),
                )
            )
            figures[f"{name}_{temperature:g}"] = {"steps": engine.steps, "saved": saved, "right": right}
        times |= {f"{name}_{temperature:g}": seconds for name, seconds in took.items()}
        for name in ("lookup", "draft"):
            ratios[f"{name}_vs_plain_{temperature:g}"] = ratio(took, name, "plain")
    show(("temperature", "guesses", "steps", "tokens a step", "right guesses", "tokens/s"), rows)
    print(f"\nwith guesses and without, the same text: {sum(same) / len(same):.0%}\n")
    told_rules = rules(model, prompts)
    show(("a guess is accepted", "it comes", "it should", "p of chi-square"), told_rules)
    print()
    write(
        read.json, WORK, ratios, times,
        same_text=sum(same) / len(same), figures=figures, rules={rule: more for rule, *more in told_rules},
    )  # fmt: skip


if __name__ == "__main__":
    main()
