import itertools
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import DataError
from danlu.data.batches import PackedBatches, render_chats, tokenise_texts
from danlu.data.pack import Document, flatten
from danlu.data.sharded import ShardedBatches
from danlu.data.shards import Shards, ShardWriter, Told, dtype_for
from tests.conftest import couplets
from tests.data.small_shards import chats, sharded


def shards_of(folder, documents, limit):
    """Shards of ready documents, written without a tokenizer."""
    folder.mkdir(parents=True)
    records = []
    writer = ShardWriter(folder, "train", 0, limit, dtype_for(1 << 20), records.append)
    for document in documents:
        ids, one = np.array(document.ids, dtype=np.uint32), np.array([len(document.ids)])
        mask = None if document.mask is None else np.array(document.mask, dtype=bool)
        writer.add(Told(ids, mask, one, one, one, one))
    writer.close()
    masked = documents[0].mask is not None
    return Shards(folder, {"dtype": "<u4", "masked": masked, "pad_id": 0, "splits": {"train": records}})


def numbered(lengths):
    return [Document([1000 * n + k for k in range(length)]) for n, length in enumerate(lengths, 1)]


def targets_in(batches):
    """The labels, sorted; of tokens that occur once each it says whether each is a target once."""
    return sorted(label for batch in batches for label in batch["labels"].flatten().tolist() if label != -100)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def taken(batches, number):
    return list(itertools.islice(batches, number))


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=50),
    seq_len=st.integers(2, 20),
    batch_size=st.integers(1, 4),
    limit=st.integers(100, 600),
    window=st.integers(1, 300),
    mix=st.integers(1, 4),
    shuffle=st.booleans(),
)
def test_every_token_is_a_target_once_in_each_epoch(
    tmp_path_factory, lengths, seq_len, batch_size, limit, window, mix, shuffle
):
    documents = numbered([*lengths, 3])
    shards = shards_of(tmp_path_factory.mktemp("x") / "shards", documents, limit)
    batches = ShardedBatches(
        shards, "train", seq_len, batch_size, shuffle=shuffle, window=window, mix=mix, epochs=2, drop_last=False
    )
    expected = sorted(token for document in documents for token in list(document.ids)[1:])
    for _ in range(2):
        epoch = taken(batches, len(batches))
        assert targets_in(epoch) == expected
        for batch in epoch:  # positions and segments say what is next to what
            new = batch["position_ids"] == 0
            assert (batch["labels"][new] == -100).all()
            inside = ~new
            assert (batch["input_ids"][inside] - batch["input_ids"].roll(1, 1)[inside] == 1).all()
            assert (batch["segment_ids"][inside] == batch["segment_ids"].roll(1, 1)[inside]).all()
            assert (batch["labels"][inside] == batch["input_ids"][inside]).all()
    assert next(batches, None) is None
    assert batches.targets_per_epoch == len(expected)
    assert batches.tokens_per_epoch == flatten(documents, seq_len).lengths.sum()


