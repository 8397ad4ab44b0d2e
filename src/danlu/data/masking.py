"""Masked language modelling: hide some of the words, to be guessed from both sides (Devlin et al. 2019, BERT, §3.1)."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import torch
from tokenizers import AddedToken, decoders
from tokenizers.processors import TemplateProcessing

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError, DataError, MissingExtraError
from danlu.core.i18n import tr
from danlu.data.batches import PackedBatches
from danlu.data.pack import Document
from danlu.data.progress import track
from danlu.models.base import Batch
from danlu.tokenizer import Tokenizer
from danlu.tokenizer.pretokenize import split_words

__all__ = [
    "CLS",
    "MASK",
    "MaskedBatches",
    "Masker",
    "MaskingConfig",
    "fixed_masking",
    "mark_words",
    "mask_words",
    "number_words",
    "with_mask",
    "word_starts",
]

MASK, CLS = "[MASK]", "[CLS]"
_HIDDEN, _REPLACED = 0.8, 0.1  # of the chosen tokens; the others stay as they are (Devlin et al. 2019, §3.1)
_NO_LOSS = -100
_STREAM = 15  # sets these random numbers apart from those that shuffle
_AT_ONCE = 1024
_ALL = 2**31  # rows in a batch: more than there are
_HAN = re.compile("[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")


class MaskingConfig(Config):
    """How much is hidden, and in which pieces."""

    rate: float = doc(0.15, "share of the words to be guessed", "需要猜测的词所占比例", gt=0, lt=1)
    whole_words: bool = doc(
        True,
        "hide a word as a whole: otherwise its other pieces give it away",
        "整词遮盖:否则同一个词的其余部分会泄露答案",
    )


# Words


# lesson: whole-words
def number_words(text: str) -> list[int]:
    """Which word each character belongs to, counted from 1; a space goes with the word behind it.

    Chinese runs are cut into words by rjieba, as whole-word masking wants (Cui et al. 2019, BERT-wwm). Raises
    MissingExtraError when it is not installed.
    """
    numbers: list[int] = []
    word, before = 0, ""
    for piece in split_words(text):
        for part in _chinese_words(piece) if _HAN.match(piece) else (piece,):
            word += not (part.isdecimal() and before.isdecimal())  # the digits of a number are one word
            numbers += [word] * len(part)
            before = part
    return numbers


def word_starts(text: str, offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """Where a word begins, token by token: where a token has no word in common with the token before it.

    offsets: the characters [start, end) of `text` that each token spells; a token of none, as [CLS], stands alone.
    """
    numbers = number_words(text)
    starts, last = [], 0
    for start, end in offsets:
        starts.append(start == end or numbers[start] != last)
        last = numbers[end - 1] if end > start else 0
    return starts


# end lesson


def _chinese_words(text: str) -> list[str]:
    try:
        import rjieba
    except ModuleNotFoundError:
        raise MissingExtraError("rjieba", "data") from None
    return rjieba.cut(text)


def mark_words(texts: Sequence[str], tokenizer: Tokenizer, whole_words: bool = True) -> list[Document]:
    """One document for each text, framed as the tokenizer frames it, its ids being 2 · id + (a word begins here).

    So the beginnings of words come along through packing; `Masker` takes the two apart again.
    """
    parts = [list(texts[at : at + _AT_ONCE]) for at in range(0, len(texts), _AT_ONCE)]
    documents = []
    for part in track(parts, len(parts), tr("tokenising, finding words", "分词并找出词的边界")):
        for text, found in zip(part, tokenizer.encode_framed(part), strict=True):
            starts = word_starts(text, found.offsets) if whole_words else [True] * len(found.ids)
            documents.append(Document([2 * number + begins for number, begins in zip(found.ids, starts, strict=True)]))
    return documents


# Masking


class Masked(NamedTuple):
    """What the model reads, and what it has to say where: both int64, of the shape of the ids."""

    ids: np.ndarray
    labels: np.ndarray


# lesson: masking
def mask_words(
    ids: np.ndarray,
    starts: np.ndarray,
    maskable: np.ndarray,
    rate: float,
    mask_id: int,
    ordinary: np.ndarray,
    random: np.random.Generator,
) -> Masked:
    """Choose each word with probability `rate`; of its tokens hide 80 %, replace 10 % by any other, leave 10 %.

    Whether a word is chosen is decided once, what becomes of each of its tokens one by one, as in Google's
    own whole-word masking. The tokens that are left make the model doubt, and so represent, what it sees.

    ids: int64 [N], one text after another; starts: bool [N], where a word begins; maskable: bool [N]; ordinary:
    int64, the ids to replace by. Labels are -100 where nothing is to be guessed.
    """
    word = np.cumsum(starts)
    chosen = (random.random(int(word[-1]) + 1) < rate)[word] & maskable
    fate = random.random(len(ids))
    read = np.where(chosen & (fate < _HIDDEN), mask_id, ids)
    other = random.choice(ordinary, size=len(ids))
    read = np.where(chosen & (fate >= _HIDDEN) & (fate < _HIDDEN + _REPLACED), other, read)
    return Masked(read, np.where(chosen, ids, _NO_LOSS))


# end lesson


class Masker:
    """Masks batches of documents that `mark_words` made. Special tokens and padding are never masked.

    Raises ConfigError when the tokenizer has no mask token.
    """

    def __init__(self, tokenizer: Tokenizer, config: MaskingConfig, seed: int = 0) -> None:
        if tokenizer.mask_id is None:
            raise ConfigError(
                tr("the tokenizer has no mask_token", "分词器没有 mask_token"),
                tr("train one: danlu mlm without --tokenizer does", "请训练一个:danlu mlm 不带 --tokenizer 即可"),
            )
        self.config, self.seed = config, seed
        self.mask_id, self.pad_id = tokenizer.mask_id, tokenizer.pad_id
        ids = set(tokenizer.backend.get_vocab().values())
        special = tokenizer.special_ids | {self.mask_id, self.pad_id}
        self.special = np.zeros(1 + max(ids), dtype=bool)
        self.special[list(special)] = True
        self.ordinary = np.array(sorted(ids - special))

    def __call__(self, batch: Batch, *when: int) -> Batch:
        """The batch as the model reads it, all [B, T]; `when` (epoch, number) and the seed decide what is hidden."""
        marked = batch["input_ids"].numpy()
        inside = batch["segment_ids"].numpy() > 0
        ids = np.where(inside, marked >> 1, self.pad_id)
        # A document cut in two, or a row's end, cuts a word too.
        starts = (marked & 1 > 0) | (batch["position_ids"].numpy() == 0)
        random = np.random.Generator(np.random.PCG64((self.seed, *when, _STREAM)))
        maskable = inside & ~self.special[ids]
        flat = (ids.ravel(), starts.ravel(), maskable.ravel())
        masked = mask_words(*flat, self.config.rate, self.mask_id, self.ordinary, random)
        shape = ids.shape
        made = {"input_ids": masked.ids.reshape(shape), "labels": masked.labels.reshape(shape)}
        return batch | {name: torch.from_numpy(array) for name, array in made.items()}


class MaskedBatches:
    """`PackedBatches` of marked documents, masked anew in each epoch (Liu et al. 2019, RoBERTa, §4.1).

    `state_dict()` stands for the position after the last batch handed out; the masks that follow are those that
    would have followed.
    """

    def __init__(self, packed: PackedBatches, masker: Masker) -> None:
        self.packed, self.masker = packed, masker
        self.documents, self.tokens_per_epoch, self.fill = packed.documents, packed.tokens_per_epoch, packed.fill

    def __len__(self) -> int:
        """Batches of one epoch."""
        return len(self.packed)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self.packed)
        return self.masker(batch, self.packed.epoch, self.packed.batch)

    def state_dict(self) -> dict[str, Any]:
        return {**self.packed.state_dict(), "masking": [self.masker.seed, self.masker.config.rate]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch the state was taken at; raises DataError when data or settings are others."""
        if state["masking"] != [self.masker.seed, self.masker.config.rate]:
            raise DataError(
                tr("the masking changed since the checkpoint", "自检查点之后,遮盖的设置有变"),
                tr("resume with what the run began with, or start a new run", "请用原来的设置继续,或另起一次训练"),
            )
        self.packed.load_state_dict(state)


