import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import DataError
from danlu.data.batches import PackedBatches, render_chats, tokenise_texts
from danlu.data.stream import FileRows, StreamBatches
from tests.conftest import couplets
from tests.data.small_shards import chats, prepared


class Numbers:
    """Texts are "first count": that many numbers from `first` on; no two documents share one."""

    eos_id = 7

    def encode_batch(self, texts):
        return [list(range(int(a), int(a) + int(n))) for a, n in (text.split() for text in texts)]

    def render(self, messages):
        raise NotImplementedError


def rows(lengths):
    return [{"text": f"{1000 * n} {length}"} for n, length in enumerate(lengths, 1)]


def source(rows):
    return lambda start: iter(rows[start:])


def targets_in(batches):
    return sorted(int(label) for batch in batches for label in batch["labels"].flatten() if label not in (-100, 7))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def taken(batches, number):
    return list(itertools.islice(batches, number))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=60),
    st.integers(2, 16),
    st.integers(1, 4),
    st.integers(1, 200),
    st.booleans(),
)
def test_every_token_is_a_target_once(lengths, seq_len, batch_size, window, shuffle):
    data = rows([*lengths, 3])
    stream = StreamBatches(
        source(data), Numbers(), seq_len, batch_size, window=window, shuffle=shuffle, epochs=1, drop_last=False
    )
    batches = list(stream)
    ids = Numbers().encode_batch([row["text"] for row in data])
    assert targets_in(batches) == sorted(token for document in ids for token in document[1:])
    ends = sum(int((batch["labels"] == 7).sum()) for batch in batches)
    assert ends == sum(map(bool, ids))
    assert all(len(batch["labels"]) == batch_size for batch in batches[:-1])
    for batch in batches:
        inside = batch["position_ids"] > 0
        assert (batch["segment_ids"][inside] == batch["segment_ids"].roll(1, 1)[inside]).all()
        assert (batch["labels"][inside] == batch["input_ids"][inside]).all()


LENGTHS = [(7 * n) % 23 for n in range(1, 150)]


def streamed(data=None, **settings):
    settings = {"window": 120, "seed": 3} | settings
    return StreamBatches(source(rows(LENGTHS) if data is None else data), Numbers(), 16, 3, **settings)


def test_resuming_at_every_batch_of_three_epochs():
    whole, states, expected = streamed(epochs=3), [], []
    while True:
        states.append(json.loads(json.dumps(whole.state_dict())))
        batch = next(whole, None)
        if batch is None:
            break
        expected.append(batch)
    assert whole.epoch == 3
    assert len({state["number"] for state in states}) > 5
    assert {state["carried"] for state in states} == {0, 1, 2}
    for at, state in enumerate(states):
        again = streamed(epochs=3)
        next(again)  # wherever it stood
        again.load_state_dict(state)
        assert again.state_dict() == state
        assert all(map(same, taken(again, 4), expected[at : at + 4])), at
        if at % 10 == 0:
            again.load_state_dict(state)
            assert len(list(again)) == len(expected) - at


def test_epochs_are_shuffled_anew_by_the_seed():
    def epoch(number, **settings):
        batches = list(streamed(epochs=2, **settings))
        half = len(batches) // 2
        return [batch["input_ids"].tolist() for batch in batches[number * half : (number + 1) * half]]

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)
    assert epoch(0) != epoch(0, seed=4)
    assert epoch(0, shuffle=False) == epoch(1, shuffle=False)


def test_a_source_that_changed_is_named():
    stream = streamed()
    taken(stream, 12)
    state = stream.state_dict()
    changed = rows(LENGTHS)
    changed[int(state["row"]) + 1] = {"text": "5 9"}
    with pytest.raises(DataError, match="source"):
        streamed(changed).load_state_dict(state)
    with pytest.raises(DataError, match="source"):
        streamed(rows(LENGTHS)[1:]).load_state_dict(state)
    with pytest.raises(DataError, match="changed"):
        streamed(seed=9).load_state_dict(state)


def test_one_window_unshuffled_is_what_packed_batches_gives(tokenizer):
    texts = couplets(200)
    data = [{"text": text} for text in texts]
    packed = PackedBatches(tokenise_texts(texts, tokenizer), 24, 4, shuffle=False, pad_id=2, epochs=2)
    stream = StreamBatches(source(data), tokenizer, 24, 4, shuffle=False, pad_id=2, epochs=2)
    expected, found = list(packed), list(stream)
    assert len(expected) == len(found) > 4
    assert all(map(same, expected, found))


def test_chats(tokenizer):
    data = chats(60)
    stream = StreamBatches(source(data), tokenizer, 40, 2, content="messages", window=200, epochs=1, drop_last=False)
    documents = render_chats(data, tokenizer)
    packed = PackedBatches(documents, 40, 2, long="truncate", epochs=1, drop_last=False)
    assert targets_in(stream) == targets_in(packed)


def test_files_are_read_from_any_row(tmp_path):
    folder = prepared(tmp_path / "data", [f"text {n}" for n in range(9)])
    read = FileRows(folder / "train.jsonl", columns=("text",))
    assert [row["text"] for row in read(6)] == ["text 6", "text 7", "text 8"]
    assert len(list(read(0))) == 9
    assert list(read(20)) == []


def test_memory_holds_a_window_not_the_corpus():
    seen = 0

    def endless(start):
        nonlocal seen
        for number in itertools.count(start):
            seen += 1
            yield {"text": f"{number % 50} 9"}

    stream = StreamBatches(endless, Numbers(), 16, 3, window=100)
    taken(stream, 10)
    assert seen < 600


def test_what_cannot_be_streamed_is_told():
    with pytest.raises(DataError, match="not one batch"):
        next(streamed(rows([3, 4])))
    with pytest.raises(DataError, match="not one batch"):
        next(streamed([]))
    with pytest.raises(DataError, match="row 2 has no text"):
        next(streamed([*rows([3]), {"title": "x"}]))
    with pytest.raises(DataError):
        StreamBatches(source([]), Numbers(), 1, 1)
