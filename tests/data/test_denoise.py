import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from danlu.core.errors import ConfigError, DataError
from danlu.data.batches import PackedBatches, tokenise_texts
from danlu.data.denoise import (
    DenoiseBatches,
    SpanConfig,
    add_sentinels,
    corrupt,
    filled,
    restore,
    sentinel_ids,
    span_counts,
)
from danlu.tokenizer import Tokenizer

SENTINELS = list(range(1000, 1100))
SPANS = SpanConfig()


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_by_hand_from_the_paper():
    # fig. 2: "Thank you for inviting me to your party last week ." with blanks for "for inviting" and "last"
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
    ids = list(range(len(words)))
    spans = SpanConfig(density=3 / 11, mean_span=1.5)
    assert span_counts(11, spans) == (3, 2)
    found = {tuple(corrupt(ids, SENTINELS, drawn(seed), spans)[1]) for seed in range(3000)}
    assert (1000, 2, 3, 1001, 8, 1002) in found  # "<X> for inviting <Y> last <Z>"
    assert len(found) == 2 * 36  # two ways to cut 3 into 2 blanks; 9 gaps, of which 2 are chosen


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(0, 999), min_size=2, max_size=300),
    st.floats(0.01, 0.99),
    st.floats(1.0, 10.0),
    st.integers(0, 2**32),
)
def test_sentinels_substituted_back_give_the_text(ids, density, mean_span, seed):
    spans, sentinels = SpanConfig(density=density, mean_span=mean_span), list(range(1000, 1400))
    source, target = corrupt(ids, sentinels, drawn(seed), spans)
    assert restore(source, target, sentinels) == ids
    taken, blanks = span_counts(len(ids), spans)
    assert len(source) == len(ids) - taken + blanks
    assert len(target) == taken + blanks + 1
    used = [token for token in source if token >= 1000]
    assert used == sentinels[:blanks]  # each once, in order
    assert [token for token in target if token >= 1000] == sentinels[: blanks + 1]
    assert all(not (a >= 1000 and b >= 1000) for a, b in zip(source, source[1:], strict=False))  # else they were one


def test_statistics_are_those_asked_for():
    length, runs = 512, 400
    place = np.zeros(length)
    sizes: list[int] = []
    for seed in range(runs):
        source, target = corrupt(range(length), range(1000, 1100), drawn(seed), SPANS)
        kept = [token for token in source if token < 1000]
        place[kept] += 1
        ends = [at for at, token in enumerate(target) if token >= 1000]
        sizes += [b - a - 1 for a, b in zip(ends, ends[1:], strict=False)]
    assert 1 - place.sum() / (runs * length) == pytest.approx(0.15, abs=0.001)
    assert np.mean(sizes) == pytest.approx(3.0, abs=0.05)
    assert min(sizes) == 1
    assert max(sizes) > 8  # the sizes vary: about geometric
    taken = 1 - place / runs
    assert abs(taken[50:-50].mean() - 0.15) < 0.01
    assert taken[0] > 0.02  # the ends may be blanks too
    assert taken[-1] > 0.02
    assert np.abs(taken - 0.15).max() < 0.12


def test_the_shortest_text_and_too_many_blanks():
    source, target = corrupt([5, 6], SENTINELS, drawn(), SPANS)
    assert restore(source, target, SENTINELS) == [5, 6]
    assert (len(source), len(target)) == (2, 3)
    with pytest.raises(ConfigError, match="26 blanks.*26 sentinels"):
        corrupt(range(512), SENTINELS[:26], drawn(), SPANS)
    corrupt(range(512), SENTINELS[:27], drawn(), SPANS)


def test_restore_leaves_open_what_a_model_did_not_answer():
    source = [1, 1000, 2, 1001, 3]
    assert restore(source, [7, 1000, 8, 9, 1002, 4, 1000, 5], SENTINELS) == [1, 8, 9, 2, 1001, 3]
    assert restore(source, [], SENTINELS) == source


def test_filled_blanks_are_shown_in_brackets(tokenizer):
    more = add_sentinels(tokenizer, 4)
    source = more.encode("春<extra_id_0>花<extra_id_1>月<extra_id_2>", special=True)
    target = more.encode("<extra_id_0>山水<extra_id_2>落<extra_id_3>", special=True)
    assert filled(more, [*source, more.eos_id], target) == "春[山水]花[]月[落]"


