"""The gradient that accumulation gives, by sum and count and by a mean of means, against the whole batch at once.

梯度累积得到的梯度：“求和并计数”与“平均的平均”，分别与一次算完整批的梯度比较。

32 rows are taken as 8 micro-batches of 4. The reference is torch's own cross-entropy over all 32 rows in float64.
"""

from collections.abc import Callable, Sequence
from statistics import median

import torch
import torch.nn.functional as F
from _common import arguments, interleave, ratio, show, write
from _small import Caught, counting, decoder, distance, gradients
from torch import Tensor

from danlu.data.batches import PackedBatches
from danlu.data.pack import Document
from danlu.models.base import Batch
from danlu.models.decoder import Decoder
from danlu.train.config import TrainConfig
from danlu.train.loop import fit
from danlu.train.objective import cross_entropy

VOCABULARY, LENGTH, ROWS, PARTS = 64, 64, 32, 8
EXACT = {"precision": "fp32", "device": "cpu", "optimizer": "adamw", "warmup": 0, "seq_len": LENGTH}
WORK = (
    f"relative error of the gradient of {ROWS} rows accumulated over {PARTS} micro-batches / "
    f"{ROWS} 行分 {PARTS} 个微批累积时，梯度的相对误差"
)


def padded(documents: Sequence[Document]) -> Batch:
    """One document a row, filled up with padding."""
    ids = torch.zeros(len(documents), LENGTH, dtype=torch.int64)
    labels, segments = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, document in enumerate(documents):
        size = len(document.ids)
        ids[row, :size] = torch.tensor(document.ids)
        counted = torch.tensor(document.mask if document.mask is not None else [1] * size).bool()
        counted[0] = False
        labels[row, :size] = torch.where(counted, ids[row, :size], -100)
        segments[row, :size] = 1
    positions = torch.arange(LENGTH).expand_as(ids) * segments
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "segment_ids": segments}


def answers(documents: Sequence[Document]) -> list[Document]:
    """The same documents with loss on their last third only, as after a question."""
    return [Document(one.ids, [i * 3 >= 2 * len(one.ids) for i in range(len(one.ids))]) for one in documents]


def kinds(seed: int) -> dict[str, Batch]:
    """32 rows, laid out in the three ways that occur."""
    documents = counting(400, VOCABULARY, seed)
    packed = next(iter(PackedBatches(documents, LENGTH, ROWS, seed=seed)))
    return {"packed": packed, "padded": padded(documents[:ROWS]), "answers": padded(answers(documents[:ROWS]))}


def parts_of(batch: Batch) -> list[Batch]:
    """The micro-batches."""
    rows = ROWS // PARTS
    return [{name: tensor[at : at + rows] for name, tensor in batch.items()} for at in range(0, ROWS, rows)]


def mean(model: Decoder, batch: Batch) -> Tensor:
    """The mean loss of one batch, as a training loop usually writes it."""
    logits, labels = model(batch)[:, :-1], batch["labels"][:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


def reference(model: Decoder, batch: Batch) -> dict[str, Tensor]:
    """All rows at once, in float64."""
    exact = decoder(VOCABULARY).double()
    exact.load_state_dict(model.state_dict())
    mean(exact, batch).backward()
    return gradients(exact)


def copy_of(model: Decoder) -> Decoder:
    """The same weights again."""
    copy = decoder(VOCABULARY)
    copy.load_state_dict(model.state_dict())
    return copy


def sum_and_count(model: Decoder, batch: Batch) -> dict[str, Tensor]:
    """What danlu's loop gives the optimiser."""
    caught = Caught()
    config = TrainConfig.parse({**EXACT, "steps": 1, "accumulate": PARTS, "clip": 1e9}, "bench")
    fit(copy_of(model), parts_of(batch), cross_entropy, config, hooks=[caught])
    return caught.gradients


def mean_of_means(model: Decoder, batch: Batch) -> dict[str, Tensor]:
    """`(loss / 8).backward()` for each micro-batch."""
    copy = copy_of(model)
    for part in parts_of(batch):
        (mean(copy, part) / PARTS).backward()
    return gradients(copy)


def main() -> None:
    read = arguments(__doc__, repeats=5).parse_args()
    model = decoder(VOCABULARY)
    config = TrainConfig.parse({**EXACT, "steps": 60, "batch_size": 16, "lr": 3e-3}, "bench")
    fit(model, PackedBatches(counting(400, VOCABULARY, 99), LENGTH, 16), cross_entropy, config)
    batches = [kinds(seed) for seed in range(read.repeats + 1)]
    raw, ratios, rows = {}, {}, []
    for kind in batches[0]:
        ways: dict[str, Callable[[Decoder, Batch], dict[str, Tensor]]] = {
            f"{kind}_sum_and_count": sum_and_count,
            f"{kind}_mean_of_means": mean_of_means,
        }
        rounds = {name: iter(batches) for name in ways}  # the same rows for both, others in every round

        def error(name: str, way: Callable, rounds: dict = rounds, kind: str = kind) -> float:
            batch = next(rounds[name])[kind]
            return distance(way(model, batch), reference(model, batch))

        found = interleave({name: lambda n=name, w=way: error(n, w) for name, way in ways.items()}, read.repeats)
        raw |= found
        ratios[f"{kind}_error_vs_mean_of_means"] = ratio(found, *ways)
        counts = [int((part["labels"] != -100).sum()) for batch in batches[1:] for part in parts_of(batch[kind])]
        ours, theirs = (found[name] for name in ways)
        rows.append((kind, f"{min(counts)}-{max(counts)}", median(theirs), max(theirs), max(ours)))
    head = ("rows", "labels in a micro-batch", "mean of means, median", "mean of means, worst", "sum and count, worst")
    show(head, rows)
    print()
    worst = {
        name: max(max(raw[f"{kind}_{name}"]) for kind in batches[0]) for name in ("sum_and_count", "mean_of_means")
    }
    write(read.json, WORK, ratios, raw, worst=worst)


if __name__ == "__main__":
    main()
