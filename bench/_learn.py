"""Small decoders that learn the Python standard library's source, byte by byte, and are asked about other files of it."""

import torch
from _small import Watch
from positions import rows, source
from torch import Tensor

from danlu.data.batches import PackedBatches
from danlu.data.pack import Document
from danlu.models.base import LanguageModel
from danlu.ops.loss import linear_cross_entropy
from danlu.train.config import TrainConfig
from danlu.train.loop import fit
from danlu.train.objective import Objective, cross_entropy

__all__ = ["LENGTH", "ROWS", "held_out", "learn", "loss"]

LENGTH, ROWS = 64, 16


def learn(
    model: LanguageModel, steps: int, seed: int = 0, objective: Objective = cross_entropy, **wish: object
) -> list[float]:
    """Train on rows of LENGTH bytes, the same for every model; return the loss of each step. `wish`: of TrainConfig."""
    documents = [Document(row) for row in rows(source()[0], steps * ROWS, LENGTH, seed).tolist()]
    still = {"batch_size": ROWS, "seq_len": LENGTH, "precision": "fp32", "device": "cpu"}
    settings = TrainConfig.parse({**still, "steps": steps, **wish}, "bench")
    watch = Watch()
    fit(model, PackedBatches(documents, LENGTH, ROWS, seed=seed), objective, settings, hooks=[watch])
    model.eval()
    return watch.losses


def held_out(number: int = 256) -> Tensor:
    """Rows of files that nobody learned from: int64 [number, LENGTH]."""
    return rows(source()[1], number, LENGTH, seed=1000)


@torch.no_grad()
def loss(model: LanguageModel, ids: Tensor) -> float:
    """Nats a byte, over all bytes but each row's first."""
    hidden = model.hidden({"input_ids": ids})[:, :-1].flatten(0, 1)
    total = linear_cross_entropy(model.transform(hidden), model.output_weight, ids[:, 1:].flatten(), model.output_bias)
    return float(total) / ids[:, 1:].numel()
