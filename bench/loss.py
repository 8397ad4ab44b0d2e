"""Cross-entropy that never holds all the logits, beside torch's own over all of them: time and peak memory.

不保存全部 logits 的交叉熵，与先算出全部 logits 再求损失的做法相比：耗时与峰值内存。

One training step's worth of targets, loss and gradients; the quickstart's vocabulary and a large one.
"""

import functools
import multiprocessing
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from _common import Raw, arguments, interleave, ratio, show, write
from torch import Tensor

from danlu.ops.loss import linear_cross_entropy

TARGETS = 2048
SHAPES = {"quickstart": (6482, 192), "large": (32000, 256)}  # vocabulary, width
WORK = (
    f"loss and gradients of {TARGETS} targets in bf16 autocast, by vocabulary / "
    f"{TARGETS} 个目标的损失与梯度（bf16 自动混合精度），词表大小不同"
)


def inputs(shape: str, rows: int = TARGETS) -> tuple[Tensor, Tensor, Tensor]:
    """hidden [N, D] and weight [V, D], which ask for gradients, and targets [N]."""
    vocabulary, width = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator).requires_grad_()
    weight = (0.05 * torch.randn(vocabulary, width, generator=generator)).requires_grad_()
    return hidden, weight, torch.randint(vocabulary, (rows,), generator=generator)


def full(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The usual way: every logit at once."""
    return F.cross_entropy((hidden @ weight.T).float(), targets, reduction="sum")


LOSSES = {"danlu": linear_cross_entropy, "torch": full}


def step(loss: Callable[..., Tensor], hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    """Forward in bf16 autocast, and backward."""
    hidden.grad = weight.grad = None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = loss(hidden, weight, targets)
    total.backward()


def peak(who: str, shape: str) -> int:
    """Bytes by which a process grows at its highest during a step, beyond its inputs. Needs a fresh process."""
    torch.set_num_threads(1)
    step(LOSSES[who], *inputs(shape, rows=8))  # what the libraries allocate once
    tensors = inputs(shape)
    before = highest()
    step(LOSSES[who], *tensors)
    return highest() - before


def highest() -> int:
    """The most memory this process ever had, in bytes.

    Linux's getrusage would tell that of the parent too, from before the program was loaded.
    """
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


def apart(who: str, shape: str) -> float:
    """`peak`, measured in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(peak, (who, shape)))


def difference() -> float:
    """The largest distance of loss and gradients from torch's in float64, relative to the largest gradient."""
    hidden, weight, targets = inputs("quickstart", rows=256)
    linear_cross_entropy(hidden, weight, targets).backward()
    mine = hidden.grad, weight.grad
    exact = [part.detach().double().requires_grad_() for part in (hidden, weight)]
    F.cross_entropy(exact[0] @ exact[1].T, targets, reduction="sum").backward()
    told = [(own.double() - one.grad).abs().max() / one.grad.abs().max() for own, one in zip(mine, exact, strict=True)]
    return float(max(told))


def main() -> None:
    parser = arguments(__doc__, repeats=9)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="which sizes / 哪些大小")
    read = parser.parse_args()
    ratios, raw, rows = {}, {}, []
    for shape in read.shapes:
        tensors = inputs(shape)
        times = interleave({who: functools.partial(step, loss, *tensors) for who, loss in LOSSES.items()}, read.repeats)
        # Memory hardly varies, and each process has to import torch.
        bytes_: Raw = interleave({who: functools.partial(apart, who, shape) for who in LOSSES}, 2)
        for kind, found in (("time", times), ("memory", bytes_)):
            raw |= {f"{kind}_{shape}_{who}": values for who, values in found.items()}
            ratios[f"{kind}_{shape}_vs_full_logits"] = ratio(found, "danlu", "torch")
        for who in LOSSES:
            rows.append((shape, SHAPES[shape][0], who, 1000 * min(times[who]), max(bytes_[who]) / 1e6))
    show(("shape", "vocabulary", "who", "ms", "peak MB"), rows)
    found = difference()
    print(f"\nlargest relative difference of a gradient from float64: {found:.2e}\n")
    write(read.json, WORK, ratios, raw, difference=found)


if __name__ == "__main__":
    main()
