import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from danlu.core.errors import DataError, StorageError
from danlu.data import tokenise
from danlu.data.batches import render_chats, tokenise_texts
from danlu.data.shards import SHARDS_FILE, Shards
from danlu.tokenizer import TokenizerConfig, train_tokenizer
from tests.conftest import couplets
from tests.data.small_shards import chats, contents, prepared, saved, sharded


def documents_in(shards, split):
    """(ids, mask) of every document, read without the code under test."""
    found = []
    for shard in shards.list(split):
        place = shards.path / shard["name"]
        tokens = np.fromfile(f"{place}.tokens", dtype=shards.record["dtype"])
        offsets = np.fromfile(f"{place}.offsets", dtype="<u8").astype(int)
        bits = np.fromfile(f"{place}.mask", dtype=np.uint8) if shards.masked else np.zeros(0, np.uint8)
        mask = [bits[n // 8] >> (n % 8) & 1 for n in range(len(tokens))] if shards.masked else None
        for a, b in zip(offsets[:-1], offsets[1:], strict=True):
            found.append((tokens[a:b].tolist(), None if mask is None else [int(bit) for bit in mask[a:b]]))
    return found


def configured(folder, **settings):
    own = {"data": folder / "data", "tokenizer": folder / "tokenizer", "out": folder / "shards"}
    return tokenise.Config(**own | {"shard_tokens": 200, "workers": 1} | settings)


def test_every_document_is_there_once_in_order(tmp_path, tokenizer):
    texts = [*couplets(150), "", "no such letters: 丹炉 🜂", *couplets(20, 7)]
    shards = sharded(tmp_path, tokenizer, texts)
    assert len(shards.list("train")) > 10
    assert documents_in(shards, "train") == [
        (list(document.ids), None) for document in tokenise_texts(texts, tokenizer)
    ]
    assert documents_in(shards, "valid") == documents_in(shards, "train")[:3]
    assert shards.total("train", "documents") == len(texts)
    assert shards.total("train", "characters") == sum(map(len, texts))
    assert shards.total("train", "bytes") == sum(len(text.encode()) for text in texts)
    sizes = [shard["tokens"] for shard in shards.list("train")[:-1]]
    longest = max(len(document.ids) for document in tokenise_texts(texts, tokenizer))
    assert all(200 <= size < 200 + longest for size in sizes)
    assert shards.dtype == np.uint16


def test_chats_keep_their_mask_bit_by_bit(tmp_path, tokenizer):
    rows = chats(60)
    shards = sharded(tmp_path, tokenizer, rows, content="messages")
    expected = [(list(document.ids), list(document.mask)) for document in render_chats(rows, tokenizer)]
    assert documents_in(shards, "train") == expected
    assert {0, 1} == {bit for _, mask in expected for bit in mask}


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    many = "".join(chr(number) for number in range(0x4E00, 0x9F00)) + "".join(chr(n) for n in range(0xAC00, 0xD700))
    many += "".join(chr(number) for number in range(0x20000, 0x2A000))
    tokenizer = train_tokenizer([many], TokenizerConfig(kind="char", vocab_size=10**6, min_frequency=1))
    assert tokenizer.vocab_size > 1 << 16
    texts = [many[at : at + 50] for at in range(0, len(many), 50)]
    shards = sharded(tmp_path, tokenizer, texts, shard_tokens=10**5)
    assert shards.dtype == np.uint32
    assert documents_in(shards, "train") == [
        (list(document.ids), None) for document in tokenise_texts(texts, tokenizer)
    ]


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path, tokenizer, monkeypatch, workers):
    texts = couplets(400, 3)
    sharded(tmp_path, tokenizer, texts)
    monkeypatch.setattr(tokenise, "_CHUNK", 777)  # tasks whose borders fall inside lines and inside characters
    tokenise.run(configured(tmp_path, out=tmp_path / "several", workers=workers))
    assert contents(tmp_path / "several") == contents(tmp_path / "shards")


@pytest.mark.parametrize("chunk", [1, 2, 13, 64, 10**6])
def test_nor_on_where_the_file_is_cut(tmp_path, tokenizer, monkeypatch, chunk):
    folder = prepared(tmp_path / "data", couplets(30))
    with open(folder / "train.jsonl", "ab") as file:
        file.write('\n\r\n  \n{"text": "末行没有换行"}'.encode())
    saved(tokenizer, tmp_path / "tokenizer")
    monkeypatch.setattr(tokenise, "_CHUNK", chunk)
    tokenise.run(configured(tmp_path))
    texts = [*couplets(30), "末行没有换行"]
    found = documents_in(Shards.open(tmp_path / "shards"), "train")
    assert found == [(list(document.ids), None) for document in tokenise_texts(texts, tokenizer)]


_KILLED = """
import sys, time
from pathlib import Path
from danlu.data import tokenise
import danlu.data.shards as shards

tokenise._CHUNK = 500
slow = shards.ShardWriter._write

def write(self):
    slow(self)
    time.sleep(0.02)

shards.ShardWriter._write = write
folder = Path(sys.argv[1])
if __name__ == "__main__":
    tokenise.run(tokenise.Config(data=folder / "data", tokenizer=folder / "tokenizer", out=folder / "shards",
                                 shard_tokens=200, workers=1))
"""


@pytest.mark.timeout(120)
def test_killed_again_and_again_it_ends_as_if_nothing_had_been(tmp_path, tokenizer):
    data, own = prepared(tmp_path / "data", couplets(900, 5)), saved(tokenizer, tmp_path / "tokenizer")
    whole = tmp_path / "whole"
    tokenise.run(tokenise.Config(data=data, tokenizer=own, out=whole, shard_tokens=200, workers=1))
    script = tmp_path / "script.py"
    script.write_text(_KILLED)
    places = set()
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, script, tmp_path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        out, before = tmp_path / "shards", max(places, default=0)
        while process.poll() is None and len(list(out.glob("train-*.tokens"))) <= before + 5:
            time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (out / SHARDS_FILE).is_file():
            places.add(len(json.loads((out / SHARDS_FILE).read_text())["splits"]["train"]))
    assert len(places) >= 2, "it was not killed at several places"
    assert max(places) < len(Shards.open(whole).list("train"))
    with pytest.raises(DataError, match="not finished"):
        Shards.open(tmp_path / "shards")
    tokenise.run(configured(tmp_path))
    assert contents(tmp_path / "shards") == contents(whole)


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_shard_is_made_anew_and_nothing_else_changes(tmp_path, tokenizer, damage):
    shards = sharded(tmp_path, tokenizer, couplets(200))
    before = contents(shards.path)
    file = shards.path / "train-00003.tokens"
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-2] if damage == "truncated" else bytes([data[0] ^ 1]) + data[1:])
    tokenise.run(configured(tmp_path))
    assert contents(shards.path) == before


