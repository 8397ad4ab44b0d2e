"""Learned, sinusoidal and rotary positions: one small model learns to look five tokens back with each.

可学习、正弦、旋转三种位置编码：同一个小模型分别用它们学会“回看第五个词元”。

Trained on positions 0 to 63, then asked at the same ones, at the next 64 and in rows of twice the length; with
rotary positions also in another layout of the pairs, and with positions counted in bfloat16. Also proves `danlu.ops.rope` against
transformers and against complex numbers in float64, and times it beside transformers.
"""

import copy
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from _common import arguments, interleave, ratio, show, write
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from danlu.ops.attention import attention
from danlu.ops.rope import inverse_frequencies, rotary_angles, rotate

WORK = "rotary positions on q and k of the quickstart's step / 快速上手每一步中，对 q 与 k 施加旋转位置编码"
LENGTH, BACK, VOCABULARY, SIZE, HEADS = 64, 5, 32, 64, 2
HEAD_DIM = SIZE // HEADS
CONTEXT = 512  # positions of the comparison with others
FAR = 1024  # a position that the training never came near
Kind = Literal["learned", "sinusoidal", "rotary"]


def sinusoid(positions: Tensor) -> Tensor:
    """Vaswani et al. (2017), §3.5: sines and cosines of falling frequency. [T] -> [T, SIZE]."""
    angles = positions[:, None] * inverse_frequencies(SIZE, 10000.0)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


class OneLayer(nn.Module):
    """Embedding, one attention layer, output; positions enter in one of three ways."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind, self.rotate, self.counts = kind, rotate, torch.int64
        self.embed = nn.Embedding(VOCABULARY, SIZE)
        self.places = nn.Embedding(2 * LENGTH, SIZE)  # learned positions; those from LENGTH on are never trained
        self.norm = nn.RMSNorm(SIZE)
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(SIZE, SIZE, bias=False) for _ in range(4))
        self.out = nn.Linear(SIZE, VOCABULARY)

    def forward(self, ids: Tensor, start: int = 0) -> Tensor:
        """ids [B, T], the first of them at position `start` -> logits [B, T, V]."""
        positions = torch.arange(start, start + ids.shape[1])
        x = self.embed(ids)
        if self.kind == "learned":
            x = x + self.places(positions)
        if self.kind == "sinusoidal":
            x = x + sinusoid(positions)
        x = self.norm(x)
        q, k, v = (part(x).unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2) for part in self.projections)
        if self.kind == "rotary":
            angles = rotary_angles(positions[None].to(self.counts), inverse_frequencies(HEAD_DIM, 10000.0))
            q, k = self.rotate(q, *angles), self.rotate(k, *angles)
        return self.out(self.o_proj(attention(q, k, v, causal=True).transpose(1, 2).flatten(2)))

    @property
    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q_proj, self.k_proj, self.v_proj


def rows(length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random tokens [32, length], and what stood BACK places before each, [32, length - BACK]."""
    ids = torch.randint(VOCABULARY, (32, length), generator=generator)
    return ids, ids[:, :-BACK]


def learn(kind: Kind, steps: int) -> OneLayer:
    """Train from scratch on positions 0 to LENGTH - 1."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = OneLayer(kind)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        ids, wanted = rows(LENGTH, generator)
        loss = F.cross_entropy(model(ids)[:, BACK:].flatten(0, 1), wanted.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


@torch.no_grad()
def by_position(model: OneLayer, length: int, start: int = 0) -> Tensor:
    """The share of tokens found at each position, in 128 fresh rows: [length - BACK]."""
    generator = torch.Generator().manual_seed(2)
    asked = [rows(length, generator) for _ in range(4)]
    return torch.cat([model(ids, start)[:, BACK:].argmax(-1) == wanted for ids, wanted in asked]).float().mean(0)


def accuracy(model: OneLayer, length: int = LENGTH, start: int = 0) -> float:
    """The share of tokens found in all."""
    return float(by_position(model, length, start).mean())


def neighbours(weight: Tensor) -> Tensor:
    """Rows of q_proj or k_proj put in the order 0, d/2, 1, d/2 + 1, ... within each head."""
    return weight.view(HEADS, 2, HEAD_DIM // 2, SIZE).transpose(1, 2).reshape(HEADS * HEAD_DIM, SIZE)


def rotate_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The layout of the paper and of Meta's own files: turn (x[0], x[1]), (x[2], x[3]), ..."""
    half = x.shape[-1] // 2
    even, odd, cos, sin = x[..., ::2], x[..., 1::2], cos[..., :half], sin[..., :half]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def confused(model: OneLayer) -> tuple[float, float]:
    """Accuracy in the other layout: with the weights as they were trained, and with their rows put in its order."""
    other = copy.deepcopy(model)
    other.rotate = rotate_neighbours
    wrong = accuracy(other)
    for projection in (other.q_proj, other.k_proj):
        projection.weight.data = neighbours(projection.weight.data)
    return wrong, accuracy(other)


