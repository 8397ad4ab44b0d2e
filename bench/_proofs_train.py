"""Proofs about training: the objective, optimisers, schedules, precision, checkpoints, int8."""

import copy
import math
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _small import BYTES, Caught, Watch, counting, decoder, distance, gradients, library
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from danlu.compress import int8
from danlu.core.folder import Lineage, ModelFolder
from danlu.data.batches import PackedBatches, valid_batches
from danlu.models import auto
from danlu.models.decoder import Decoder
from danlu.tokenizer import TokenizerConfig, train_tokenizer
from danlu.train.checkpoint import load_checkpoint, save_checkpoint
from danlu.train.config import TrainConfig
from danlu.train.hooks import mean_loss
from danlu.train.loop import Hook, Loop, fit
from danlu.train.objective import cross_entropy
from danlu.train.optim import build_optimizers

__all__ = ["PROOFS"]

VOCABULARY, LENGTH, ROWS = 30, 32, 8


def settings(**wish: object) -> TrainConfig:
    """The loop's settings, exact and short where nothing else is wished."""
    still = {"precision": "fp32", "device": "cpu", "seq_len": LENGTH, "batch_size": ROWS, "warmup": 2, "lr": 1e-2}
    return TrainConfig.parse({**still, **wish}, "proofs")


def batches(seed: int = 0) -> PackedBatches:
    return PackedBatches(counting(200, VOCABULARY, seed, longest=LENGTH), LENGTH, ROWS, seed=seed)


def small(seed: int = 0) -> Decoder:
    return decoder(VOCABULARY, seed, hidden_size=32)


def demand(holds: bool, what: str) -> None:
    """End with a message when a side condition of a proof does not hold."""
    if not holds:
        raise SystemExit(f"not so: {what}")


