"""Span corruption: text with blanks in, what stood in the blanks out (Raffel et al. 2020, §3.1.4 and §3.3.4)."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.data.batches import PackedBatches
from danlu.models.base import Batch
from danlu.tokenizer import Tokenizer

__all__ = [
    "Corrupted",
    "DenoiseBatches",
    "SpanConfig",
    "add_sentinels",
    "corrupt",
    "filled",
    "restore",
    "sentinel_ids",
    "span_counts",
]

_SENTINEL = "<extra_id_{}>"  # T5's name for the token that stands for a blank
_NO_LOSS = -100


class SpanConfig(Config):
    """How much is taken out, and in what pieces."""

    density: float = doc(0.15, "share of the tokens that is taken out", "挖去的 token 比例", gt=0, lt=1)
    mean_span: float = doc(3.0, "tokens in a blank, on average", "每个空平均几个 token", ge=1)
    sentinels: int = doc(100, "sentinel tokens added to the vocabulary", "词表中加入的哨兵词元数", ge=2, le=10_000)


class Corrupted(NamedTuple):
    """`source` has a sentinel for each blank; `target` has each sentinel, what it stands for, and one more at the end."""

    source: list[int]
    target: list[int]


def add_sentinels(tokenizer: Tokenizer, count: int) -> Tokenizer:
    """The tokenizer with `<extra_id_0>` to `<extra_id_{count-1}>` as special tokens; those it has already stay."""
    return tokenizer.with_special([_SENTINEL.format(number) for number in range(count)])


def sentinel_ids(tokenizer: Tokenizer) -> list[int]:
    """The ids of `<extra_id_0>`, `<extra_id_1>`, ... as far as there are any."""
    found: list[int] = []
    while (number := tokenizer.backend.token_to_id(_SENTINEL.format(len(found)))) is not None:
        found.append(number)
    return found


def span_counts(length: int, spans: SpanConfig) -> tuple[int, int]:
    """(tokens taken out, blanks) of a text of `length` >= 2 tokens: at least one, and at least one is left.

    Blanks that touched would be one, so at most one more than there are tokens left.
    """
    taken = min(max(round(length * spans.density), 1), length - 1)
    blanks = min(max(round(taken / spans.mean_span), 1), taken, length - taken + 1)
    return taken, blanks


# lesson: span-corruption
def corrupt(ids: Sequence[int], sentinels: Sequence[int], random: np.random.Generator, spans: SpanConfig) -> Corrupted:
    """Take spans out of `ids` at random: all ways to cut what is taken, and what is left, are equally likely.

    T5's own code never blanks the first token and always the last; here a blank may stand anywhere.
    Raises ConfigError when there are not enough sentinels for the blanks and the end of the target.
    """
    taken, blanks = span_counts(len(ids), spans)
    if blanks >= len(sentinels):
        raise ConfigError(
            tr(
                f"{len(ids)} tokens get {blanks} blanks, and there are {len(sentinels)} sentinels",
                f"{len(ids)} 个词元要挖 {blanks} 个空,而哨兵词元只有 {len(sentinels)} 个",
            ),
            tr("raise spans.sentinels, or lower train.seq_len", "请调大 spans.sentinels,或调小 train.seq_len"),
        )
    sizes = _parts(taken, blanks, random)
    gaps = _parts(len(ids) - taken + 2, blanks + 1, random)  # before, between and after the blanks
    gaps[0], gaps[-1] = gaps[0] - 1, gaps[-1] - 1  # the outer ones may be empty
    source, target, at = [], [], 0
    for sentinel, gap, size in zip(sentinels, gaps, sizes, strict=False):
        source += [*ids[at : at + gap], sentinel]
        target += [sentinel, *ids[at + gap : at + gap + size]]
        at += gap + size
    return Corrupted([*source, *ids[at:]], [*target, sentinels[blanks]])


# end lesson


def _parts(total: int, number: int, random: np.random.Generator) -> list[int]:
    """`total` cut at random into `number` parts of 1 or more."""
    cuts = np.sort(random.choice(total - 1, number - 1, replace=False)) + 1
    return np.diff(np.concatenate(([0], cuts, [total]))).tolist()


def restore(source: Sequence[int], target: Sequence[int], sentinels: Sequence[int]) -> list[int]:
    """Put back what the target says; a blank that it does not name, or leaves empty, stays open."""
    known, answers = frozenset(sentinels), _answers(target, sentinels)
    return [kept for token in source for kept in (answers.get(token) or [token] if token in known else [token])]


def filled(tokenizer: Tokenizer, source: Sequence[int], target: Sequence[int]) -> str:
    """`restore` for people to look at: the text, with what stands in its blanks in brackets."""
    sentinels = sentinel_ids(tokenizer)
    known, answers = frozenset(sentinels), _answers(target, sentinels)
    text, piece = "", list[int]()
    for token in source:
        if token in known:
            text += tokenizer.decode(piece) + f"[{tokenizer.decode(answers.get(token, []))}]"
            piece = []
        else:
            piece.append(token)
    return text + tokenizer.decode(piece)


def _answers(target: Sequence[int], sentinels: Sequence[int]) -> dict[int, list[int]]:
    """What follows each sentinel; one that comes again is not listened to."""
    known, answers = frozenset(sentinels), dict[int, list[int]]()
    blank: int | None = None
    for token in target:
        if token in known:
            blank = token if token not in answers else None
            if blank is not None:
                answers[blank] = []
        elif blank is not None:
            answers[blank].append(token)
    return answers


class DenoiseBatches:
    """`packed` with every document corrupted, for an encoder-decoder; resumable where `packed` is.

    Blanks fall elsewhere in each epoch, by the seed and the place in the data alone. A batch has `input_ids` and
    `segment_ids` [B, S], `decoder_input_ids`, `decoder_segment_ids` and `labels` [B, T] (-100 = padding), all int64:
    a document's source ends with `eos_id`, and so do its labels, which the decoder reads one place late, behind
    `start_id`. S and T are as wide as the batch needs.
    """

    def __init__(
        self,
        packed: PackedBatches,
        sentinels: Sequence[int],
        spans: SpanConfig,
        *,
        start_id: int,
        eos_id: int,
    ) -> None:
        self.packed, self.sentinels, self.spans = packed, list(sentinels), spans
        self.start_id, self.eos_id = start_id, eos_id
        if not self.sentinels:
            raise DataError(
                tr("the tokenizer has no <extra_id_0>", "分词器没有 <extra_id_0>"),
                tr("add sentinels first: danlu.data.denoise.add_sentinels", "请先加入哨兵:danlu.data.denoise.add_sentinels"),
            )  # fmt: skip
        self.documents, self.tokens_per_epoch, self.fill = packed.documents, packed.tokens_per_epoch, packed.fill

    def __len__(self) -> int:
        return len(self.packed)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self.packed)
        return self._corrupted(batch, np.random.default_rng((self.packed.seed, self.packed.epoch, self.packed.batch)))

    def state_dict(self) -> dict[str, Any]:
        return self.packed.state_dict() | {"spans": self.spans.plain()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch the state was taken at; raises DataError when data or settings are others."""
        if state["spans"] != self.spans.plain():
            raise DataError(
                tr("the settings of the blanks changed since the checkpoint", "自检查点之后,挖空的设置有变"),
                tr("resume with what the run began with, or start a new run", "请用原来的设置继续,或另起一次训练"),
            )
        self.packed.load_state_dict(state)

    def _corrupted(self, batch: Batch, random: np.random.Generator) -> Batch:
        rows: dict[str, list[list[int]]] = {
            name: [] for name in ("input_ids", "segment_ids", "decoder_input_ids", "labels", "decoder_segment_ids")
        }
        for ids, segments in zip(batch["input_ids"], batch["segment_ids"], strict=True):
            for row in rows.values():
                row.append([])
            for number in range(1, int(segments.max()) + 1):
                source, target = corrupt(ids[segments == number].tolist(), self.sentinels, random, self.spans)
                source, target = [*source, self.eos_id], [*target, self.eos_id]
                rows["input_ids"][-1] += source
                rows["segment_ids"][-1] += [number] * len(source)
                rows["decoder_input_ids"][-1] += [self.start_id, *target[:-1]]
                rows["labels"][-1] += target
                rows["decoder_segment_ids"][-1] += [number] * len(target)
        empty = {"input_ids": self.packed.pad_id, "decoder_input_ids": self.packed.pad_id, "labels": _NO_LOSS}
        return {name: _rectangle(lists, empty.get(name, 0)) for name, lists in rows.items()}


def _rectangle(rows: list[list[int]], padding: int) -> torch.Tensor:
    """int64 [rows, longest]."""
    width = max(map(len, rows))
    return torch.tensor([row + [padding] * (width - len(row)) for row in rows])
