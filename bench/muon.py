"""danlu's Muon, matrices of one shape at a time, beside torch.optim.Muon; and Muon beside AdamW at equal tokens.

danlu 的 Muon（形状相同的矩阵一起处理）与 torch.optim.Muon 对比；Muon 与 AdamW 在词元数相同时对比。

The matrices are the quickstart's: 6 layers of width 192. The runs to a loss train a small decoder on bytes of
Python's standard library; AdamW gets the best of three learning rates, Muon its defaults.
"""

import copy

import torch
from _common import Raw, arguments, interleave, ratio, show, write
from _small import BYTES, Watch, decoder, library
from torch import nn

from danlu.data.batches import PackedBatches
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.train.config import TrainConfig
from danlu.train.loop import fit
from danlu.train.objective import cross_entropy
from danlu.train.optim import Muon

STEPS_A_ROUND = 5
RATES = (1e-3, 3e-3, 1e-2)
LENGTH, ROWS, SMOOTH = 128, 16, 10
WORK = (
    "one optimiser step over the matrices of a decoder of 6 layers of width 192; steps to the loss that AdamW reaches / "
    "6 层、宽 192 的解码器的矩阵，优化器走一步的耗时；以及达到 AdamW 最终损失所需的步数"
)


def matrices() -> list[nn.Parameter]:
    """The matrices inside the blocks, with gradients."""
    model = Decoder(DecoderConfig(vocab_size=300))
    model.initialise(torch.Generator().manual_seed(0))
    chosen = [p for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2]
    generator = torch.Generator().manual_seed(1)
    for parameter in chosen:
        parameter.grad = torch.randn(parameter.shape, generator=generator) / 100
    return chosen


def optimizers() -> dict[str, torch.optim.Optimizer]:
    """The same matrices twice, each with its own optimiser, and AdamW as the floor."""
    ours, theirs, plain = (copy.deepcopy(matrices()) for _ in range(3))
    for parameters in (ours, theirs, plain):  # a deep copy of a parameter has no gradient
        for parameter, source in zip(parameters, matrices(), strict=True):
            parameter.grad = source.grad
    return {
        "danlu": Muon(ours, lr=0.02, momentum=0.95),
        "torch": torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.0),
        "adamw": torch.optim.AdamW(plain, lr=3e-3, fused=True),
    }


def speed(repeats: int) -> Raw:
    """Seconds of STEPS_A_ROUND steps."""

    def steps(optimizer: torch.optim.Optimizer) -> None:
        for _ in range(STEPS_A_ROUND):
            optimizer.step()

    made = optimizers()
    return interleave({name: lambda one=one: steps(one) for name, one in made.items()}, repeats)


def difference(steps: int = 10) -> float:
    """|danlu - torch| / |the way they went|, the worst of all matrices, after `steps` steps on changing gradients."""
    made = optimizers()
    ours, theirs = (made[name].param_groups[0]["params"] for name in ("danlu", "torch"))
    start = [parameter.detach().clone() for parameter in ours]
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        for name in ("danlu", "torch"):
            made[name].step()
    pairs = zip(ours, theirs, start, strict=True)
    return max(((a - b).norm() / (b - s).norm()).item() for a, b, s in pairs)


def train(steps: int, seed: int, **settings: str | float) -> list[float]:
    """The losses of a run, smoothed over SMOOTH steps."""
    still = {"precision": "fp32", "device": "cpu", "seq_len": LENGTH, "warmup": 20, "steps": steps, "batch_size": ROWS}
    watch = Watch()
    batches = PackedBatches(library(3000, LENGTH), LENGTH, ROWS, seed=seed)
    fit(decoder(BYTES, seed), batches, cross_entropy, TrainConfig.parse({**still, **settings}, "bench"), hooks=[watch])
    return [sum(watch.losses[i - SMOOTH : i]) / SMOOTH for i in range(SMOOTH, len(watch.losses) + 1)]


def steps_to(losses: list[float], wanted: float) -> int:
    """The first step at which the smoothed loss is down to `wanted`."""
    return next(number for number, loss in enumerate(losses, SMOOTH) if loss <= wanted)


def race(steps: int, repeats: int) -> tuple[Raw, list[tuple[object, ...]]]:
    """Steps that each needs to the loss which the best AdamW has at the end; the same start and order of data."""
    runs = {f"AdamW {rate:g}": {"optimizer": "adamw", "lr": rate} for rate in RATES} | {"Muon": {"optimizer": "muon"}}
    raw: Raw = {"muon_steps": [], "adamw_steps": []}
    rows = []
    for seed in range(repeats):
        losses = {name: train(steps, seed, **settings) for name, settings in runs.items()}
        best = min((name for name in runs if name != "Muon"), key=lambda name: losses[name][-1])
        wanted = losses[best][-1]
        raw["adamw_steps"].append(steps_to(losses[best], wanted))
        raw["muon_steps"].append(steps_to(losses["Muon"], wanted))
        rows += [(seed, name, found[-1], "*" if name == best else "") for name, found in losses.items()]
    return raw, rows


def main() -> None:
    parser = arguments(__doc__, repeats=15)
    parser.add_argument("--steps", type=int, default=200, help="steps of a run / 每次训练的步数")
    parser.add_argument("--quick", action="store_true", help="no runs to a loss / 不训练，只比较优化器")
    read = parser.parse_args()
    found = difference()
    raw = speed(read.repeats)
    ratios = {"step_vs_torch_muon": ratio(raw, "danlu", "torch"), "step_vs_adamw": ratio(raw, "danlu", "adamw")}
    milliseconds = {name: 1000 * min(seconds) / STEPS_A_ROUND for name, seconds in raw.items()}
    show(("optimiser", "ms a step"), list(milliseconds.items()))
    if not read.quick:
        steps, rows = race(read.steps, 3)
        print()
        show(("seed", "optimiser", "loss at the end", "best AdamW"), rows)
        ratios["steps_to_loss_vs_adamw"] = ratio(steps, "muon_steps", "adamw_steps")
        raw |= steps
    print(f"\nlargest relative difference from torch.optim.Muon: {found:.2e}\n")
    write(read.json, WORK, ratios, raw, difference=found)


if __name__ == "__main__":
    main()