def differences() -> dict[str, float]:
    """The largest distance, over positions up to CONTEXT, from transformers and from complex numbers in float64."""
    width, theta = 64, 10000.0
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 4, CONTEXT, width, generator=generator) for _ in range(2))
    positions = torch.randint(CONTEXT, (1, CONTEXT), generator=generator)
    mine = rotary_angles(positions, inverse_frequencies(width, theta))
    theirs = LlamaRotaryEmbedding(LlamaConfig(hidden_size=4 * width, num_attention_heads=4, rope_theta=theta))
    turned = apply_rotary_pos_emb(q, k, *theirs(q, positions))
    turns = torch.polar(
        torch.ones((), dtype=torch.float64),
        positions[0, :, None] * theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width),
    )
    exact = torch.view_as_real(torch.complex(*q.double().chunk(2, dim=-1)) * turns)
    exact = torch.cat((exact[..., 0], exact[..., 1]), dim=-1)
    return {
        "transformers": max(float((rotate(x, *mine) - t).abs().max()) for x, t in zip((q, k), turned, strict=True)),
        "complex": float((rotate(q, *mine) - exact).abs().max()),
    }


def main() -> None:
    parser = arguments(__doc__, repeats=15)
    parser.add_argument("--steps", type=int, default=400, help="training steps of each model / 每个模型的训练步数")
    read = parser.parse_args()
    taught: dict[str, dict[str, float]] = {}
    curves: dict[str, list[float]] = {}
    for kind in get_args(Kind):
        model = learn(kind, read.steps)
        curves[kind] = by_position(model, 2 * LENGTH).tolist()
        taught[kind] = {
            "trained": accuracy(model),
            "later": accuracy(model, start=LENGTH),
            "longer": accuracy(model, length=2 * LENGTH),
        }
        if kind == "rotary":
            taught[kind]["other_layout"], taught[kind]["other_layout_reordered"] = confused(model)
            taught[kind]["far"] = accuracy(model, start=FAR)
            model.counts = torch.bfloat16
            taught[kind]["far_in_bf16"] = accuracy(model, start=FAR)
    last = 2 * LENGTH - 1
    head = ("positions", f"0 to {LENGTH - 1}", f"{LENGTH} to {last}", f"0 to {last}")
    show(head, [(kind, *(f"{one[key]:.1%}" for key in ("trained", "later", "longer"))) for kind, one in taught.items()])
    rotary = taught["rotary"]
    print(f"\nrotary, pairs taken as neighbours: {rotary['other_layout']:.1%}", end="; ")
    print(f"with q_proj and k_proj in that order too: {rotary['other_layout_reordered']:.1%}")
    print(f"rotary from position {FAR}: {rotary['far']:.1%}; positions in bfloat16: {rotary['far_in_bf16']:.1%}")
    found = differences()
    print(f"largest difference from transformers {found['transformers']:.2e}, from complex {found['complex']:.2e}\n")

    q, k = (torch.randn(16, 6, 128, 32) for _ in range(2))
    cos, sin = rotary_angles(torch.arange(128).expand(16, 128), inverse_frequencies(32, 10000.0))
    raw = interleave(
        {
            "danlu": lambda: [(rotate(q, cos, sin), rotate(k, cos, sin)) for _ in range(20)] and None,
            "transformers": lambda: [apply_rotary_pos_emb(q, k, cos[:, 0], sin[:, 0]) for _ in range(20)] and None,
        },
        read.repeats,
    )
    ratios = {"rotate_vs_transformers": ratio(raw, "danlu", "transformers")}
    write(read.json, WORK, ratios, raw, accuracy=taught, difference=found, by_position=curves)


if __name__ == "__main__":
    main()
