"""Sentence pairs for one translator of both directions: a tag in front of the source names the language to write.

The tag is a token of its own (Johnson et al. 2017, "Google's multilingual neural machine translation system", §3).
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.augmenters.back_translation import Language
from danlu.data.batches import tokenise_texts
from danlu.data.load import is_prepared, load_split
from danlu.data.pairs import Pair
from danlu.models.base import Batch
from danlu.tokenizer import Tokenizer

__all__ = ["LANGUAGES", "Language", "PairBatches", "add_tags", "load_pairs", "tag_ids"]

LANGUAGES: tuple[Language, Language] = ("en", "zh")
_TAG = "<2{}>"
_NO_LOSS = -100


def load_pairs(folder: Path, split: Literal["train", "valid", "test"]) -> list[Pair]:
    """The rows {"source": English, "target": Chinese, "origin": ...} of a folder that `danlu data pairs` wrote.

    Raises DataError for a folder that is none, and naming a row that is no pair.
    """
    if not is_prepared(folder):
        raise DataError(
            tr(f"{folder} holds no pairs (train.jsonl and valid.jsonl)", f"{folder} 中没有句对（train.jsonl 与 valid.jsonl）"),
            tr("make some: danlu data pairs --out FOLDER", "请先准备：danlu data pairs --out 文件夹"),
        )  # fmt: skip
    pairs = []
    for number, row in enumerate(load_split(folder, split, columns=("source", "target")), 1):
        sides = (row["source"], row["target"])
        if not all(isinstance(side, str) and side.strip() for side in sides):
            raise DataError(
                tr(f"{folder / split}.jsonl: row {number} is no pair of texts: {row}",
                   f"{folder / split}.jsonl：第 {number} 行不是一对文本：{row}"),
                tr('each needs {"source": "...", "target": "..."}', '每行应为 {"source": "...", "target": "..."}'),
            )  # fmt: skip
        pairs.append(Pair(*sides, str(row.get("origin", ""))))
    return pairs


def add_tags(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with the special tokens `<2en>` and `<2zh>`."""
    return tokenizer.with_special([_TAG.format(language) for language in LANGUAGES])


def tag_ids(tokenizer: Tokenizer) -> dict[Language, int]:
    """The id of each language's tag. Raises DataError for a tokenizer that has none: its model is no translator."""
    found: dict[Language, int] = {}
    for language in LANGUAGES:
        if (number := tokenizer.backend.token_to_id(_TAG.format(language))) is not None:
            found[language] = number
    if missing := [_TAG.format(language) for language in LANGUAGES if language not in found]:
        raise DataError(
            tr(f"the tokenizer has no {', '.join(missing)}", f"分词器没有 {'、'.join(missing)}"),
            tr("a translator is trained by `danlu translator`", "翻译模型由 danlu translator 训练"),
        )
    return found


