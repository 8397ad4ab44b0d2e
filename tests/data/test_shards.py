import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import DataError
from danlu.data.shards import Shards, ShardWriter, Told, dtype_for, is_shards
from tests.conftest import couplets
from tests.data.small_shards import chats, contents, sharded


def told(lengths, first=0, masked=False):
    ids = np.arange(first, first + sum(lengths), dtype=np.uint16)
    sizes = np.array(lengths, dtype=np.int64)
    return Told(ids, ids % 3 == 0 if masked else None, sizes, first + np.cumsum(sizes), sizes, sizes)


def written(folder, parts, limit, masked=False):
    folder.mkdir(parents=True)
    records, first = [], 0
    writer = ShardWriter(folder, "train", 0, limit, dtype_for(60_000), records.append)
    for lengths in parts:
        writer.add(told(lengths, first, masked))
        first += sum(lengths)
    writer.close()
    return records


@settings(deadline=None, max_examples=15)
@given(st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=5), st.integers(20, 99), st.booleans())
def test_shards_do_not_depend_on_how_documents_arrive(tmp_path_factory, parts, limit, masked):
    folder = tmp_path_factory.mktemp("shards")
    records = written(folder / "parts", parts, limit, masked)
    together = [length for part in parts for length in part]
    assert written(folder / "one", [together], limit, masked) == records
    assert written(folder / "each", [[length] for length in together], limit, masked) == records
    assert contents(folder / "parts") == contents(folder / "one") == contents(folder / "each")
    assert sum(record["documents"] for record in records) == len(together)
    assert all(record["tokens"] >= limit for record in records[:-1])
    tokens = np.concatenate(
        [np.fromfile(folder / "one" / f"{r['name']}.tokens", "<u2") for r in records] or [np.zeros(0)]
    )
    assert tokens.tolist() == list(range(sum(together)))
    assert [record["source_end"] for record in records] == np.cumsum([record["tokens"] for record in records]).tolist()


def test_the_smallest_dtype_that_holds_the_vocabulary():
    assert [dtype_for(size).itemsize for size in (10, 1 << 16, (1 << 16) + 1)] == [2, 2, 4]


def test_a_shard_is_mapped_not_read(tmp_path, tokenizer):
    shards = sharded(tmp_path, tokenizer, chats(20), content="messages")
    arrays = shards.arrays(shards.list("train")[0])
    assert all(isinstance(array, np.memmap) for array in arrays)
    assert len(arrays.tokens) == arrays.offsets[-1] == shards.list("train")[0]["tokens"]
    assert arrays.mask is not None
    assert len(arrays.mask) == -(-len(arrays.tokens) // 8)
    assert shards.tokenizer().encode("春山") == tokenizer.encode("春山")
    shards.verify()
    assert is_shards(shards.path)
    assert not is_shards(tmp_path)


@pytest.mark.parametrize("kind", ["tokens", "offsets"])
@pytest.mark.parametrize("damage", ["truncated", "longer", "missing", "altered"])
def test_a_shard_that_is_not_as_written_is_named(tmp_path, tokenizer, kind, damage):
    shards = sharded(tmp_path, tokenizer, couplets(100))
    file = shards.path / f"train-00002.{kind}"
    data = file.read_bytes()
    changed = {"truncated": data[:-1], "longer": data + b"x", "altered": data[:9] + bytes([data[9] ^ 4]) + data[10:]}
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(changed[damage])
    with pytest.raises(DataError, match=file.name) as caught:
        again = Shards.open(shards.path)  # sizes are looked at here, bytes where they are first used
        assert damage == "altered"
        again.arrays(again.list("train")[0])
        again.arrays(again.list("train")[2])
    assert "danlu data tokenise" in caught.value.do
    with pytest.raises(DataError, match=file.name):
        Shards(shards.path, shards.record).verify()


def test_another_tokenizer_beside_the_shards_is_named(tmp_path, tokenizer):
    shards = sharded(tmp_path, tokenizer, couplets(20))
    file = shards.path / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text().replace("春", "蠢"))
    with pytest.raises(DataError, match="tokenizer"):
        Shards.open(shards.path)


def test_what_is_no_folder_of_shards_and_what_is_no_split(tmp_path, tokenizer):
    with pytest.raises(DataError, match="shards.json") as caught:
        Shards.open(tmp_path)
    assert "danlu data tokenise" in caught.value.do
    with pytest.raises(DataError, match="exam") as caught:
        sharded(tmp_path, tokenizer, couplets(20)).list("exam")
    assert "train" in caught.value.do
