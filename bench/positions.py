"""Where tokens stand, told in nine ways: trained on short rows, read in rows up to eight times as long.

九种位置编码的比较：用短文本训练，再读长至八倍的文本。

The same small decoder, the same seeds and the same text (the Python standard library's source, byte by byte) for
each kind. What is measured is the loss of the same bytes, the last 64 of each row, read with as much before them as
the row is long: a model that can use more text than it was trained on gets better from left to right.
"""

import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from _common import Raw, arguments, ratio, show, write
from _small import BYTES, Watch
from torch import Tensor, nn

from danlu.data.batches import PackedBatches
from danlu.data.pack import Document
from danlu.models.base import Cache, KVCache, LanguageModel
from danlu.models.blocks import Attention, DecoderLayer, GatedMLP, RMSNorm, View
from danlu.models.rotary import RopeScaling, Rotary
from danlu.ops.attention import additive
from danlu.ops.loss import linear_cross_entropy
from danlu.ops.positions import alibi_bias, alibi_slopes, relative_buckets, sinusoidal
from danlu.train.config import TrainConfig
from danlu.train.loop import fit
from danlu.train.objective import cross_entropy

WORK = "the loss of held-out source code, in nats a byte / 未见过的源代码的损失，单位 nat／字节"
LENGTH, ROWS, TIMES = 64, 16, (1, 2, 4, 8)
SIZE, HEADS, LAYERS, THETA = 64, 4, 2, 10000.0
BUCKETS, REACH = 16, 32  # as in T5, rows that are learned from are long enough to meet the last bucket often
TRAINED = ("none", "sinusoidal", "learned", "t5", "alibi", "rope")
STRETCHED = ("linear", "dynamic", "yarn")  # rope's weights, its dials slowed when reading


