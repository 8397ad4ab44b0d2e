"""What 8 and 4 bits cost: perplexity of English prose by SmolLM2-135M-Instruct, packed against bfloat16.

8 位与 4 位权重的代价:SmolLM2-135M-Instruct 在英文散文上的困惑度,与 bfloat16 比较。

50,000 tokens of the Brown corpus in pieces of 512, the first token of each piece only read. The pulled model's weights
were 4 bits (Q4_1) once, which int4 gives back as they were; what 4 bits cost weights that never were, --folder shows with
a float model of your own.
"""

import math
import re
from pathlib import Path

import torch
from _common import arguments, show, write
from _smollm import forms

from danlu.core.assets import asset_path
from danlu.models import auto
from danlu.models.base import LanguageModel
from danlu.models.packed import PackedDecoder
from danlu.ops.loss import logprobs
from danlu.tokenizer import Tokenizer

PIECE = 512


@torch.inference_mode()
def perplexity(model: LanguageModel, pieces: list[list[int]]) -> float:
    nats = count = 0.0
    for piece in pieces:
        ids = torch.tensor([piece])
        logits = model({"input_ids": ids})
        nats -= logprobs(logits[:, :-1], ids[:, 1:]).sum().item()
        count += len(piece) - 1
    return math.exp(nats / count)


def prose(tokenizer: Tokenizer, tokens: int) -> list[list[int]]:
    """The first files of the corpus in their order, without their parts of speech, in pieces."""
    ids: list[int] = []
    for path in sorted(asset_path("brown").glob("c[a-r][0-9][0-9]")):
        words = [word.rsplit("/", 1)[0] for word in path.read_text(encoding="utf-8").split()]
        ids += tokenizer.encode(re.sub(r" ([.,;:?!'])", r"\1", " ".join(words)))
        if len(ids) >= tokens:
            break
    return [ids[at : at + PIECE] for at in range(0, tokens, PIECE)]


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="another model folder, in float / 另一个浮点模型文件夹")
    read = parser.parse_args()
    folder = read.folder or forms()["folder"]
    pieces = prose(Tokenizer.load(folder), read.tokens)
    found = {"bf16": perplexity(auto.load(folder, dtype=torch.bfloat16), pieces)}
    for bits in ("int8", "int4"):
        found[bits] = perplexity(PackedDecoder(auto.load(folder), bits), pieces)
    more = {name: value / found["bf16"] - 1 for name, value in found.items()}
    show(
        ("weights", "perplexity", "more than bf16, %"),
        [(name, value, 100 * more[name]) for name, value in found.items()],
    )
    ratios = {f"perplexity_{bits}_vs_bf16": {"median": found["bf16"] / found[bits], "min": found["bf16"] / found[bits], "max": found["bf16"] / found[bits], "runs": 1} for bits in ("int8", "int4")}  # fmt: skip
    write(
        read.json,
        f"{read.tokens} tokens of English prose",
        ratios,
        {name: [value] for name, value in found.items()},
        increase=more,
    )


if __name__ == "__main__":
    main()
