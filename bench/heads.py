"""How many heads, and how many of them have keys and values of their own: quality, cache and speed.

多少个头，其中多少个有自己的键和值：质量、缓存与速度。

The same small decoder learns the Python standard library's source with one wide head, with eight heads, and with eight
query heads that share four, two or one head of keys and values. Then the trained model with eight is given two by
averaging (Ainslie et al. 2023), and one with two is read in the wrong order of heads. A single layer is asked for two
tokens at once, those 2 and 5 places back, which one head cannot tell apart. The speed is that of one step of
generation, a new token looking at 2,048 cached ones, in a layer with heads as wide as in real models.
"""

import copy
from collections.abc import Callable
from statistics import mean

import torch
import torch.nn.functional as F
from _common import Raw, arguments, interleave, ratio, show, write
from _learn import LENGTH, held_out, learn, loss
from _small import BYTES, decoder
from torch import Tensor, nn

from danlu.models.base import KVCache
from danlu.models.blocks import Attention, View
from danlu.models.decoder import Decoder
from danlu.models.rotary import Rotary

WORK = "one layer's attention for one new token, 2,048 cached / 单层注意力生成一个词元，已缓存 2,048 个"
SHAPES = ((1, 1), (8, 8), (8, 4), (8, 2), (8, 1))  # query heads, heads of keys and values
CACHED, WIDE, QUERIES = 2048, 64, 8
TOKENS, NEAR, FAR = 16, 2, 5
LATER = 50  # steps of training after averaging


def model(heads: int, kv_heads: int, seed: int) -> Decoder:
    return decoder(BYTES, seed, num_attention_heads=heads, num_key_value_heads=kv_heads)


def cache_bytes(one: Decoder) -> int:
    """What a token leaves in the cache, in all layers."""
    cache = one.new_cache(1, 1)
    return cache.keys.nbytes + cache.values.nbytes


def with_keys(one: Decoder, kv_heads: int, order: Callable[[Tensor], Tensor]) -> Decoder:
    """A copy with `kv_heads` heads of keys and values: `order` makes its weights [G', d, D] out of those [G, d, D]."""
    shape = one.config
    other = decoder(BYTES, 0, num_attention_heads=shape.num_attention_heads, num_key_value_heads=kv_heads)
    state = one.state_dict()
    for name in state:
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            state[name] = order(state[name].unflatten(0, (shape.kv_heads, -1))).flatten(0, 1)
    other.load_state_dict(state)
    return other.eval()


def averaged(one: Decoder, kv_heads: int) -> Decoder:
    """Each group's keys and values become their mean."""
    return with_keys(one, kv_heads, lambda heads: heads.unflatten(0, (kv_heads, -1)).mean(1))


def spread(one: Decoder, how: str) -> Decoder:
    """A head of keys and values for every query head: each repeated for its group (right), or all in turn (wrong)."""
    heads, times = one.config.num_attention_heads, one.config.num_attention_heads // one.config.kv_heads
    if how == "repeat_interleave":
        return with_keys(one, heads, lambda own: own.repeat_interleave(times, 0))
    return with_keys(one, heads, lambda own: own.repeat(times, 1, 1))


def quality(seeds: int, steps: int, asked: Tensor) -> tuple[dict[str, list[float]], dict[tuple[int, int], Decoder]]:
    """The held-out loss of each shape, seed by seed; and the models of the last seed."""
    losses: dict[str, list[float]] = {}
    models = {}
    for seed in range(seeds):
        for shape in SHAPES:
            models[shape] = model(*shape, seed)
            learn(models[shape], steps, seed)
            losses.setdefault(f"{shape[0]}, {shape[1]}", []).append(loss(models[shape], asked))
    return losses, models


def converted(models: dict[tuple[int, int], Decoder], asked: Tensor) -> dict[str, float]:
    """The held-out loss of what was made of the trained models."""
    found = {"8 heads": loss(models[8, 8], asked)}
    pooled = averaged(models[8, 8], 2)
    found["averaged to 2"] = loss(pooled, asked)
    learn(pooled, LATER, seed=77, lr=2e-3, matrix_lr=2e-3, warmup=5)
    found["averaged to 2, trained on"] = loss(pooled, asked)
    further = copy.deepcopy(models[8, 8])
    learn(further, LATER, seed=77, lr=2e-3, matrix_lr=2e-3, warmup=5)
    found["8 heads, trained on"] = loss(further, asked)
    found["2 shared"] = loss(models[8, 2], asked)
    for how in ("repeat_interleave", "repeat"):
        found[f"2 spread by {how}"] = loss(spread(models[8, 2], how), asked)
    return found


