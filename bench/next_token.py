"""What a model learns when the labels are not shifted by one: to repeat what it sees, at a splendid loss.

标签忘了错开一位，模型学到了什么：照抄看到的词元，而损失看上去好极了。

A small decoder is trained on bytes of Python's standard library, by danlu's objective and by the same one without
the shift; both are then asked for the real thing, the next byte of text that neither has seen.
"""

import torch
from _common import arguments, interleave, ratio, show, write
from _small import BYTES, Watch, decoder, library
from torch import nn

from danlu.data.batches import PackedBatches, valid_batches
from danlu.models.base import Batch
from danlu.models.decoder import Decoder
from danlu.ops.loss import IGNORE, linear_cross_entropy
from danlu.train.config import TrainConfig
from danlu.train.hooks import mean_loss
from danlu.train.loop import fit
from danlu.train.objective import Loss, cross_entropy

LENGTH, ROWS = 128, 16
START = b"def __init__(self, "
WORK = (
    "loss of the next byte, in nats, after training with and without the shift of the labels / "
    "标签错开与不错开，训练后预测下一个字节的真实损失（nat）"
)


def unshifted(model: nn.Module, batch: Batch) -> Loss:
    """The mistake: the label AT t is asked of the hidden state at t, which has already seen it."""
    wanted = batch["labels"] != IGNORE
    hidden, targets = model.hidden(batch)[wanted], batch["labels"][wanted]
    return Loss(linear_cross_entropy(hidden, model.output_weight, targets), torch.tensor(targets.numel()), {})


@torch.no_grad()
def continued(model: Decoder, steps: int = 24) -> str:
    """START, continued by the most likely byte each time."""
    ids = list(START)
    for _ in range(steps):
        ids.append(int(model({"input_ids": torch.tensor([ids])})[0, -1].argmax()))
    return bytes(ids[len(START) :]).decode("utf-8", "replace")


def main() -> None:
    parser = arguments(__doc__, repeats=2)
    parser.add_argument("--steps", type=int, default=150, help="steps of training / 训练步数")
    read = parser.parse_args()
    config = TrainConfig.parse(
        {"steps": read.steps, "precision": "fp32", "device": "cpu", "seq_len": LENGTH, "lr": 3e-3, "matrix_lr": 0.02},
        "bench",
    )
    objectives = {"shifted": cross_entropy, "unshifted": unshifted}
    held = valid_batches(library(200, LENGTH, seed=1), LENGTH, ROWS)
    believed: dict[str, float] = {}
    texts: dict[str, str] = {}
    seeds = {name: iter(range(read.repeats + 1)) for name in objectives}

    def train(name: str) -> float:
        seed, watch = next(seeds[name]), Watch()
        model = decoder(BYTES, seed)
        batches = PackedBatches(library(3000, LENGTH), LENGTH, ROWS, seed=seed)
        fit(model, batches, objectives[name], config, hooks=[watch])
        believed[name], texts[name] = watch.losses[-1], continued(model)
        return mean_loss(model, held, cross_entropy, torch.device("cpu"), "fp32")

    raw = interleave({name: lambda name=name: train(name) for name in objectives}, read.repeats)
    rows = [(name, believed[name], losses[-1], repr(texts[name])) for name, losses in raw.items()]
    show(("labels", "loss it trains to", "real loss of the next byte", f"continues {START.decode()!r} with"), rows)
    print()
    ratios = {"real_loss_vs_unshifted": ratio(raw, "shifted", "unshifted")}
    write(read.json, WORK, ratios, raw, believed=believed, continued=texts)


if __name__ == "__main__":
    main()