def test_done_is_not_done_again(tmp_path, tokenizer):
    shards = sharded(tmp_path, tokenizer, couplets(50))
    written = {file: file.stat().st_mtime_ns for file in shards.path.iterdir()}
    tokenise.run(configured(tmp_path))
    assert {file: file.stat().st_mtime_ns for file in shards.path.iterdir()} == written


def test_what_changed_under_it_is_named(tmp_path, tokenizer):
    shards = sharded(tmp_path, tokenizer, couplets(80))
    before = contents(shards.path)
    other = train_tokenizer(couplets(50, 9), TokenizerConfig(kind="bpe", vocab_size=400))
    saved(other, tmp_path / "other")
    with pytest.raises(DataError, match="tokenizer") as caught:
        tokenise.run(configured(tmp_path, tokenizer=tmp_path / "other"))
    assert "--out" in caught.value.do
    with pytest.raises(DataError, match="shard_tokens"):
        tokenise.run(configured(tmp_path, shard_tokens=300))
    with open(tmp_path / "data" / "train.jsonl", "a", encoding="utf-8") as file:
        file.write('{"text": "新"}\n')
    with pytest.raises(DataError, match="the data is not"):
        tokenise.run(configured(tmp_path))
    assert contents(shards.path) == before


def test_data_that_is_not_what_its_card_says_is_refused(tmp_path, tokenizer):
    prepared(tmp_path / "data", couplets(20))
    saved(tokenizer, tmp_path / "tokenizer")
    card = {"splits": {"train": {"rows": 20, "sha256": "0" * 64}}}
    (tmp_path / "data" / "data.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match=r"train\.jsonl"):
        tokenise.run(configured(tmp_path))
    assert not (tmp_path / "shards").exists()


def test_data_that_changes_while_it_is_read_is_named(tmp_path, tokenizer, monkeypatch):
    folder = prepared(tmp_path / "data", couplets(50))
    saved(tokenizer, tmp_path / "tokenizer")
    encode = tokenise._encode

    def meddled(task):
        os.utime(folder / "train.jsonl", (1, 1))
        return encode(task)

    monkeypatch.setattr(tokenise, "_encode", meddled)
    with pytest.raises(DataError, match="while it was read"):
        tokenise.run(configured(tmp_path))


def test_other_things_are_not_overwritten(tmp_path, tokenizer):
    prepared(tmp_path / "data", couplets(20))
    saved(tokenizer, tmp_path / "tokenizer")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="something else"):
        tokenise.run(configured(tmp_path))
    with pytest.raises(DataError, match="not a prepared"):
        tokenise.run(configured(tmp_path, data=tmp_path / "tokenizer", out=tmp_path / "other"))
    assert contents(tmp_path / "shards") == {"letter.txt": b"dear"}


