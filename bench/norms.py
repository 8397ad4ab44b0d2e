"""Layers with and without normalisation and residuals: how the gradient falls with depth, and what is learned.

有无归一化、有无残差的对比：梯度随深度如何变化，训练能学到什么。

The same decoder of eight layers, the same bytes (the Python standard library's source). Pre-norm normalises what a
block reads, post-norm what the sum of a block and its input has become. The weights begin as N(0, 1/width), so that a
block's output is about as large as its input. Then LayerNorm and RMSNorm are timed and compared with their formulas.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from _common import arguments, interleave, ratio, show, write
from _learn import held_out, learn, loss
from _small import BYTES
from torch import Tensor, nn

from danlu.models.base import Cache
from danlu.models.blocks import Attention, GatedMLP, RMSNorm, View
from danlu.models.decoder import Decoder, DecoderConfig

WORK = "normalising 16 · 128 vectors of width 512, forward and backward / 归一化 16 · 128 个宽 512 的向量，前向加反向"
LAYERS, SIZE, HEADS = 8, 64, 4
KINDS = ("pre-norm, RMSNorm", "pre-norm, LayerNorm", "post-norm, LayerNorm", "no norm", "no residual", "neither")
WARMUPS = {"no warm-up": 0, "50 steps of warm-up": 50}


class Block(nn.Module):
    """danlu's attention and MLP, put together in one of the ways of KINDS."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.self_attn = Attention(SIZE, HEADS, HEADS, SIZE // HEADS)
        self.mlp = GatedMLP(SIZE, 2 * SIZE)
        norms = {"LayerNorm": nn.LayerNorm, "no norm": None, "neither": None}.get(kind.rpartition(", ")[2], RMSNorm)
        self.norms = nn.ModuleList(norms(SIZE, 1e-5) if norms else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor, view: View, cache: Cache | None, layer: int) -> Tensor:
        parts = (lambda y: self.self_attn(y, view, cache, layer), self.mlp)
        for norm, part in zip(self.norms, parts, strict=True):
            if self.kind.startswith("post"):
                x = norm(x + part(x))
            elif self.kind in ("no residual", "neither"):
                x = part(norm(x))
            else:
                x = x + part(norm(x))
        return x


def model(kind: str, seed: int = 0) -> Decoder:
    """A decoder whose layers are of the kind; what all kinds have is drawn alike."""
    shape = {"vocab_size": BYTES, "hidden_size": SIZE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    made = Decoder(DecoderConfig.parse(shape, "bench"))
    made.model.layers = nn.ModuleList(Block(kind) for _ in range(LAYERS))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in made.named_parameters():
        if parameter.ndim > 1:
            std = 0.02 if "embed" in name else parameter.shape[1] ** -0.5
            nn.init.normal_(parameter, std=std, generator=generator)
    if kind.startswith("post"):
        made.model.norm = nn.Identity()  # the last sum is normalised already
    return made


def depths(kind: str, ids: Tensor) -> tuple[list[float], list[float]]:
    """Before any training: the size of what leaves each layer, and of the gradient that reaches it."""
    made, kept = model(kind), []

    def keep(_layer: nn.Module, _inputs: object, out: Tensor) -> None:
        out.retain_grad()
        kept.append(out)

    for layer in made.model.layers:
        layer.register_forward_hook(keep)
    logits = made({"input_ids": ids})[:, :-1]
    F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    return [float(x.detach().square().mean().sqrt()) for x in kept], [float(x.grad.norm()) for x in kept]


def differences() -> dict[str, float]:
    """Distance of the two norms from their formulas in float64; and of RMSNorm from LayerNorm where the mean is 0."""
    x = 3 * torch.randn(100, SIZE, generator=torch.Generator().manual_seed(0)) + 1
    rms, layer = RMSNorm(SIZE, 1e-5), nn.LayerNorm(SIZE, 1e-5)
    y = x.double()
    centred = y - y.mean(-1, keepdim=True)
    exact = {"rms_norm": y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt()}
    exact["layer_norm"] = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    found = {"rms_norm": rms(x) - exact["rms_norm"], "layer_norm": layer(x) - exact["layer_norm"]}
    found["both_at_mean_0"] = rms(centred.float()) - layer(x)
    return {name: float(gap.detach().abs().max()) for name, gap in found.items()}


def seconds(repeats: int) -> Mapping[str, list[float]]:
    """Ten passes forward and backward of each norm."""
    x = torch.randn(16, 128, 512, requires_grad=True)
    norms = {"RMSNorm": RMSNorm(512, 1e-5), "LayerNorm": nn.LayerNorm(512, 1e-5)}
    return interleave(
        {n: lambda f=f: [f(x).sum().backward() for _ in range(10)] and None for n, f in norms.items()}, repeats
    )


def main() -> None:
    parser = arguments(__doc__, repeats=9)
    parser.add_argument("--steps", type=int, default=100, help="training steps of each model / 每个模型的训练步数")
    read = parser.parse_args()
    asked = held_out()
    gradient, size, learned = {}, {}, {}
    for kind in KINDS:
        size[kind], gradient[kind] = depths(kind, asked[:16])
    show(
        ("size of what leaves layer", *map(str, range(1, LAYERS + 1))), [(kind, *found) for kind, found in size.items()]
    )
    print()
    show(("gradient at layer", *map(str, range(1, LAYERS + 1))), [(kind, *found) for kind, found in gradient.items()])
    print()
    for kind in KINDS:
        learned[kind] = {}
        for name, warmup in WARMUPS.items():
            made = model(kind)
            learn(made, read.steps, warmup=warmup, optimizer="adamw", lr=3e-3)
            learned[kind][name] = loss(made, asked)
    show(("held-out loss", *WARMUPS), [(kind, *found.values()) for kind, found in learned.items()])
    print(f"\na model that knows nothing but how often each byte stands: {frequencies(asked):.4g}")
    differ = differences()
    print("largest difference:", ", ".join(f"{name} {value:.1e}" for name, value in differ.items()), "\n")
    raw = dict(seconds(read.repeats))
    ratios = {"rms_norm_vs_layer_norm": ratio(raw, "RMSNorm", "LayerNorm")}
    fall = {kind: found[0] / found[-1] for kind, found in gradient.items()}
    write(read.json, WORK, ratios, raw, gradient=gradient, size=size, fall=fall, loss=learned, difference=differ)


def frequencies(asked: Tensor) -> float:
    """The entropy of the bytes that are asked about, in nats."""
    shares = asked.flatten().bincount().double()
    shares = shares[shares > 0] / shares.sum()
    return -sum(share * math.log(share) for share in shares.tolist())


if __name__ == "__main__":
    main()