@pytest.mark.parametrize("kind", ["text", "messages"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_one_window_gives_the_batches_of_packed_batches_bit_for_bit(tmp_path, tokenizer, kind, shuffle):
    rows = couplets(200) if kind == "text" else chats(100)
    shards = sharded(tmp_path, tokenizer, rows, content=kind, shard_tokens=10**6)
    documents = tokenise_texts(rows, tokenizer) if kind == "text" else render_chats(rows, tokenizer)
    long = "pieces" if kind == "text" else "truncate"
    settings = {"seed": 5, "shuffle": shuffle, "long": long, "pad_id": tokenizer.pad_id}
    packed = PackedBatches(documents, 24, 3, **settings)
    mine = ShardedBatches(shards, "train", 24, 3, **settings)
    assert len(mine) == len(packed) > 5
    for name in ("rows", "documents", "tokens_per_epoch", "targets_per_epoch", "fill"):
        assert getattr(mine, name) == getattr(packed, name)
    number = 2 * len(packed) + 3
    assert all(map(same, taken(mine, number), taken(packed, number)))


def test_masked_targets_over_many_shards(tmp_path, tokenizer):
    rows = chats(80)
    shards = sharded(tmp_path, tokenizer, rows, content="messages", shard_tokens=150)
    documents = render_chats(rows, tokenizer)
    settings = {"long": "truncate", "epochs": 1, "drop_last": False}
    mine = ShardedBatches(shards, "train", 40, 2, window=90, mix=3, **settings)
    packed = PackedBatches(documents, 40, 2, **settings)
    assert len(shards.list("train")) > 5
    assert targets_in(mine) == targets_in(packed)
    assert mine.targets_per_epoch == packed.targets_per_epoch


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    lengths = np.random.default_rng(1).integers(2, 40, 120).tolist()
    return shards_of(tmp_path_factory.mktemp("several") / "shards", numbered(lengths), 400)


SMALL = {"window": 150, "mix": 3, "seed": 7}


def test_resuming_at_every_batch(several):
    def fresh():
        return ShardedBatches(several, "train", 16, 4, **SMALL)

    whole, states = fresh(), []
    expected = []
    for _ in range(2 * len(whole) + 2):
        states.append(json.loads(json.dumps(whole.state_dict())))
        expected.append(next(whole))
    assert len(several.list("train")) > 4
    other = fresh()
    for at, state in enumerate(states):
        other.load_state_dict(state)
        assert all(map(same, taken(other, 3), expected[at : at + 3])), at
        assert other.state_dict() == states[min(at + 3, len(states) - 1)] or at + 3 >= len(states)
    assert len(json.dumps(states[-1])) < 200


@pytest.mark.parametrize("settings", [{"seed": 8}, {"window": 151}, {"mix": 2}, {"world": 2}])
def test_resuming_with_other_settings_is_refused(several, settings):
    state = ShardedBatches(several, "train", 16, 4, **SMALL).state_dict()
    with pytest.raises(DataError, match="changed"):
        ShardedBatches(several, "train", 16, 4, **SMALL | settings).load_state_dict(state)


def test_other_shards_are_refused(several, tmp_path):
    state = ShardedBatches(several, "train", 16, 4, **SMALL).state_dict()
    other = shards_of(tmp_path / "other", numbered(np.random.default_rng(2).integers(2, 40, 120).tolist()), 400)
    with pytest.raises(DataError, match="changed"):
        ShardedBatches(other, "train", 16, 4, **SMALL).load_state_dict(state)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_an_epoch_out(several, world):
    ranks = [ShardedBatches(several, "train", 16, 4, rank=rank, world=world, **SMALL) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    alone = ShardedBatches(several, "train", 16, 4 * world, **SMALL)
    for _ in range(2 * len(ranks[0])):
        parts = [next(rank) for rank in ranks]
        assert same({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, next(alone))
    assert len({json.dumps(rank.state_dict()) for rank in ranks}) == 1


def test_ranks_need_full_batches_and_a_place_among_themselves(several):
    for wrong in ({"rank": 2, "world": 2}, {"rank": -1, "world": 1}, {"world": 2, "drop_last": False}):
        with pytest.raises(DataError):
            ShardedBatches(several, "train", 16, 4, **wrong)


def test_epochs_differ_and_the_seed_decides(several):
    def epochs(**settings):
        batches = ShardedBatches(several, "train", 16, 4, **SMALL | settings)
        return [
            [tuple(batch["input_ids"].flatten().tolist()) for batch in taken(batches, len(batches))] for _ in range(2)
        ]

    one = epochs()
    assert one == epochs()
    assert one[0] != one[1]
    assert one != epochs(seed=8)
    still = epochs(shuffle=False)
    assert still[0] == still[1]


def test_shuffling_brings_far_parts_together(tmp_path):
    """Two sources, one after the other: with a mix of all windows a batch has rows of both, unshuffled never."""
    shards = shards_of(tmp_path / "shards", numbered([16] * 400), 800)
    first = 1000 * 201

    def sides(**settings):
        batches = ShardedBatches(shards, "train", 16, 40, window=400, **settings)
        return [(batch["input_ids"][:, 0] < first).float().mean().item() for batch in taken(batches, len(batches))]

    assert set(sides(shuffle=False)) == {0.0, 1.0}
    mixed = sides(mix=100)
    assert min(mixed) > 0.2
    assert max(mixed) < 0.8


def test_packing_by_windows_loses_little(tmp_path):
    lengths = np.minimum(np.random.default_rng(0).lognormal(3, 1, 3000).astype(int) + 2, 128)
    shards = shards_of(tmp_path / "shards", [Document(range(length)) for length in lengths], 30_000)
    assert ShardedBatches(shards, "train", 128, 4, window=10_000).fill > 0.98


def test_it_goes_to_another_process_without_its_tokens(several):
    batches = ShardedBatches(several, "train", 16, 4, **SMALL)
    expected = taken(batches, 5)
    sent = pickle.dumps(batches)
    assert len(sent) < 6000
    again = pickle.loads(sent)
    assert same(next(again), next(batches))
    again.load_state_dict({**batches.state_dict(), "epoch": 0, "batch": 0})
    assert all(map(same, taken(again, 5), expected))


def test_a_damaged_shard_is_named(several, tmp_path):
    shards = shards_of(tmp_path / "shards", numbered([5] * 100), 100)
    file = tmp_path / "shards" / "train-00003.tokens"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(DataError, match="train-00003"):
        ShardedBatches(shards, "train", 16, 4)


def test_too_small_a_corpus(several):
    with pytest.raises(DataError, match="less than one batch"):
        ShardedBatches(several, "train", 16, 10_000)
    with pytest.raises(DataError):
        ShardedBatches(several, "train", 1, 1)
