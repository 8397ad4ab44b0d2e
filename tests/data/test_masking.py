import itertools
import json
import sys

import numpy as np
import pytest
import torch
from scipy.stats import binom
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from danlu.core.errors import ConfigError, DataError, MissingExtraError
from danlu.data.batches import PackedBatches
from danlu.data.masking import (
    MaskedBatches,
    Masker,
    MaskingConfig,
    fixed_masking,
    mark_words,
    mask_words,
    number_words,
    with_mask,
    word_starts,
)
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tests.tokenizer.corpus import CHINESE, ENGLISH

IGNORE = -100


def trained(kind: str, text: str = CHINESE + ENGLISH) -> Tokenizer:
    return with_mask(train_tokenizer([text], TokenizerConfig(kind=kind, vocab_size=600, chat_template="none")))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return trained("bpe")


@pytest.fixture(scope="module")
def documents(tokenizer):
    lines = [line for line in (CHINESE + ENGLISH).splitlines() if line]
    return mark_words(lines * 20, tokenizer)


def wordpieces() -> Tokenizer:
    """BERT's kind of vocabulary, by hand."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "fur", "##nace", "##s", "was", "lit", "春", "晓", "."]
    backend = Backend(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.add_special_tokens(words[:5])
    names = ("pad", "unk", "cls", "sep", "mask")
    return Tokenizer(backend, {f"{name}_token": f"[{name.upper()}]" for name in names})


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("床前明月光，疑是地上霜。", ["床前", "明月光", "，", "疑是", "地上", "霜", "。"]),
        ("北京大学 was lit", ["北京大学", " was", " lit"]),
        ("naïve in 1984.", ["naïve", " in", " ", "1984", "."]),
        ("", []),
    ],
)
def test_words_of_a_text(text, words):
    numbers = number_words(text)
    assert len(numbers) == len(text)
    assert ["".join(c for c, n in zip(text, numbers, strict=True) if n == k) for k in sorted(set(numbers))] == words


def test_a_token_that_reaches_into_the_next_word_ties_the_two():
    """明月光 is one word: of tokens 床|前明|月|光 all after the first go together with it, for 前 is a part of 床前."""
    assert word_starts("床前明月光，", [(0, 1), (1, 3), (3, 4), (4, 5), (5, 6)]) == [True, False, False, False, True]
    assert word_starts("床前明月光，", [(0, 2), (2, 5), (5, 6)]) == [True, True, True]


def test_pieces_of_a_word_in_each_kind_of_vocabulary():
    for one in (wordpieces(), trained("bpe"), trained("char")):
        for text in ("the furnaces was lit.", "春晓。卖豆腐的老人"):
            (found,) = one.encode_framed([text])
            numbers = number_words(text)
            starts = word_starts(text, found.offsets)
            spans = zip(found.offsets, found.offsets[1:], starts[1:], strict=False)
            for (_, before), (start, end), begins in spans:
                if before and start < end:
                    assert begins == (numbers[start] != numbers[before - 1])
    (found,) = wordpieces().encode_framed(["the furnaces was"])
    assert found.tokens == ["[CLS]", "the", "fur", "##nace", "##s", "was", "[SEP]"]
    assert word_starts("the furnaces was", found.offsets) == [True, True, True, False, False, True, True]


def test_chinese_words_without_rjieba_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(MissingExtraError, match="rjieba"):
        number_words("明月")
    assert number_words("the moon") == [1, 1, 1, 2, 2, 2, 2, 2]


def test_marked_ids_hold_the_token_and_the_beginning():
    one = wordpieces()
    (whole,) = mark_words(["the furnaces"], one)
    (pieces,) = mark_words(["the furnaces"], one, whole_words=False)
    assert [number >> 1 for number in whole.ids] == [2, 5, 6, 7, 8, 3] == [number >> 1 for number in pieces.ids]
    assert [number & 1 for number in whole.ids] == [1, 1, 1, 0, 0, 1]
    assert [number & 1 for number in pieces.ids] == [1] * 6


# Chance


def within(count: int, of: int, share: float) -> bool:
    """Whether a count is one that chance gives 9,999 times of 10,000."""
    return bool(binom.ppf(5e-5, of, share) <= count <= binom.ppf(1 - 5e-5, of, share))


def test_shares_are_those_of_the_paper_and_words_go_together():
    random = np.random.default_rng(0)
    length, mask_id, ordinary = 200_000, 3, np.arange(10, 1010)
    ids = random.choice(ordinary, size=length)
    starts = random.random(length) < 0.6
    starts[0] = True
    masked = mask_words(ids, starts, np.ones(length, dtype=bool), 0.15, mask_id, ordinary, random)
    chosen = masked.labels != IGNORE
    word = np.cumsum(starts) - 1
    of_word = np.bincount(word, weights=chosen) / np.bincount(word)
    assert set(of_word.tolist()) == {0.0, 1.0}
    assert within(int(of_word.sum()), len(of_word), 0.15)
    assert abs(chosen.mean() - 0.15) < 0.005
    assert (masked.labels[chosen] == ids[chosen]).all()
    assert (masked.ids[~chosen] == ids[~chosen]).all()
    number = int(chosen.sum())
    assert within(int((masked.ids[chosen] == mask_id).sum()), number, 0.8)
    same = int((masked.ids[chosen] == ids[chosen]).sum())
    assert within(same, number, 0.1 + 0.1 / len(ordinary))  # left, or replaced by itself
    replaced = masked.ids[chosen & (masked.ids != mask_id) & (masked.ids != ids)]
    assert set(replaced.tolist()) <= set(ordinary.tolist())
    halves = np.bincount(replaced < ordinary[500], minlength=2)
    assert within(int(halves[1]), int(halves.sum()), 0.5)


def test_batches_hide_words_of_text_and_nothing_else(tokenizer, documents):
    plain = PackedBatches(documents, 64, 4, seed=1)
    masked = MaskedBatches(PackedBatches(documents, 64, 4, seed=1), Masker(tokenizer, MaskingConfig(), seed=1))
    told = [(len(one), one.documents, one.tokens_per_epoch, one.fill) for one in (plain, masked)]
    assert told[0] == told[1]
    words = hidden = 0
    for marked, batch in itertools.islice(zip(plain, masked, strict=False), 3 * len(plain)):
        ids, labels = marked["input_ids"] >> 1, batch["labels"]
        inside = batch["segment_ids"] > 0
        chosen = labels != IGNORE
        assert (batch["input_ids"][~inside] == tokenizer.pad_id).all()
        assert not chosen[~inside].any()
        assert (labels[chosen] == ids[chosen]).all()
        assert (batch["input_ids"] == ids)[inside & ~chosen].all()
        assert not set(labels[chosen].tolist()) & tokenizer.special_ids
        starts = (marked["input_ids"] & 1 > 0) | (batch["position_ids"] == 0)
        follows = ~starts & inside
        assert (chosen[:, 1:] == chosen[:, :-1])[follows[:, 1:]].all()
        ordinary = inside & ~torch.isin(ids, torch.tensor(sorted(tokenizer.special_ids)))
        words += int((starts & ordinary).sum())
        hidden += int((starts & ordinary & chosen).sum())
    assert within(hidden, words, 0.15)


def test_a_word_cut_by_a_row_is_two_words(tokenizer):
    """A text longer than a row is cut wherever the row ends: what begins there begins a word, in every row."""
    masker = Masker(tokenizer, MaskingConfig(rate=0.5))
    packed = PackedBatches(mark_words(["豆" * 200], tokenizer), 8, 4, shuffle=False)
    batch = next(packed)
    first = {tuple((masker(batch, 0, n)["labels"] != IGNORE)[:, 0].tolist()) for n in range(40)}
    assert len(first) > 4  # rows are chosen independently of each other


# Position


def flat(batch):
    return [batch[name].flatten().tolist() for name in sorted(batch)]


def masks(tokenizer, documents, seed=3, **settings):
    return MaskedBatches(PackedBatches(documents, 64, 4, seed=3), Masker(tokenizer, MaskingConfig(**settings), seed))


@pytest.mark.parametrize("taken", [0, 1, 7, 8, 9, 20])
def test_resuming_goes_on_exactly(tokenizer, documents, taken):
    whole = masks(tokenizer, documents)
    size = len(whole)
    expected = [flat(batch) for batch in itertools.islice(whole, 3 * size)]
    first = masks(tokenizer, documents)
    for _ in range(taken):
        next(first)
    state = json.loads(json.dumps(first.state_dict()))
    second = masks(tokenizer, documents)
    next(second)  # wherever it stood
    second.load_state_dict(state)
    assert [flat(batch) for batch in itertools.islice(second, 3 * size - taken)] == expected[taken:]


def test_each_epoch_and_each_seed_hides_other_words(tokenizer, documents):
    still = PackedBatches(documents, 64, 4, shuffle=False)
    epochs = MaskedBatches(still, Masker(tokenizer, MaskingConfig()))
    one, other = ([flat(next(epochs)) for _ in range(len(epochs))] for _ in range(2))
    assert one != other
    assert flat(next(masks(tokenizer, documents))) != flat(next(masks(tokenizer, documents, seed=4)))
    labels = [batch[1] for batch in one]
    assert len({str(label) for label in labels}) == len(labels)  # batches are not masked alike


def test_resuming_with_another_masking_is_refused(tokenizer, documents):
    state = masks(tokenizer, documents).state_dict()
    for settings in ({"rate": 0.2}, {"seed": 4}):
        with pytest.raises(DataError):
            masks(tokenizer, documents, **settings).load_state_dict(state)
    with pytest.raises(DataError):
        masks(tokenizer, documents[1:]).load_state_dict(state)


def test_the_fixed_masking_holds_every_document_and_does_not_depend_on_the_batch_size(tokenizer, documents):
    one, other = (fixed_masking(documents, 256, rows, tokenizer, MaskingConfig()) for rows in (4, 7))
    assert [len(batch["labels"]) for batch in other[:-1]] == [7] * (len(other) - 1)
    for name in one[0]:
        assert torch.equal(*(torch.cat([batch[name] for batch in batches]) for batches in (one, other)))
    assert sum(int((batch["segment_ids"] > 0).sum()) for batch in one) == sum(len(d.ids) for d in documents)


# Tokens


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_mask_token_comes_after_the_vocabulary_and_transformers_sees_it(kind, tmp_path):
    before = train_tokenizer([CHINESE + ENGLISH], TokenizerConfig(kind=kind, vocab_size=600, chat_template="none"))
    after = with_mask(before)
    assert after.vocab_size == before.vocab_size + 2
    assert after.encode(CHINESE) == before.encode(CHINESE)
    assert after.mask_id not in after.encode("[MASK]")  # in plain text it is six letters
    assert with_mask(after) is after
    after.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.mask_token, theirs.mask_token_id) == ("[MASK]", after.mask_id)
    for text in ("The mill [MASK] slowly", "卖豆腐的[MASK]人"):
        assert theirs(text)["input_ids"] == after.backend.encode(text).ids
    ids = theirs("The mill [MASK] slowly")["input_ids"]
    assert (theirs.decode(ids[:1]), ids[-1]) == ("[CLS]", after.eos_id)
    # where words bring their space along, the mask does too
    assert after.backend.encode("a [MASK]").tokens[1:-1] == (
        ["a", " [MASK]"] if kind == "bpe" else ["a", " ", "[MASK]"]
    )


def test_bert_s_own_kind_is_taken_as_it_is():
    one = wordpieces()
    assert with_mask(one) is one
    assert (one.eos_id, one.mask_id) == (3, 4)
    (batch,) = fixed_masking(mark_words(["the furnaces was lit."] * 4, one), 16, 4, one, MaskingConfig(rate=0.99))
    assert set(batch["labels"].flatten().tolist()) <= {IGNORE, *range(5, 14)}


def test_a_tokenizer_without_mask_is_refused():
    before = train_tokenizer([CHINESE], TokenizerConfig(kind="char", vocab_size=600, chat_template="none"))
    with pytest.raises(ConfigError, match="mask_token"):
        Masker(before, MaskingConfig())
