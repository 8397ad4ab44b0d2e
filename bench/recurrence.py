"""A recurrent network and one layer of attention are asked which token stood k places back; and how long each takes.

循环网络与单层注意力的对比：往回数第 k 个词元是什么；以及各需要多少时间。

Each model learns one distance k from rows of random tokens. Before any training the gradient is measured that the last
output sends to each earlier token. The time is that of one training step on rows of growing length.
"""

from collections.abc import Callable
from statistics import mean

import torch
import torch.nn.functional as F
from _common import Raw, arguments, interleave, ratio, show, write
from torch import Tensor, nn

from danlu.models.blocks import Attention, View
from danlu.models.rotary import Rotary

WORK = "a training step of one layer on 8 rows of 512 vectors / 单层网络在 8 行、每行 512 个向量上的一个训练步"
VOCABULARY, SIZE, LENGTH, ROWS = 16, 64, 64, 32
KINDS = ("rnn", "lstm", "attention")
OPEN = "lstm, gates open"  # its forget gates begin at sigmoid(4) = 0.98 instead of 0.5 (Jozefowicz et al. 2015)
DISTANCES = (1, 4, 16, 48)
LENGTHS = (64, 128, 256, 512)


class OneLayer(nn.Module):
    """Embedding, one layer that mixes over time, output."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed = nn.Embedding(VOCABULARY, SIZE)
        layers = {"rnn": nn.RNN, "lstm": nn.LSTM, OPEN: nn.LSTM}
        self.mix = layers[kind](SIZE, SIZE, batch_first=True) if kind in layers else Attention(SIZE, 1, 1, SIZE)
        if kind == OPEN:
            nn.init.constant_(self.mix.bias_ih_l0[SIZE : 2 * SIZE], 4.0)  # input, forget, cell, output
        self.out = nn.Linear(SIZE, VOCABULARY)
        self.rotary = Rotary(SIZE, 10000.0, LENGTH)

    def mixed(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        if self.kind == "attention":
            return self.mix(x, View(self.rotary(torch.arange(x.shape[1])[None]), None), None, 0)
        return self.mix(x)[0]

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.mixed(self.embed(ids)))


def learned(kind: str, back: int, steps: int) -> float:
    """The share of tokens named rightly, `back` places behind, in fresh rows."""
    torch.manual_seed(0)
    model, draw = OneLayer(kind), torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        ids = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=draw)
        loss = F.cross_entropy(model(ids)[:, back:].flatten(0, 1), ids[:, :-back].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        ids = torch.randint(VOCABULARY, (256, LENGTH), generator=draw)
        return float((model(ids)[:, back:].argmax(-1) == ids[:, :-back]).float().mean())


def reach(kind: str) -> list[float]:
    """The gradient of the last output by the token k places back, for each of DISTANCES, as a share of all of it."""
    torch.manual_seed(0)
    x = torch.randn(16, LENGTH, SIZE, requires_grad=True)
    OneLayer(kind).mixed(x)[:, -1].sum().backward()
    assert x.grad is not None
    sizes = x.grad.norm(dim=-1).mean(0)
    return [float(sizes[-1 - back] / sizes.sum()) for back in DISTANCES]


def step(kind: str, length: int) -> Callable[[], None]:
    model, x = OneLayer(kind), torch.randn(8, length, SIZE, requires_grad=True)
    return lambda: model.mixed(x).sum().backward()


def main() -> None:
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--steps", type=int, default=400, help="training steps of each model / 每个模型的训练步数")
    read = parser.parse_args()
    found = {kind: [learned(kind, back, read.steps) for back in DISTANCES] for kind in (*KINDS, OPEN)}
    head = ("k places back", *(str(back) for back in DISTANCES))
    show(head, [(kind, *(f"{share:.1%}" for share in shares)) for kind, shares in found.items()])
    print()
    gradient = {kind: reach(kind) for kind in (*KINDS, OPEN)}
    show(("gradient from k places back", *head[1:]), [(kind, *(f"{s:.1e}" for s in g)) for kind, g in gradient.items()])
    print()
    raw: Raw = interleave(
        {f"{kind}@{length}": step(kind, length) for kind in KINDS for length in LENGTHS}, read.repeats
    )
    rows = [(kind, *(1000 * mean(raw[f"{kind}@{length}"]) for length in LENGTHS)) for kind in KINDS]
    show(("ms a step, by length", *(str(length) for length in LENGTHS)), rows)
    print()
    ratios = {
        f"attention_vs_{kind}_{n}": ratio(raw, f"attention@{n}", f"{kind}@{n}") for kind in KINDS[:2] for n in LENGTHS
    }
    recalled = {kind: dict(zip(map(str, DISTANCES), shares, strict=True)) for kind, shares in found.items()}
    write(read.json, WORK, ratios, raw, recalled=recalled, gradient=gradient)


if __name__ == "__main__":
    main()