def fixed_masking(
    documents: Sequence[Document], seq_len: int, batch_size: int, tokenizer: Tokenizer, config: MaskingConfig
) -> list[Batch]:
    """Every document once, masked in one way for good: whatever the batch size or the seed of a run, the same words.

    So losses of different steps and runs compare. The last batch may have fewer rows.
    """
    packed = PackedBatches(documents, seq_len, _ALL, shuffle=False, epochs=1, drop_last=False)
    (whole,) = MaskedBatches(packed, Masker(tokenizer, config))
    parts = {name: tensor.split(batch_size) for name, tensor in whole.items()}
    return [dict(zip(parts, tensors, strict=True)) for tensors in zip(*parts.values(), strict=True)]


# Tokens


def with_mask(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with a mask token, and with [CLS] in front of a text and its end token behind.

    A tokenizer that has a mask token is returned as it is. What is new comes after the vocabulary, so ids stay.
    """
    if tokenizer.mask_id is not None:
        return tokenizer
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    # Where a space is the beginning of the next token, the mask takes that space with it (as RoBERTa's does).
    mask = AddedToken(MASK, lstrip=isinstance(backend.decoder, decoders.ByteLevel), normalized=False, special=True)
    backend.add_special_tokens([mask, AddedToken(CLS, normalized=False, special=True)])
    end = backend.id_to_token(tokenizer.eos_id)
    ids = [(CLS, backend.token_to_id(CLS)), (end, tokenizer.eos_id)]
    backend.post_processor = TemplateProcessing(
        single=[CLS, "$A", end], pair=[CLS, "$A", end, "$B:1", f"{end}:1"], special_tokens=ids
    )
    return Tokenizer(backend, {**tokenizer.config, "mask_token": MASK, "cls_token": CLS, "sep_token": end})