@pytest.mark.parametrize("line", ['{"title": "x"}', '{"text": 3}', "[1]", '{"text": "half', '{"text": "\\ud800"}'])
def test_a_row_that_cannot_be_read_is_named_and_what_stands_stays(tmp_path, tokenizer, line, monkeypatch):
    folder = prepared(tmp_path / "data", couplets(60))
    place = (folder / "train.jsonl").stat().st_size
    with open(folder / "train.jsonl", "a") as file:
        file.write(line + "\n")
    saved(tokenizer, tmp_path / "tokenizer")
    monkeypatch.setattr(tokenise, "_CHUNK", 300)
    with pytest.raises(DataError, match=r"train\.jsonl") as caught:
        tokenise.run(configured(tmp_path))
    assert str(place) in caught.value.what or "half" in caught.value.what
    assert json.loads((tmp_path / "shards" / SHARDS_FILE).read_text())["splits"]["train"]


def test_a_full_disk_is_told_and_the_same_command_goes_on(tmp_path, tokenizer, small_disk):
    prepared(tmp_path / "data", couplets(3000))
    saved(tokenizer, tmp_path / "tokenizer")
    roomy = tmp_path / "roomy"
    tokenise.run(configured(tmp_path, out=roomy, shard_tokens=4000))
    size = sum(-(-len(data) // 4096) * 4096 for data in contents(roomy).values())
    disk = small_disk("2m")
    (disk / "ballast").write_bytes(bytes(2 * 1024 * 1024 - size * 2 // 3))
    config = configured(tmp_path, out=disk / "shards", shard_tokens=4000)
    with pytest.raises(StorageError, match="full"):
        tokenise.run(config)
    kept = json.loads((disk / "shards" / SHARDS_FILE).read_text())["splits"]["train"]
    assert 0 < len(kept) < len(Shards.open(roomy).list("train"))
    (disk / "ballast").unlink()
    tokenise.run(config)
    assert contents(disk / "shards") == contents(roomy)


def test_as_a_command(tmp_path, tokenizer, danlu):
    prepared(tmp_path / "data", couplets(40))
    saved(tokenizer, tmp_path / "tokenizer")
    words = ("data", "tokenise", "--data", "data", "--tokenizer", "tokenizer", "--out", "shards", "--workers", 1)
    result = danlu(*words)
    assert result.code == 0, result.err
    assert "train" in result.out
    (tmp_path / "tokenizer" / "tokenizer.json").unlink()
    result = danlu(*words)
    assert result.code == 1
    assert "tokenizer.json" in result.err
    assert Path(tmp_path / "shards" / SHARDS_FILE).is_file()
