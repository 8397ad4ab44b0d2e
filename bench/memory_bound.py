"""What bounds decoding: the bytes of the weights, or the arithmetic; by precision and by how many requests step together.

生成受什么限制：权重的字节数，还是计算量；按权重精度与同时生成的请求数比较。

A random decoder larger than the processor's cache. Two roofs are measured: how fast memory is read (a long sum), and how
fast the model computes when 256 tokens share one reading of the weights.
"""

from collections.abc import Callable

import torch
from _common import arguments, interleave, ratio, show, write
from _small import decoder
from torch import Tensor

from danlu.generate.opening import new_paged
from danlu.models.base import LanguageModel
from danlu.models.packed import PackedDecoder
from danlu.models.paged import Span

SHAPE = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 6, "num_attention_heads": 16}
VOCABULARY, PAST = 8192, 16  # tokens before the one that is written
BATCHES, MANY = (1, 2, 4, 8, 16, 32, 64), 256
NUMBERS = 64_000_000  # float32, 256 MB: far beyond any cache
WORK = (
    f"one token for each of 1 to {BATCHES[-1]} requests, a decoder of width {SHAPE['hidden_size']} / "
    f"为 1 到 {BATCHES[-1]} 个请求各写一个词元，宽 {SHAPE['hidden_size']} 的解码器"
)


def one_step(model: LanguageModel, batch: int) -> Callable[[], None]:
    """A step in which each of `batch` requests writes its next token."""
    cache = new_paged(model, 2 * batch)
    ids = torch.randint(VOCABULARY, (1, batch), generator=torch.Generator().manual_seed(batch))

    def step() -> None:
        positions = cache.select([Span(PAST, 1, (2 * row, 2 * row + 1)) for row in range(batch)])
        model.logits(model.hidden({"input_ids": ids, "position_ids": positions}, cache))

    return step


def products(packed: PackedDecoder, hidden: Tensor) -> dict[str, Callable[[], object]]:
    """The output matrix times one token: weights unpacked in registers, unpacked in memory first, and never packed."""
    weight = packed.output_weight
    return {
        "packed until used": lambda: packed.logits(hidden),
        "unpacked in memory first": lambda: hidden @ packed.output_weight.T,
        "float32": lambda: hidden @ weight.T,
    }


@torch.inference_mode()
def main() -> None:
    read = arguments(__doc__, repeats=3).parse_args()
    numbers = torch.ones(NUMBERS)
    whole = decoder(VOCABULARY, **SHAPE).eval()
    weights = sum(parameter.numel() for parameter in whole.parameters()) - (0 if whole.tied() else VOCABULARY * 1024)
    models: dict[str, LanguageModel] = {
        "int8": PackedDecoder(whole, "int8"),
        "int4": PackedDecoder(whole, "int4"),
        "float32": whole,
    }
    size = {"float32": 4 * weights, **{name: models[name].weight_bytes for name in ("int8", "int4")}}
    runs: dict[str, Callable[[], float | None]] = {"read": lambda: _nothing(numbers.sum())}
    for name, model in models.items():
        for batch in (*BATCHES, MANY):
            runs[f"{name}_{batch}"] = one_step(model, batch)
    int8 = models["int8"]
    assert isinstance(int8, PackedDecoder)
    ways = products(int8, torch.randn(1, SHAPE["hidden_size"]))
    runs |= {way: lambda way=way: _nothing(ways[way]()) for way in ways}
    times = interleave(runs, read.repeats)
    best = {name: min(seconds) for name, seconds in times.items()}

    bandwidth = 4 * NUMBERS / best["read"]
    print(f"memory is read at {bandwidth / 1e9:.1f} GB/s; {weights / 1e6:.0f} million weights\n")
    roofs, rows = {}, []
    for name in ("float32", "int8", "int4"):
        speed = 2 * weights * MANY / best[f"{name}_{MANY}"]
        knee = (size[name] / bandwidth) / (2 * weights / speed)
        roofs[name] = {
            "bytes": size[name],
            "operations_per_second": speed,
            "floor": size[name] / bandwidth,
            "knee": knee,
        }
        rows.append((name, round(size[name] / 1e6), round(1000 * size[name] / bandwidth, 1),
                     round(1000 * best[f"{name}_1"], 1), round(speed / 1e9), round(knee, 1)))  # fmt: skip
    show(("weights", "MB", "MB / (GB/s), ms", "one token, ms", "giga-operations/s", "knee: requests"), rows)
    print()
    show(
        ("requests", *(f"{name}, {unit}" for name in roofs for unit in ("ms a step", "tokens/s"))),
        [
            (batch, *(one for name in roofs for one in (
                round(1000 * best[f"{name}_{batch}"], 1), round(batch / best[f"{name}_{batch}"]))))
            for batch in BATCHES
        ],
    )  # fmt: skip
    print()
    show(("one matrix times one token", "ms"), [(way, round(1000 * best[way], 2)) for way in ways])
    print()
    ratios = {f"{name}_vs_float32_{batch}": ratio(times, f"{name}_{batch}", f"float32_{batch}")
              for name in ("int8", "int4") for batch in (1, 64)}  # fmt: skip
    ratios |= {f"int4_vs_int8_{batch}": ratio(times, f"int4_{batch}", f"int8_{batch}") for batch in (1, 64)}
    write(read.json, WORK, ratios, times, bandwidth=bandwidth, roofs=roofs)


def _nothing(_: object) -> None:
    """A run that is timed returns no number."""


if __name__ == "__main__":
    main()