class PairBatches:
    """Endless (or `epochs` long) batches of pairs of like length, each pair in both directions; resumable.

    An epoch draws `draws` pairs (default: as many as there are) from the origins in the proportion n**alpha of their
    sizes n: at 1 as they are, at 0 all alike. Of each origin, pairs come in shuffled passes that go on from epoch to
    epoch, so none is drawn twice before all were drawn once. What is drawn is sorted by length and cut into batches of
    at most `tokens` tokens, padding and both sides counted, which then come in random order. Without `shuffle` pairs
    and batches come in order.

    A batch has `input_ids` and `attention_mask` [B, S] (the tag of the language to write, the source, `eos_id`) and
    `labels` [B, T] (the target and `eos_id`; -100 = padding), all int64. Pairs with a side longer than `longest`
    tokens, tag and end included, are left out: `left_out` counts them.

    Attributes as `PackedBatches`: `documents` (pairs), `tokens_per_epoch`, `fill` (both of the first epoch).
    Raises DataError when no pair is left, or one fills more than a batch.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        tokenizer: Tokenizer,
        *,
        tokens: int,
        longest: int,
        alpha: float = 1.0,
        draws: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = None,
    ) -> None:
        self.tokens, self.longest, self.alpha, self.seed = tokens, longest, alpha, seed
        self.shuffle, self.epochs, self.pad_id = shuffle, epochs, tokenizer.pad_id
        sides = {
            language: [list(document.ids) for document in tokenise_texts([getattr(pair, language) for pair in pairs], tokenizer)]
            for language in LANGUAGES
        }  # fmt: skip
        fits = [len(en) < longest and len(zh) < longest for en, zh in zip(*sides.values(), strict=True)]
        self.left_out, self.documents = fits.count(False), fits.count(True)
        if not self.documents or tokens < 2 * longest:
            raise DataError(
                tr(f"no pair of at most {longest} tokens a side fits batches of {tokens} tokens",
                   f"没有每侧不超过 {longest} 个词元的句对可放入 {tokens} 个词元的批"),
                tr("give pairs, or raise train.batch_size (a batch holds batch_size · seq_len tokens)",
                   "请提供句对，或调大 train.batch_size（一批共 batch_size · seq_len 个词元）"),
            )  # fmt: skip
        tags, kept = tag_ids(tokenizer), [number for number, fit in enumerate(fits) if fit]
        en, zh = ([sides[language][number] for number in kept] for language in LANGUAGES)
        # Example 2i writes pair i in Chinese, 2i + 1 in English.
        self._sources = [side for one, other in zip(en, zh, strict=True) for side in ([tags["zh"], *one], [tags["en"], *other])]  # fmt: skip
        self._targets = [side for one, other in zip(en, zh, strict=True) for side in (other, one)]
        self._lengths = np.array([[len(s), len(t)] for s, t in zip(self._sources, self._targets, strict=True)])
        origins = np.array([pairs[number].origin for number in kept])
        self._members = [np.flatnonzero(origins == origin) for origin in np.unique(origins)]
        weights = np.array([len(members) for members in self._members]) ** alpha
        wanted = (draws or self.documents) * weights / weights.sum()
        self._quotas = [max(1, round(float(wish))) for wish in wanted]
        self.epoch = self.batch = 0
        self._cut = self._deal(0)
        real = sum(int(self._lengths[examples].sum()) for examples in self._cut)
        self.tokens_per_epoch = real
        self.fill = real / sum(len(examples) * int(self._lengths[examples].max(0).sum()) for examples in self._cut)

    def __len__(self) -> int:
        """Batches of this epoch; others may have one more or less."""
        return len(self._cut)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self.batch == len(self._cut):
            self.epoch, self.batch = self.epoch + 1, 0
            self._cut = self._deal(self.epoch)
        if self.epochs is not None and self.epoch >= self.epochs:
            raise StopIteration
        self.batch += 1
        return self._make(self._cut[self.batch - 1].tolist())

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "batch": self.batch, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch the state was taken at; raises DataError when data or settings are others."""
        if state["fingerprint"] != self.fingerprint:
            raise DataError(
                tr("the pairs or their settings changed since the checkpoint", "自检查点之后，句对或其设置有变"),
                tr("resume with what the run began with, or start a new run", "请用原来的数据与设置继续，或另起一次训练"),
            )  # fmt: skip
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])
        self._cut = self._deal(self.epoch)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of all that decides which batch comes when."""
        settings = (self.tokens, self.longest, self.seed, self.shuffle, self.pad_id, self._quotas)
        digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
        for members in self._members:
            digest.update(members.tobytes())
        for side in (*self._sources, *self._targets):
            digest.update(np.array(side).tobytes())
        return digest.hexdigest()

    # lesson: mixing
    def _drawn(self, epoch: int) -> np.ndarray:
        """The pairs of an epoch, int64: of every origin the next `quota` of its endless shuffled passes."""
        drawn = []
        for number, (members, quota) in enumerate(zip(self._members, self._quotas, strict=True)):
            first, last, size = epoch * quota, (epoch + 1) * quota, len(members)
            for turn in range(first // size, -(-last // size)):
                random = np.random.default_rng((self.seed, number, turn))
                order = random.permutation(members) if self.shuffle else members
                drawn.append(order[max(0, first - turn * size) : last - turn * size])
        return np.concatenate(drawn)

    # end lesson

    def _deal(self, epoch: int) -> list[np.ndarray]:
        """The examples of each batch of an epoch, in the order in which they come."""
        random, pairs = np.random.default_rng((self.seed, epoch)), self._drawn(epoch)
        examples = (2 * pairs[:, None] + np.arange(2)).ravel()
        if self.shuffle:
            examples = random.permutation(examples)  # ties of length fall otherwise in each epoch
        sources, targets = self._lengths[examples].T
        examples = examples[np.lexsort((targets, sources))]
        cut, start, widest = list[np.ndarray](), 0, np.zeros(2, dtype=np.int64)
        for at, lengths in enumerate(self._lengths[examples]):
            wider = np.maximum(widest, lengths)
            if wider.sum() * (at - start + 1) > self.tokens:
                cut.append(examples[start:at])
                start, wider = at, lengths
            widest = wider
        cut.append(examples[start:])
        return [cut[number] for number in random.permutation(len(cut))] if self.shuffle else cut

    def _make(self, examples: Sequence[int]) -> Batch:
        sources = _rectangle([self._sources[number] for number in examples], self.pad_id)
        lengths = torch.from_numpy(self._lengths[examples, 0])
        real = torch.arange(sources.shape[1]) < lengths[:, None]
        labels = _rectangle([self._targets[number] for number in examples], _NO_LOSS)
        return {"input_ids": sources, "attention_mask": real.long(), "labels": labels}


def _rectangle(rows: Sequence[Sequence[int]], padding: int) -> torch.Tensor:
    """int64 [rows, longest]."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
