import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import DataError
from danlu.data.batches import PackedBatches, render_chats, tokenise_texts, valid_batches
from danlu.data.pack import Document

NAMES = {"input_ids", "labels", "position_ids", "segment_ids"}


class Characters:
    """A tokenizer of single characters; chats are 'role: content' with a mask on what the assistant says."""

    eos_id = 0

    def encode_batch(self, texts):
        return [[ord(character) for character in text] for text in texts]

    def render(self, messages):
        ids, mask = [], []
        for message in messages:
            part = self.encode_batch([message["content"]])[0] + [self.eos_id]
            ids += part
            mask += [message["role"] == "assistant"] * len(part)
        return ids, mask


def corpus(count=50, longest=9):
    """Documents of 2 to `longest` tokens, no two alike."""
    return [Document([100 * n + k for k in range(2 + n % (longest - 1))]) for n in range(1, count + 1)]


def found_documents(batches):
    """(ids, targets) of each document, in sorted order, taken back out of the batches."""
    found = []
    for batch in batches:
        for ids, labels, segments in zip(batch["input_ids"], batch["labels"], batch["segment_ids"], strict=True):
            for segment in range(1, int(segments.max()) + 1):
                here = segments == segment
                found.append((tuple(ids[here].tolist()), tuple(labels[here].tolist())))
    return sorted(found)


def test_a_row_by_hand():
    """Longest first: 4, then 3 beside it (of 8), then 2 opens the next row, for only one place is left."""
    documents = [Document([1, 2]), Document([3, 4, 5], [True, False, True]), Document([6, 7, 8, 9])]
    (batch,) = valid_batches(documents, 8, 4, pad_id=99)
    assert batch["input_ids"].tolist() == [[6, 7, 8, 9, 3, 4, 5, 99], [1, 2, 99, 99, 99, 99, 99, 99]]
    assert batch["labels"].tolist() == [[-100, 7, 8, 9, -100, -100, 5, -100], [-100, 2] + [-100] * 6]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0], [0, 1] + [0] * 6]
    assert batch["segment_ids"].tolist() == [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1] + [0] * 6]
    assert set(batch) == NAMES
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


@settings(deadline=None)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=40), st.integers(1, 5), st.booleans())
def test_an_epoch_holds_every_document_once(lengths, batch_size, shuffle):
    documents = [Document([100 * n + k for k in range(length)]) for n, length in enumerate(lengths, 1)]
    packed = PackedBatches(documents, 12, batch_size, shuffle=shuffle, epochs=1, drop_last=False)
    batches = list(packed)
    assert len(batches) == len(packed)
    assert found_documents(batches) == sorted(
        (tuple(ids), (-100, *ids[1:])) for ids in (list(document.ids) for document in documents)
    )
    assert packed.tokens_per_epoch == sum(lengths)
    assert packed.targets_per_epoch == sum(lengths) - len(lengths)
    assert packed.fill == pytest.approx(sum(lengths) / (12 * packed.rows))


def test_full_batches_only_unless_asked():
    packed = PackedBatches(corpus(), 16, 4, epochs=1)
    batches = list(packed)
    assert {tuple(batch["input_ids"].shape) for batch in batches} == {(4, 16)}
    assert len(batches) == len(packed) == packed.rows // 4
    assert sum(len(batch["input_ids"]) for batch in valid_batches(corpus(), 16, 4)) == packed.rows


def flat(batch):
    return tuple(batch["input_ids"].flatten().tolist())


def test_epochs_differ_in_rows_and_order_and_the_seed_decides():
    def epochs(seed, shuffle=True):
        packed = PackedBatches(corpus(), 16, 2, seed=seed, shuffle=shuffle, drop_last=False)
        return [[flat(batch) for batch in itertools.islice(packed, len(packed))] for _ in range(3)]

    one = epochs(0)
    assert one == epochs(0)
    assert one != epochs(1)
    assert one[0] != one[1] != one[2]
    rows = [{row[at : at + 16] for row in epoch for at in range(0, len(row), 16)} for epoch in one]
    assert rows[0] != rows[1]  # neighbours change too
    still = epochs(0, shuffle=False)
    assert still[0] == still[1] == still[2]


@pytest.mark.parametrize("taken", [0, 1, 4, 9, 10, 11, 25])
def test_resuming_goes_on_exactly(taken):
    def fresh():
        return PackedBatches(corpus(), 16, 2, seed=3)

    whole = fresh()
    assert len(whole) == 9
    expected = [flat(batch) for batch in itertools.islice(whole, 40)][taken:]
    first = fresh()
    for _ in range(taken):
        next(first)
    state = json.loads(json.dumps(first.state_dict()))
    assert len(json.dumps(state)) < 200
    second = fresh()
    next(second)  # wherever it stood
    second.load_state_dict(state)
    assert [flat(batch) for batch in itertools.islice(second, 40 - taken)] == expected


def test_a_finished_iterator_stays_finished_also_after_resuming():
    packed = PackedBatches(corpus(), 16, 2, epochs=2)
    assert len(list(packed)) == 2 * len(packed)
    again = PackedBatches(corpus(), 16, 2, epochs=2)
    again.load_state_dict(packed.state_dict())
    assert list(packed) == list(again) == []


@pytest.mark.parametrize(
    ("documents", "settings"),
    [
        (corpus(49), {}),
        (corpus(), {"seed": 4}),
        (corpus(), {"batch_size": 3}),
        (corpus(), {"seq_len": 17}),
        ([Document([document.ids[0] + 1, *list(document.ids)[1:]]) for document in corpus()], {}),
        ([Document(document.ids, [True] * (len(document.ids) - 1) + [len(document.ids) < 9]) for document in corpus()], {}),
    ],
)  # fmt: skip
def test_resuming_with_other_data_or_settings_is_refused(documents, settings):
    state = PackedBatches(corpus(), 16, 2, seed=3).state_dict()
    with pytest.raises(DataError) as caught:
        PackedBatches(documents, **{"seq_len": 16, "batch_size": 2, "seed": 3} | settings).load_state_dict(state)
    assert caught.value.do


def test_a_corpus_smaller_than_one_batch_says_what_to_do():
    with pytest.raises(DataError, match="18") as caught:
        PackedBatches(corpus(), 16, 100)
    assert "18" in caught.value.do
    for nothing in ([], [Document([1])], [Document([1, 2], [True, False])]):
        with pytest.raises(DataError):
            PackedBatches(nothing, 16, 1)
        with pytest.raises(DataError):
            valid_batches(nothing, 16, 1)
    with pytest.raises(DataError):
        PackedBatches(corpus(), 1, 1)


def test_texts_become_documents_closed_by_the_end_token():
    texts = [f"text {number}" for number in range(3000)]  # more than one portion
    documents = tokenise_texts(texts, Characters())
    assert ["".join(map(chr, document.ids)) for document in documents] == [text + "\0" for text in texts]
    assert tokenise_texts(["ab"], Characters(), add_eos=False) == [Document([97, 98])]


def test_chats_have_their_loss_on_the_answer_alone():
    chat = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]
    documents = render_chats([{"messages": chat}], Characters())
    (batch,) = valid_batches(documents, 8, 1)
    assert batch["labels"].tolist() == [[-100, -100, -100, 99, 100, 0, -100, -100]]


@pytest.mark.parametrize("row", [{"text": "x"}, {"messages": []}])
def test_a_row_without_messages_is_named(row):
    with pytest.raises(DataError, match="2"):
        render_chats([{"messages": [{"role": "user", "content": "a"}]}, row], Characters())
