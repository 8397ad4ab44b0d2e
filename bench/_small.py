"""Small models and texts that need no download, for the measurements and the proofs."""

import random
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from danlu.data.pack import Document
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.train.loop import Hook, Loop

__all__ = ["BYTES", "Caught", "Watch", "counting", "decoder", "distance", "gradients", "library"]

BYTES = 256  # the vocabulary of `library`


def decoder(vocab_size: int, seed: int = 0, **shape: int | float | bool) -> Decoder:
    """A random decoder with grouped queries; `shape` are fields of DecoderConfig."""
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Decoder(DecoderConfig.parse({"vocab_size": vocab_size, **small, **shape}, "bench"))
    model.initialise(torch.Generator().manual_seed(seed))
    return model


def counting(number: int, vocabulary: int, seed: int = 0, longest: int = 60) -> list[Document]:
    """Documents that count upwards from anywhere, in steps of 1, 2 or 3; most are short, a few are long."""
    draw = random.Random(seed)
    documents = []
    for _ in range(number):
        length = min(longest, 2 + int(draw.lognormvariate(2.2, 0.9)))
        start, step = draw.randrange(vocabulary), draw.randint(1, 3)
        documents.append(Document([(start + step * i) % vocabulary for i in range(length)]))
    return documents


def library(number: int, length: int = 128, seed: int = 0) -> list[Document]:
    """`number` stretches of `length` bytes each, drawn from the Python standard library's own source."""
    draw = random.Random(seed)
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = b"".join(file.read_bytes() for file in files)
    starts = [draw.randrange(len(text) - length) for _ in range(number)]
    return [Document(list(text[at : at + length])) for at in starts]


class Watch(Hook):
    """Keeps the loss and the peak-relative rate of every step."""

    def on_start(self, loop: Loop) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_step(self, loop: Loop, metrics: Mapping[str, float]) -> None:
        self.losses.append(metrics["loss"])
        group = loop.optimizers[0].param_groups[0]
        self.rates.append(group["lr"] / group["initial_lr"])


class Caught(Hook):
    """The gradients that the first optimiser is about to use."""

    def on_start(self, loop: Loop) -> None:
        self.gradients: dict[str, Tensor] = {}

        def catch(*_: object) -> None:
            self.gradients = gradients(loop.model)

        loop.optimizers[0].register_step_pre_hook(catch)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every gradient."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def distance(told: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """|told - wanted| / |wanted| over all tensors together, in float64."""
    gap = sum(float((told[name].double() - one.double()).pow(2).sum()) for name, one in wanted.items())
    size = sum(float(one.double().pow(2).sum()) for one in wanted.values())
    return (gap / size) ** 0.5
