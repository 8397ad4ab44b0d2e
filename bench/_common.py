"""What every measurement shares: the arguments, the interleaved runs, the ratios, the file that is written."""

import argparse
import gc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from danlu.core import device
from danlu.core.files import write_json

__all__ = ["Raw", "arguments", "interleave", "machine", "ratio", "show", "write"]

Raw = dict[str, list[float]]  # name of what was run -> what each round took: seconds or bytes, less is better
_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_used = {"clock": "wall"}


def arguments(docstring: str | None, repeats: int) -> argparse.ArgumentParser:
    """The arguments of every script; `read = arguments(__doc__, 7).parse_args()`, and more may be added before."""
    parser = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="write the measurement to this file / 把结果写入该文件"
    )
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds (default: %(default)s) / 轮数")
    parser.add_argument("--threads", type=_use_threads, help="threads of torch (default: its own) / torch 的线程数")
    parser.add_argument(
        "--clock",
        type=_use_clock,
        help="wall (default), or cpu: processor time, which a busy machine does not disturb; then use one thread"
        " / 计时方式：wall（默认）或 cpu（处理器时间，不受其他进程干扰，须配合单线程）",
    )
    return parser


def _use_clock(name: str) -> str:
    if name not in _CLOCKS:
        raise argparse.ArgumentTypeError(f"one of {', '.join(_CLOCKS)}")
    _used["clock"] = name
    return name


def _use_threads(text: str) -> int:
    """Set at once, before anything is measured; for the compiled tokenizers too."""
    torch.set_num_threads(int(text))
    os.environ["RAYON_NUM_THREADS"] = text
    return int(text)


def machine() -> dict[str, Any]:
    """What was measured on: `danlu.core.device.machine` the threads that torch uses, the clock."""
    return {**device.machine(), "threads": torch.get_num_threads(), **_used}


def interleave(runs: dict[str, Callable[[], float | None]], repeats: int) -> Raw:
    """Run all of `runs` once in each of `repeats` rounds, after one round that does not count.

    What else the machine does at a time then falls on all of them, and each round gives a ratio of its own. The
    order turns from round to round, so that nobody always runs in the warm cache of the same other. A run that
    returns a number has measured itself (bytes, or seconds of a part); the others are timed.
    """
    clock = _CLOCKS[_used["clock"]]
    raw: Raw = {name: [] for name in runs}
    for number in range(repeats + 1):
        names = list(runs)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            start = clock()
            own = runs[name]()
            took = clock() - start if own is None else float(own)
            if number:
                raw[name].append(took)
    return raw


def ratio(raw: Raw, ours: str, theirs: str) -> dict[str, float | int]:
    """How many times less `ours` took than `theirs`, round by round: above 1, ours is better."""
    rounds = [other / own for own, other in zip(raw[ours], raw[theirs], strict=True)]
    return {"median": median(rounds), "min": min(rounds), "max": max(rounds), "runs": len(rounds)}


def show(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown, as the lessons carry it."""
    texts = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    for line in (list(head), ["---"] * len(head), *texts):
        print("| " + " | ".join(line) + " |")


def write(path: Path | None, work: str, ratios: dict[str, dict[str, float | int]], raw: Raw, **more: Any) -> None:
    """Print the ratios; write all of it to `path`, if there is one. `more` are further results, JSON-ready."""
    show(
        ("ratio", "median", "min", "max", "runs"),
        [(name, one["median"], one["min"], one["max"], one["runs"]) for name, one in ratios.items()],
    )
    if path is not None:
        write_json(path, {"machine": machine(), "work": work, "ratios": ratios, **more, "raw": raw})