@torch.no_grad()
def difference(one: Decoder, asked: Tensor) -> float:
    """Grouped heads against a model of as many key heads as query heads, each group's made alike: they are the same."""
    batch = {"input_ids": asked[:8]}
    return float((one(batch) - spread(one, "repeat_interleave")(batch)).abs().max())


class TwoPlaces(nn.Module):
    """One layer of attention that is asked which token stood NEAR places back, and which FAR."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, WIDE)
        self.attention = Attention(WIDE, heads, heads, WIDE // heads)
        self.out = nn.Linear(WIDE, 2 * TOKENS)
        self.rotary = Rotary(WIDE // heads, 10000.0, LENGTH)

    def forward(self, ids: Tensor) -> Tensor:
        """[B, T] -> scores of both answers, [B, T - FAR, 2, TOKENS]."""
        view = View(self.rotary(torch.arange(ids.shape[1])[None]), None)
        return self.out(self.attention(self.embed(ids), view, None, 0))[:, FAR:].unflatten(-1, (2, TOKENS))


def both_places(heads: int, steps: int = 400) -> float:
    """The share of places for which a trained TwoPlaces names both tokens rightly."""
    torch.manual_seed(0)
    one, draw = TwoPlaces(heads), torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(one.parameters(), lr=3e-3)

    def ask(rows: int) -> tuple[Tensor, Tensor]:
        ids = torch.randint(TOKENS, (rows, LENGTH), generator=draw)
        return one(ids), torch.stack((ids[:, FAR - NEAR : -NEAR], ids[:, :-FAR]), -1)

    for _ in range(steps):
        scores, wanted = ask(32)
        optimiser.zero_grad()
        F.cross_entropy(scores.flatten(0, 2), wanted.flatten()).backward()
        optimiser.step()
    with torch.no_grad():
        scores, wanted = ask(256)
        return float((scores.argmax(-1) == wanted).all(-1).float().mean())


def step(kv_heads: int) -> Callable[[], None]:
    """Ten times: one new token for each of four texts, in one layer."""
    cache = KVCache(1, 4, kv_heads, CACHED, WIDE, torch.float32, torch.device("cpu"))
    cache.keys.normal_()
    cache.values.normal_()
    q, new = torch.randn(4, QUERIES, 1, WIDE), torch.randn(4, kv_heads, 1, WIDE)

    @torch.no_grad()
    def run() -> None:
        cache.select(0, torch.full((4, 1), CACHED - 1))
        for _ in range(10):
            cache.attend(0, q, new, new)

    return run


def main() -> None:
    parser = arguments(__doc__, repeats=9)
    parser.add_argument("--steps", type=int, default=400, help="training steps of each model / 每个模型的训练步数")
    parser.add_argument("--seeds", type=int, default=2, help="models of each shape / 每种结构训练几个模型")
    read = parser.parse_args()
    asked = held_out()
    losses, models = quality(read.seeds, read.steps, asked)
    raw: Raw = interleave({f"{kv} kv heads": step(kv) for heads, kv in SHAPES if heads > 1}, read.repeats)
    rows = []
    for (heads, kv), one in models.items():
        took = 1000 * mean(raw[f"{kv} kv heads"]) / 10 if heads > 1 else ""
        found = losses[f"{heads}, {kv}"]
        rows.append((heads, kv, one.parameter_count, cache_bytes(one), mean(found), max(found) - min(found), took))
    show(("query heads", "kv heads", "parameters", "cache, bytes a token", "loss", "spread", "step, ms"), rows)
    print()
    places = {heads: both_places(heads) for heads in (1, 2, 4, 8)}
    show(("heads", "both tokens right"), [(heads, f"{share:.1%}") for heads, share in places.items()])
    print()
    changed = converted(models, asked)
    show(("the trained model", "loss"), list(changed.items()))
    same = difference(models[8, 2], asked)
    print(f"\nlargest difference of grouped heads from their copies in a model of eight: {same:.1e}\n")
    ratios = {f"{kv}_kv_heads_vs_8": ratio(raw, f"{kv} kv heads", "8 kv heads") for kv in (4, 2, 1)}
    quality_of = {name: mean(found) for name, found in losses.items()}
    write(read.json, WORK, ratios, raw, loss=quality_of, converted=changed, places=places, difference={"grouped": same})


if __name__ == "__main__":
    main()
