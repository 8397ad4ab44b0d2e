"""Hooks that every stage uses: interruption, metrics, validation, progress, pre-flight."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from danlu.core.files import human_size
from danlu.core.i18n import tr
from danlu.core.run import Run
from danlu.models.base import Batch
from danlu.train.loop import Hook, Loop, autocast
from danlu.train.objective import Objective

__all__ = ["Every", "Interruption", "Log", "Preflight", "ProgressBar", "Validation", "mean_loss"]

_CALIBRATION_SECONDS = 10.0
_CHECKPOINT_COPIES = 3  # the snapshot, its serialised form, and the writer's buffer
console = Console(stderr=True)


class Interruption(Hook):
    """Ctrl-C or SIGTERM ends the loop after the current step, so that a checkpoint can be written.

    A second Ctrl-C does not wait.
    """

    def on_start(self, loop: Loop) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            loop.stop = "interrupted"

        for number in (signal.SIGINT, signal.SIGTERM):
            self._old[number] = signal.signal(number, stop)

    def on_exit(self, loop: Loop) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


class Log(Hook):
    """Write the loop's metrics to the run."""

    def __init__(self, run: Run, every: int) -> None:
        self.run, self.every = run, every

    def on_step(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        state = loop.state
        if state.step % self.every == 0 or state.step in (1, loop.steps):
            speed = state.tokens / max(state.seconds, 1e-9)
            self.run.log(state.step, {**metrics, "tokens": state.tokens, "tokens_per_second": round(speed, 1)})


@torch.no_grad()
def mean_loss(
    model: torch.nn.Module, batches: Iterable[Batch], objective: Objective, device: torch.device, precision: str
) -> float:
    """Mean over all counted tokens of `batches`; leaves the model's mode and gradients as they were."""
    training = model.training
    model.eval()
    total, count = 0.0, 0
    for batch in batches:
        with autocast(device, precision):
            loss = objective(model, {name: tensor.to(device) for name, tensor in batch.items()})
        total += float(loss.total)
        count += int(loss.count)
    model.train(training)
    return total / max(1, count)


class Validation(Hook):
    """Mean loss over held-out batches; stop early when it has not fallen `patience` times running."""

    def __init__(
        self, run: Run, batches: Callable[[], Iterable[Batch]], objective: Objective, every: int, patience: int | None
    ) -> None:
        self.run, self.batches, self.objective = run, batches, objective
        self.every, self.patience = every, patience

    def on_start(self, loop: Loop) -> None:
        self._stop_when_patience_ends(loop)  # killed after it had ended, before the model was saved

    def on_step(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        if loop.state.step % self.every and loop.state.step != loop.steps:
            return
        values = loop.state.values
        loss = mean_loss(loop.model, self.batches(), self.objective, loop.device, loop.precision)
        better = loss < values.get("best_val_loss", float("inf"))
        values["val_loss"] = loss
        values["best_val_loss"] = min(loss, values.get("best_val_loss", loss))
        values["validations_since_best"] = 0 if better else values.get("validations_since_best", 0) + 1
        self.run.log(loop.state.step, {"val_loss": loss})
        self._stop_when_patience_ends(loop)

    def _stop_when_patience_ends(self, loop: Loop) -> None:
        if self.patience and loop.state.values.get("validations_since_best", 0) >= self.patience:
            loop.stop = tr(
                f"no better validation loss for {self.patience} validations", f"验证损失连续 {self.patience} 次没有下降"
            )
            console.print(
                tr(f"stopping at step {loop.state.step}: {loop.stop}", f"在第 {loop.state.step} 步停止:{loop.stop}")
            )


class Every(Hook):
    """Call `action(loop)` every so many steps and at the last: samples to look at, for instance."""

    def __init__(self, every: int, action: Callable[[Loop], None]) -> None:
        self.every, self.action = every, action

    def on_step(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        if loop.state.step % self.every == 0 or loop.state.step == loop.steps:
            self.action(loop)


class ProgressBar(Hook):
    """Steps, loss, tokens a second, time left; on a terminal a bar, elsewhere a line now and then."""

    def __init__(self, title: str) -> None:
        self.title = title

    def on_start(self, loop: Loop) -> None:
        self._last = time.monotonic()
        self._tokens, self._seconds = loop.state.tokens, loop.state.seconds
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TextColumn(tr("left", "剩余")),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(self.title, total=loop.steps, completed=loop.state.step, told="")
        self._bar.start()

    def on_step(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        state = loop.state
        speed = (state.tokens - self._tokens) / max(state.seconds - self._seconds, 1e-9)
        told = f"loss {metrics['loss']:.3f}  {speed:,.0f} tok/s"
        if "val_loss" in state.values:
            told += f"  val {state.values['val_loss']:.3f}"
        self._bar.update(self._task, completed=state.step, told=told)
        if not console.is_terminal and time.monotonic() - self._last > 15:
            self._last = time.monotonic()
            left = (loop.steps - state.step) * state.seconds / state.step
            console.print(
                f"{self.title} {state.step}/{loop.steps}  {told}  " + tr(f"{left:.0f} s left", f"剩余 {left:.0f} 秒")
            )

    def on_exit(self, loop: Loop) -> None:
        self._bar.stop()


class Preflight(Hook):
    """Say early what the run will take, and afterwards how wrong that was.

    The first ten seconds of the run itself are the measurement, so calibrating costs nothing. Memory is what they
    took, and room for the copies of the state that saving a checkpoint makes.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.predicted: dict[str, float] = {}

    def on_start(self, loop: Loop) -> None:
        self._first_step = loop.state.step
        self._began = time.monotonic()
        told = f"{loop.device}, {loop.precision}"
        console.print(tr(f"pre-flight: {loop.steps} steps on {told}; measuring", f"预检:{loop.steps} 步,{told};测量中"))

    def on_step(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        now = time.monotonic()
        done = loop.state.step - self._first_step
        if done == 1:  # the first step also pays for allocations and kernels
            self._warm = (now, loop.state.step)
        if not self.predicted and done > 3 and now - self._began >= _CALIBRATION_SECONDS:
            began, step = self._warm
            left = (now - began) / (loop.state.step - step) * (loop.steps - loop.state.step)
            self.predicted["seconds"] = now - self._began + left
            self.predicted["memory_bytes"] = peak_memory(loop.device) + _CHECKPOINT_COPIES * state_bytes(loop)
            minutes, memory = self.predicted["seconds"] / 60, human_size(self.predicted["memory_bytes"])
            console.print(
                tr(
                    f"pre-flight: about {minutes:.1f} minutes and {memory} of memory",
                    f"预检:预计需要 {minutes:.1f} 分钟、{memory} 内存",
                )
            )

    def on_end(self, loop: Loop) -> None:
        actual = {"seconds": time.monotonic() - self._began, "memory_bytes": peak_memory(loop.device)}
        told = {}
        for name, predicted in self.predicted.items():
            if loop.stop and name == "seconds":
                continue  # ended early: nothing to compare with
            told[name] = {
                "predicted": round(predicted, 3),
                "actual": round(actual[name], 3),
                "error": round(predicted / actual[name] - 1, 3),
            }
        self.run.measured["preflight"] = told
        for name, pair in told.items():
            shown = human_size if name == "memory_bytes" else lambda value: f"{value:.0f} s"
            console.print(
                tr(
                    f"pre-flight: {name.removesuffix('_bytes')} predicted {shown(pair['predicted'])}, was {shown(pair['actual'])} ({pair['error']:+.0%})",
                    f"预检:{name.removesuffix('_bytes')} 预测 {shown(pair['predicted'])},实际 {shown(pair['actual'])}({pair['error']:+.0%})",
                )
            )


def peak_memory(device: torch.device) -> float:
    """Bytes: the device's peak on CUDA, else the process's peak resident set."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def state_bytes(loop: Loop) -> int:
    """Weights and optimiser state."""
    tensors = [
        *loop.model.parameters(),
        *(t for o in loop.optimizers for slots in o.state.values() for t in slots.values()),
    ]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