def autoregressive() -> dict[str, float]:
    """The loss of packed rows against the one that transformers computes, document by document."""
    from transformers import LlamaForCausalLM

    model, documents = small(), counting(40, VOCABULARY, longest=LENGTH)
    packed = valid_batches(documents, LENGTH, ROWS)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        losses = [cross_entropy(model, batch) for batch in packed]
        auto.save(model, Path(folder) / "model", lineage=Lineage(verb="proof"))
        theirs = LlamaForCausalLM.from_pretrained(Path(folder) / "model")
        total = sum(
            theirs(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            for ids in (torch.tensor([list(document.ids)]) for document in documents)
        )
    count = sum(len(document.ids) - 1 for document in documents)
    demand(sum(int(loss.count) for loss in losses) == count, "every token but the first of a document is predicted")
    return {"difference": abs(sum(loss.total.item() for loss in losses) - total) / total}


def adamw() -> dict[str, float]:
    """20 steps of AdamW against Loshchilov & Hutter's algorithm 2 in NumPy; vectors do not decay."""
    model, rate, decay, (b1, b2) = small(), 1e-2, 0.1, (0.9, 0.95)
    wish = {"optimizer": "adamw", "lr": rate, "weight_decay": decay, "betas": (b1, b2)}
    (optimizer,) = build_optimizers(model, settings(**wish))
    weights = {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}
    start = {name: one.copy() for name, one in weights.items()}
    first, second = ({name: np.zeros_like(one) for name, one in weights.items()} for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 21):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            gradient = parameter.grad.double().numpy()
            first[name] = b1 * first[name] + (1 - b1) * gradient
            second[name] = b2 * second[name] + (1 - b2) * gradient**2
            moved = first[name] / (1 - b1**step) / (np.sqrt(second[name] / (1 - b2**step)) + 1e-8)
            weights[name] = weights[name] * (1 - rate * decay * (parameter.ndim >= 2)) - rate * moved
        optimizer.step()
    gap = sum(float(((p.detach().double().numpy() - weights[name]) ** 2).sum()) for name, p in model.named_parameters())
    way = sum(float(((one - start[name]) ** 2).sum()) for name, one in weights.items())
    return {"difference": math.sqrt(gap / way)}


def used_rates(steps: int, **wish: object) -> list[float]:
    """The factors of the peak rate that a run of the loop really used."""
    watch = Watch()
    fit(small(), batches(), cross_entropy, settings(steps=steps, optimizer="adamw", **wish), hooks=[watch])
    return watch.rates


def torch_rates(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> list[float]:
    """What a scheduler of torch says after 0, 1, ..., `steps` calls."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = make(optimizer), [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


def furthest(told: list[float], wanted: list[float]) -> dict[str, float]:
    return {"difference": max(abs(a - b) for a, b in zip(told, wanted, strict=True))}


def warm_up() -> dict[str, float]:
    """Eight steps of warm-up against torch's LinearLR."""
    wanted = torch_rates(lambda optimizer: LinearLR(optimizer, 1 / 8, 1.0, total_iters=7), 7)
    return furthest(used_rates(10, schedule="constant", warmup=8), [*wanted, 1.0, 1.0])


def cosine() -> dict[str, float]:
    """Warm-up of 4, then a cosine over 20 steps down to a tenth, against torch's CosineAnnealingLR."""
    wanted = torch_rates(lambda optimizer: CosineAnnealingLR(optimizer, T_max=20, eta_min=0.1), 20)
    return furthest(used_rates(24, schedule="cosine", warmup=4, floor=0.1), [0.25, 0.5, 0.75, *wanted])


def wsd() -> dict[str, float]:
    """Flat for 15 steps, then a fall over 5, against torch's ConstantLR followed by LinearLR."""

    def make(optimizer: torch.optim.Optimizer) -> LRScheduler:
        parts = [ConstantLR(optimizer, factor=1.0), LinearLR(optimizer, 1.0, 0.1, total_iters=5)]
        return SequentialLR(optimizer, parts, milestones=[15])

    told = used_rates(20, schedule="wsd", warmup=0, floor=0.1, decay=0.25)
    return furthest(told, torch_rates(make, 20)[1:])


def clipping() -> dict[str, float]:
    """The gradient that the optimiser sees: torch's own one in float64, scaled down to norm 0.05."""
    batch, caught = next(iter(batches())), Caught()
    fit(small(), [batch], cross_entropy, settings(steps=1, optimizer="adamw", clip=0.05), hooks=[caught])
    exact = small().double()
    logits, labels = exact(batch)[:, :-1], batch["labels"][:, 1:]
    F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100).backward()
    wanted = gradients(exact)
    norm = math.sqrt(sum(one.pow(2).sum().item() for one in wanted.values()))
    demand(norm > 0.05, "the gradient is long enough to be clipped")
    return {"difference": distance(caught.gradients, {name: one * 0.05 / norm for name, one in wanted.items()})}


class Types(Hook):
    """Catches the dtypes of products, weights and gradients, and what a step does whose gradient overflows."""

    def __init__(self, overflow_at: int | None = None) -> None:
        self.overflow_at, self.products, self.kept = overflow_at, set(), set()
        self.skipped = False

    def on_start(self, loop: Loop) -> None:
        self.loop = loop
        product = loop.model.model.layers[0].mlp.up_proj
        self.watched = product.register_forward_hook(lambda *call: self.products.add(call[-1].dtype))
        loop.model.model.norm.weight.register_hook(self.overflow)
        loop.optimizers[0].register_step_pre_hook(self.note)
        self.before, self.scale = copy.deepcopy(loop.model.state_dict()), loop.scaler.get_scale()

    def on_end(self, loop: Loop) -> None:
        self.watched.remove()

    def overflow(self, gradient: Tensor) -> Tensor:
        return gradient * math.inf if self.loop.state.step == self.overflow_at else gradient

    def note(self, *_: object) -> None:
        self.kept |= {kept.dtype for p in self.loop.parameters() for kept in (p, p.grad)}

    def on_step(self, loop: Loop, metrics: object) -> None:
        state, scale = loop.model.state_dict(), loop.scaler.get_scale()
        if loop.state.step - 1 == self.overflow_at:
            same = all(torch.equal(state[name], one) for name, one in self.before.items())
            self.skipped = same and scale == self.scale / 2
        self.before, self.scale = copy.deepcopy(state), scale


def mixed(precision: str, dtype: torch.dtype, overflow_at: int | None = None) -> dict[str, float]:
    """150 steps in low precision beside the same in float32: how far apart the held-out losses end."""
    held, losses = valid_batches(counting(60, VOCABULARY, 7, longest=LENGTH), LENGTH, ROWS), {}
    types = Types(overflow_at)
    for name, hooks in (("fp32", []), (precision, [types])):
        model = small()
        fit(model, batches(), cross_entropy, settings(steps=150, precision=name), hooks=hooks)
        losses[name] = mean_loss(model, held, cross_entropy, torch.device("cpu"), "fp32")
    demand(types.products == {dtype}, f"products run in {dtype}")
    demand(types.kept == {torch.float32}, "weights and gradients are kept in float32")
    demand(overflow_at is None or types.skipped, "a step that overflows changes no weight and halves the scale")
    return {"difference": abs(losses[precision] - losses["fp32"]), "fp32": losses["fp32"], precision: losses[precision]}


def resume() -> dict[str, float]:
    """Stopped after 5 of 12 steps, written to disk, read into another model: tensors that differ at the end."""

    class Stop(Hook):
        def on_step(self, loop: Loop, metrics: object) -> None:
            if loop.state.step == 5:
                save_checkpoint(path, loop.snapshot())
                loop.stop = "enough"

    config = settings(steps=12, precision="bf16", accumulate=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step-00000005"
        whole, resumed = small(), small(seed=99)
        fit(whole, batches(3), cross_entropy, config)
        fit(small(), batches(3), cross_entropy, config, hooks=[Stop()])
        fit(resumed, batches(3), cross_entropy, config, state=load_checkpoint(path))
    after = resumed.state_dict()
    return {"different_tensors": sum(not torch.equal(one, after[name]) for name, one in whole.state_dict().items())}


def iterators() -> dict[str, float]:
    """Batches that differ when the stream goes on from a saved state, at each batch of three epochs."""

    def stream() -> PackedBatches:
        return PackedBatches(counting(60, VOCABULARY, 1, longest=LENGTH), LENGTH, ROWS, seed=5, epochs=3)

    wanted, different = list(stream()), 0
    for number in range(len(wanted)):
        before = stream()
        list(islice(before, number))
        after = stream()
        after.load_state_dict(before.state_dict())
        rest = list(after)
        different += len(rest) != len(wanted) - number
        different += sum(not equal(a, b) for a, b in zip(rest, wanted[number:], strict=False))
    return {"different_batches": different, "batches": len(wanted)}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def int8_weights() -> dict[str, float]:
    """A decoder trained on the standard library's bytes, then `danlu int8`: nats lost, and its size."""
    model = decoder(BYTES, hidden_size=96, num_hidden_layers=3)
    stream = PackedBatches(library(2000), 128, 16)
    fit(model, stream, cross_entropy, settings(steps=120, seq_len=128, batch_size=16, warmup=10))
    held = valid_batches(library(100, seed=1), 128, 16)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "float", Path(folder) / "run"
        tokenizer = train_tokenizer(["int8"], TokenizerConfig(kind="char"))
        auto.save(model, paths[0], lineage=Lineage(verb="proof"), save_tokenizer=tokenizer.save)
        made = int8.run(int8.Config(base=paths[0], out=paths[1]))
        sizes = [ModelFolder.open(path).weight_bytes for path in (paths[0], made)]
        models = [auto.load(path, dtype=torch.float32) for path in (paths[0], made)]
    losses = [mean_loss(one, held, cross_entropy, torch.device("cpu"), "fp32") for one in models]
    demand(sizes[1] <= 0.35 * sizes[0], "the weights take at most 0.35 of float32")
    return {"loss_increase": losses[1] - losses[0], "size_ratio": sizes[1] / sizes[0], "float_loss": losses[0]}


PROOFS = {
    "autoregressive-modelling": autoregressive,
    "adamw": adamw,
    "warm-up": warm_up,
    "cosine-schedule": cosine,
    "wsd-schedule": wsd,
    "gradient-clipping": clipping,
    "mixed-precision-bf16": lambda: mixed("bf16", torch.bfloat16),
    "mixed-precision-fp16": lambda: mixed("fp16", torch.float16, overflow_at=20),
    "checkpoint-resume": resume,
    "resumable-iterators": iterators,
    "int8-weight-only": int8_weights,
}
