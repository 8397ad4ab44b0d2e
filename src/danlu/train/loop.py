"""The loop: every stage trains through `fit`, and differs only in what fills its slots."""

import math
import os
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from danlu.core.device import choose_device, choose_precision
from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.models.base import Batch
from danlu.train.config import TrainConfig
from danlu.train.objective import Objective
from danlu.train.optim import build_optimizers
from danlu.train.schedule import rate

__all__ = ["Hook", "Loop", "TrainState", "autocast", "fit", "seed_everything", "steps_of"]


@dataclass
class TrainState:
    """Where a run stands. `tensors` and `data` are filled when it was saved, and are what resuming needs."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)  # what hooks remember, JSON-ready
    data: dict[str, Any] | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Hook:
    """Called by the loop. A hook sees and may stop; it must leave weights and random numbers as they are."""

    def on_start(self, loop: "Loop") -> None: ...

    def on_step(self, loop: "Loop", metrics: Mapping[str, float]) -> None: ...

    def on_end(self, loop: "Loop") -> None: ...

    def on_exit(self, loop: "Loop") -> None:
        """Called last, also after an error: give back what `on_start` took."""


class Loop:
    """What hooks see: the model, the state, the optimisers, the steps to come."""

    def __init__(
        self, model: nn.Module, batches: Iterable[Batch], config: TrainConfig, steps: int, state: TrainState
    ) -> None:
        self.model, self.batches, self.config, self.steps, self.state = model, batches, config, steps, state
        self.device = choose_device(config.device)
        self.precision = choose_precision(config.precision, self.device)
        model.to(self.device)
        self.optimizers = build_optimizers(model, config)
        # float16 overflows early: sums over a batch are first brought to the size of a mean
        tokens = config.batch_size * config.seq_len
        self.scaler = torch.amp.GradScaler(
            self.device.type, init_scale=2.0**16 / tokens, enabled=self.precision == "fp16"
        )
        self.stop = ""  # a hook's reason to end early
        if state.tensors:
            self._restore(state)

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def snapshot(self) -> TrainState:
        """A copy of all that a resumed run needs; training may go on while it is written."""
        state = self.state
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict(keep_vars=False).items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self._optimizer_tensors().items()}
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        tensors["rng.torch"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        values = dict(state.values)
        if self.scaler.is_enabled():
            values["scaler"] = self.scaler.state_dict()
        position = getattr(self.batches, "state_dict", None)
        data = position() if position else None
        return TrainState(state.step, state.tokens, state.seconds, values, data, tensors)

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return {
            f"{names[id(parameter)]}.{key}": value
            for optimizer in self.optimizers
            for parameter, slots in optimizer.state.items()
            for key, value in slots.items()
        }

    def _restore(self, state: TrainState) -> None:
        tensors = state.tensors
        model = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        self.model.load_state_dict(model)
        names = dict(self.model.named_parameters())
        owner = {id(p): o for o in self.optimizers for group in o.param_groups for p in group["params"]}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                parameter_name, _, key = name.removeprefix("optimizer.").rpartition(".")
                parameter = names[parameter_name]
                place = tensor if key == "step" else tensor.to(parameter.device)
                owner[id(parameter)].state[parameter][key] = place
        torch.set_rng_state(tensors["rng.torch"])
        if "rng.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        if "scaler" in state.values:
            self.scaler.load_state_dict(state.values["scaler"])
        if state.data is not None:
            self.batches.load_state_dict(state.data)  # type: ignore[attr-defined]
        state.tensors = {}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Products in `precision`, sums and weights in float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def fit(
    model: nn.Module,
    batches: Iterable[Batch],
    objective: Objective,
    config: TrainConfig,
    *,
    hooks: Sequence[Hook] = (),
    state: TrainState | None = None,
) -> TrainState:
    """Train `model` on `batches`; return where it ended. The one training loop of danlu.

    A step back-propagates the SUMS of `accumulate` micro-batches, adds up the counts (over ranks too), scales the
    gradient once by the global count, clips and steps; so accumulation, packing and data parallelism all give the
    same gradient. `state` (a loaded checkpoint) makes it go on exactly where it stood.
    Raises DataError when the batches run out before the first step, ConfigError when the loss is no longer a number.
    """
    steps = steps_of(batches, config)
    loop = Loop(model, batches, config, steps, state or TrainState())
    with ExitStack() as exits:
        for hook in hooks:
            hook.on_start(loop)
            exits.callback(hook.on_exit, loop)
        _run(loop, batches, torch.compile(objective) if config.compile else objective, hooks)
        for hook in hooks:
            hook.on_end(loop)
    return loop.state


def _run(loop: Loop, batches: Iterable[Batch], objective: Objective, hooks: Sequence[Hook]) -> None:
    loop.model.train()
    stream = iter(batches)
    while loop.state.step < loop.steps and not loop.stop:
        started = time.perf_counter()
        micro = _take(stream, loop.config.accumulate)
        if not micro:
            break
        metrics = _step(loop, micro, objective)
        if not math.isfinite(metrics["loss"]):
            raise ConfigError(
                tr(
                    f"the loss is {metrics['loss']} at step {loop.state.step + 1}",
                    f"第 {loop.state.step + 1} 步的损失为 {metrics['loss']}",
                ),
                tr(
                    "lower train.lr and train.matrix_lr, or lengthen train.warmup",
                    "请调小 train.lr 与 train.matrix_lr,或延长 train.warmup",
                ),
            )
        loop.state.step += 1
        loop.state.seconds += time.perf_counter() - started
        for hook in hooks:
            hook.on_step(loop, metrics)
    if loop.state.step == 0:
        raise DataError(
            tr("the data ended before the first step", "数据在第一步之前就用完了"),
            tr("give more text, or lower train.batch_size", "请提供更多文本,或调小 train.batch_size"),
        )


# lesson: step
def _step(loop: Loop, micro: list[Batch], objective: Objective) -> dict[str, float]:
    config, state = loop.config, loop.state
    factor = rate(config.schedule, state.step, loop.steps, warmup=config.warmup, floor=config.floor, decay=config.decay)
    for optimizer in loop.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
    sums: dict[str, Tensor] = {}
    count = torch.zeros((), dtype=torch.int64, device=loop.device)
    for batch in micro:
        with autocast(loop.device, loop.precision):
            loss = objective(loop.model, {name: tensor.to(loop.device) for name, tensor in batch.items()})
        loop.scaler.scale(loss.total).backward()
        count += loss.count
        for name, value in {"loss": loss.total, **loss.metrics}.items():
            sums[name] = sums.get(name, 0) + value.detach().float()
    parameters = loop.parameters()
    if dist.is_initialized():
        _reduce_over_ranks(parameters, (count, *sums.values()))
    gradients = [p.grad for p in parameters if p.grad is not None]
    for optimizer in loop.optimizers:
        loop.scaler.unscale_(optimizer)
    torch._foreach_mul_(gradients, 1.0 / count.clamp_min(1).item())
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip, foreach=True)
    if not loop.scaler.is_enabled() or norm.isfinite():  # one optimiser's overflow has spoilt the norm for all
        for optimizer in loop.optimizers:
            loop.scaler.step(optimizer)
    loop.scaler.update()
    for parameter in parameters:
        parameter.grad = None
    tokens = int(count)
    state.tokens += tokens
    means = {name: float(value) / max(1, tokens) for name, value in sums.items()}
    return {**means, "grad_norm": float(norm), "lr": config.peak_lr * factor, "step_tokens": tokens}


# end lesson


def _reduce_over_ranks(parameters: Sequence[nn.Parameter], sums: Iterable[Tensor]) -> None:
    """Add up gradients and sums of all ranks."""
    for parameter in parameters:  # an expert that nobody visited here may have been visited on another rank
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for tensor in (*sums, *(p.grad for p in parameters if p.grad is not None)):
        dist.all_reduce(tensor)


def _take(stream: Iterator[Batch], number: int) -> list[Batch]:
    return [batch for _, batch in zip(range(number), stream, strict=False)]


def steps_of(batches: Iterable[Batch], config: TrainConfig) -> int:
    """How many steps `config` means for these batches."""
    if config.steps:
        return config.steps
    if not hasattr(batches, "__len__"):
        raise DataError(tr("this data has no length", "这份数据没有长度"), tr("give train.steps", "请给出 train.steps"))
    per_epoch = len(batches) / config.accumulate  # type: ignore[arg-type]
    return max(1, round(per_epoch * config.epochs))


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and ask torch for its deterministic algorithms."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