class Positioned(LanguageModel):
    """A decoder of danlu's own blocks, told in one way where its tokens stand."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed_tokens = nn.Embedding(BYTES, SIZE)
        self.layers = nn.ModuleList(
            DecoderLayer(Attention(SIZE, HEADS, HEADS, SIZE // HEADS), GatedMLP(SIZE, 2 * SIZE), SIZE, 1e-6)
            for _ in range(LAYERS)
        )
        self.norm = RMSNorm(SIZE, 1e-6)
        self.places = nn.Embedding(max(TIMES) * LENGTH, SIZE) if kind == "learned" else None
        self.nearness = nn.Embedding(BUCKETS, HEADS) if kind == "t5" else None
        self.rotary = Rotary(SIZE // HEADS, THETA, LENGTH)

    def initialise(self, generator: torch.Generator) -> None:
        """As danlu's decoder; what all kinds have is drawn first, so that it is the same in each."""
        last = ("places", "nearness")
        for name, parameter in sorted(self.named_parameters(), key=lambda one: one[0].startswith(last)):
            if parameter.ndim > 1:
                shrink = (2 * LAYERS) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(parameter, std=0.02 * shrink, generator=generator)

    def hidden(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        ids = batch["input_ids"]
        positions = torch.arange(ids.shape[1])
        x = self.embed_tokens(ids)
        if self.kind == "sinusoidal":
            x = SIZE**0.5 * x + sinusoidal(positions, SIZE)  # the factor as in Vaswani et al. (2017), §3.4
        if self.places is not None:
            x = x + self.places(positions)
        view = View(self.rotary(positions[None]) if self.kind == "rope" else None, self.mask(positions))
        for number, layer in enumerate(self.layers):
            x = layer(x, view, cache, number)
        return self.norm(x)

    def mask(self, positions: Tensor) -> Tensor | None:
        """Causal, and what T5 or ALiBi add to the scores: [1, H, T, T], the same in every layer."""
        if self.kind not in ("t5", "alibi"):
            return None
        causal = additive(torch.ones(len(positions), len(positions), dtype=torch.bool).tril(), torch.float32)
        if self.nearness is None:
            return (causal + alibi_bias(alibi_slopes(HEADS), positions, positions))[None]
        distance = positions - positions[:, None]
        buckets = relative_buckets(distance, BUCKETS, REACH, bidirectional=False)
        return (causal + self.nearness(buckets).permute(2, 0, 1))[None]

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.output_weight.T

    @property
    def output_weight(self) -> Tensor:
        return self.embed_tokens.weight

    @property
    def context(self) -> int:
        return max(TIMES) * LENGTH

    def new_cache(self, rows: int, length: int) -> KVCache:
        raise NotImplementedError("not generated with")

    def hf_config(self) -> dict[str, Any]:
        raise NotImplementedError("not saved")


def source() -> tuple[bytes, bytes]:
    """Text to learn from, and text of other files to be asked about."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return tuple(
        b"".join(f.read_bytes() for n, f in enumerate(files) if (n % 10 == 0) == held) for held in (False, True)
    )  # type: ignore[return-value]


def rows(text: bytes, number: int, length: int, seed: int) -> Tensor:
    """`number` stretches of the text, from anywhere: int64 [number, length]."""
    starts = torch.randint(len(text) - length, (number,), generator=torch.Generator().manual_seed(seed))
    return torch.tensor([list(text[at : at + length]) for at in starts.tolist()])


def learn(kind: str, text: bytes, steps: int, seed: int) -> tuple[Positioned, float]:
    """A model of the kind, and the loss of its last steps."""
    model = Positioned(kind)
    model.initialise(torch.Generator().manual_seed(seed))
    documents = [Document(row) for row in rows(text, steps * ROWS, LENGTH, seed).tolist()]
    settings = {"steps": steps, "batch_size": ROWS, "seq_len": LENGTH, "precision": "fp32", "device": "cpu"}
    watch = Watch()
    batches = PackedBatches(documents, LENGTH, ROWS, seed=seed)
    fit(model, batches, cross_entropy, TrainConfig.parse(settings, "bench"), hooks=[watch])
    return model.eval(), sum(watch.losses[-20:]) / len(watch.losses[-20:])


@torch.no_grad()
def loss(model: Positioned, asked: Tensor, length: int) -> float:
    """Nats a byte for the last LENGTH - 1 bytes of each row, read from `length` bytes before the row's end."""
    total = 0.0
    for part in asked[:, -length:].split(16):
        hidden = model.hidden({"input_ids": part})[:, -LENGTH:-1]
        total += float(linear_cross_entropy(hidden.flatten(0, 1), model.output_weight, part[:, 1 - LENGTH :].flatten()))
    return total / (len(asked) * (LENGTH - 1))


def stretch(model: Positioned, how: str, times: int) -> None:
    """Slow rope's dials for rows `times` as long as those it learned on. Dynamic: factor 1 makes the base fit the row."""
    told = {"rope_type": how, "factor": 1.0 if how == "dynamic" else float(times)}
    told |= {"original_max_position_embeddings": LENGTH} if how == "yarn" else {}
    model.rotary = Rotary(SIZE // HEADS, THETA, LENGTH, RopeScaling.parse(told, "bench"))


def measure(seeds: int, steps: int, windows: int) -> tuple[Raw, dict[str, float]]:
    """The loss of every kind at every length, seed by seed; and the mean loss that each ended its training with."""
    train, held_out = source()
    asked = rows(held_out, windows, max(TIMES) * LENGTH, seed=1000)
    raw: Raw = {}
    ended: dict[str, float] = {}
    for seed in range(seeds):
        for kind in TRAINED:
            model, last = learn(kind, train, steps, seed)
            ended[kind] = ended.get(kind, 0.0) + last / seeds
            for name in (kind, *(STRETCHED if kind == "rope" else ())):
                for times in TIMES:
                    if name in STRETCHED:
                        stretch(model, name, times)
                    raw.setdefault(f"{name}@{times * LENGTH}", []).append(loss(model, asked, times * LENGTH))
    return raw, ended


def main() -> None:
    parser = arguments(__doc__, repeats=2)
    parser.add_argument("--steps", type=int, default=600, help="training steps of each model / 每个模型的训练步数")
    parser.add_argument("--windows", type=int, default=256, help="rows that are asked about / 测试的行数")
    read = parser.parse_args()
    raw, ended = measure(read.repeats, read.steps, read.windows)
    names = (*TRAINED, *STRETCHED)
    table = {name: [sum(raw[f"{name}@{t * LENGTH}"]) / read.repeats for t in TIMES] for name in names}
    head = ("positions", "at the end of training", *(f"read in {times * LENGTH}" for times in TIMES))
    show(head, [(name, ended.get(name, ""), *losses) for name, losses in table.items()])
    print()
    far = max(TIMES) * LENGTH
    pairs = [("alibi", "rope"), ("t5", "rope"), *((name, "rope") for name in STRETCHED)]
    ratios = {f"{ours}_vs_{theirs}_at_{far}": ratio(raw, f"{ours}@{far}", f"{theirs}@{far}") for ours, theirs in pairs}
    write(read.json, WORK, ratios, raw, loss=table, trained=ended)


if __name__ == "__main__":
    main()