def test_sentinels_are_tokens_that_transformers_knows_too(tmp_path, tokenizer):
    assert sentinel_ids(tokenizer) == []
    more = add_sentinels(tokenizer, 5)
    ids = sentinel_ids(more)
    assert ids == list(range(tokenizer.vocab_size, tokenizer.vocab_size + 5))
    assert more.vocab_size == tokenizer.vocab_size + 5
    assert sentinel_ids(tokenizer) == []  # the one it was made of is as it was
    assert more.encode("春<extra_id_0>山", special=True)[1] == ids[0]
    assert ids[0] not in more.encode("春<extra_id_0>山")  # text that spells it is only text
    more.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("春<extra_id_4>山")["input_ids"] == more.encode("春<extra_id_4>山", special=True)
    assert "<extra_id_4>" in theirs.all_special_tokens
    assert sentinel_ids(add_sentinels(Tokenizer.load(tmp_path), 7)) == [*ids, ids[-1] + 1, ids[-1] + 2]


def batches(tokenizer: Tokenizer, texts: list[str], **changed) -> tuple[DenoiseBatches, Tokenizer]:
    more = add_sentinels(tokenizer, 20)
    packed = PackedBatches(tokenise_texts(texts, more, add_eos=False), 48, 4, seed=1, pad_id=more.pad_id)
    spans = SpanConfig(**{"sentinels": 20} | changed)
    return DenoiseBatches(packed, sentinel_ids(more), spans, start_id=more.pad_id, eos_id=more.eos_id), more


def test_batches_hold_every_text_and_pair_source_with_target(tokenizer, texts):
    denoised, more = batches(tokenizer, texts)
    sentinels, seen = sentinel_ids(more), []
    for _ in range(len(denoised)):
        batch = next(denoised)
        assert {name: tensor.dtype for name, tensor in batch.items()} == dict.fromkeys(batch, torch.int64)
        assert batch["decoder_input_ids"].shape == batch["labels"].shape == batch["decoder_segment_ids"].shape
        for row in range(len(batch["input_ids"])):
            for number in range(1, int(batch["segment_ids"][row].max()) + 1):
                source = batch["input_ids"][row, batch["segment_ids"][row] == number].tolist()
                inside = batch["decoder_segment_ids"][row] == number
                target, read = batch["labels"][row, inside].tolist(), batch["decoder_input_ids"][row, inside].tolist()
                assert source[-1] == target[-1] == more.eos_id
                assert read == [more.pad_id, *target[:-1]]
                seen.append(more.decode(restore(source[:-1], target[:-1], sentinels)))
        padding = batch["decoder_segment_ids"] == 0
        assert (batch["labels"][padding] == -100).all()
        assert (batch["input_ids"][batch["segment_ids"] == 0] == more.pad_id).all()
    assert set(seen) <= set(texts)
    assert len(seen) > 0.9 * len(texts)  # all but the rows that did not fill the last batch


def test_blanks_fall_elsewhere_in_each_epoch_and_resume_where_they_were(tokenizer, texts):
    denoised, _ = batches(tokenizer, texts[:40])
    told = [next(denoised) for _ in range(3 * len(denoised))]
    states = []
    again, _ = batches(tokenizer, texts[:40])
    for batch in told:
        assert all(torch.equal(batch[name], tensor) for name, tensor in next(again).items())
        states.append(again.state_dict())
    assert not any(torch.equal(told[0]["labels"], other["labels"]) for other in told[1:])
    middle, _ = batches(tokenizer, texts[:40])
    middle.load_state_dict(states[4])
    assert torch.equal(next(middle)["labels"], told[5]["labels"])
    other, _ = batches(tokenizer, texts[:40], density=0.3)
    with pytest.raises(DataError, match="blanks"):
        other.load_state_dict(states[4])


def test_a_tokenizer_without_sentinels_is_refused(tokenizer, texts):
    packed = PackedBatches(tokenise_texts(texts, tokenizer), 48, 4)
    with pytest.raises(DataError, match="extra_id_0"):
        DenoiseBatches(packed, sentinel_ids(tokenizer), SPANS, start_id=0, eos_id=0)
