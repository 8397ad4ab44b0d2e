"""Tokenise and pack beside the `tokenizers` library alone; what packing by windows fills; how long training waits for data.

分词与打包，和单独使用 tokenizers 库比较；按窗口打包的填充率；训练等待数据的时间。

Text: Chinese poems and the Brown corpus (each fetched once) and the sources of Python's standard library, one tokenizer.
The library gets its texts in memory and gives nothing back; danlu reads jsonl, checks it, writes and hashes shards,
opens and packs them. Both use all cores. Each round has its own ratio.
"""

import argparse
import json
import os
import random
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from _common import Raw, arguments, interleave, ratio, show, write

from danlu.core.assets import asset_path
from danlu.data import tokenise
from danlu.data.batches import PackedBatches, tokenise_texts
from danlu.data.feed import Feed
from danlu.data.load import load_split
from danlu.data.pack import best_fit_decreasing, cut
from danlu.data.sharded import ShardedBatches
from danlu.data.shards import Shards
from danlu.data.stream import FileRows, StreamBatches
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.loop import fit
from danlu.train.objective import cross_entropy

WORK = "poems, Brown, Python sources to shards and batches / 诗、布朗语料、Python 源码，到分片与批次"
VOCABULARY, SEQ_LEN, ROWS, AT_ONCE = 16_384, 512, 16, 1000
WINDOWS = (1 << 17, 1 << 19, 1 << 22)


def texts_of(every: int) -> dict[str, list[str]]:
    """Texts by source; one of `every`."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    brown = sorted(file for file in asset_path("brown").rglob("*") if file.is_file() and file.suffix in ("", ".txt"))
    python = [file for file in sorted(stdlib.rglob("*.py")) if "site-packages" not in file.parts]
    found = {name: [file.read_text("utf-8", "ignore") for file in files] for name, files in (("brown", brown), ("python", python))}  # fmt: skip
    found = {"poems": [row["text"] for row in poem_rows()], **found}
    return {name: [text for text in texts if text.strip()][::every] for name, texts in found.items()}


def poem_rows() -> Iterator[dict[str, Any]]:
    for file in sorted(asset_path("chinese-poetry").rglob("poet.tang.*.json")):
        for poem in json.loads(file.read_text("utf-8")):
            if poem["paragraphs"]:
                yield {"text": f"《{poem['title']}》\n" + "\n".join(poem["paragraphs"])}


def prepared(folder: Path, texts: list[str]) -> Path:
    """`texts` as `danlu data prepare` leaves them."""
    folder.mkdir()
    for split, rows in (("train", texts), ("valid", texts[:20])):
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def contenders(work: Path, texts: list[str]) -> dict[str, Callable[[], float | None]]:
    """The library alone; danlu from jsonl to packed shards, on all cores and one task at a time."""
    tokenizer = Tokenizer.load(work / "tokenizer")

    def library() -> None:
        for at in range(0, len(texts), AT_ONCE):
            tokenizer.backend.encode_batch_fast(texts[at : at + AT_ONCE], add_special_tokens=False)

    def danlu(workers: int) -> Callable[[], float | None]:
        def run() -> None:
            out = work / f"shards-{workers}"
            shutil.rmtree(out, ignore_errors=True)
            config = {"data": work / "data", "tokenizer": work / "tokenizer", "out": out, "workers": workers}
            tokenise.run(tokenise.Config.model_validate(config))
            ShardedBatches(Shards.open(out), "train", SEQ_LEN, ROWS)

        return run

    return {"tokenizers": library, "danlu": danlu(os.cpu_count() or 1), "danlu, one at a time": danlu(1)}


def counted(run: Callable[[], float | None], spent: Raw, name: str) -> Callable[[], float | None]:
    """`run` that also notes the processor's seconds, of ended processes too: what else the machine does counts less there."""

    def counting() -> float | None:
        before = os.times()
        run()
        spent.setdefault(name, []).append(sum(os.times()[:4]) - sum(before[:4]))
        return None

    return counting


def fills(shards: Shards) -> list[tuple[str, float]]:
    """How full the rows are: cut as the text comes, packed by windows, packed in one."""
    found = []
    for window in WINDOWS:
        batches = ShardedBatches(shards, "train", SEQ_LEN, ROWS, window=window)
        found.append((f"best fit, windows of {window:,} tokens", batches.fill))
    arrays = [shards.arrays(shard) for shard in shards.list("train")]
    offsets = [one.offsets.astype("int64") for one in arrays]
    sizes = [cut(one[:-1], one[1:] - one[:-1], SEQ_LEN, "pieces")[1] for one in offsets]
    rows = sum(best_fit_decreasing(part[part > 0], SEQ_LEN).rows for part in sizes)
    found.append(("best fit, whole shards", sum(int(part.sum()) for part in sizes) / rows / SEQ_LEN))
    every = [int(size) for part in sizes for size in part]
    padded = sum(every) / len(every) / SEQ_LEN
    return [("one document a row", padded), ("in the order they come", in_order(every)), *found]


def in_order(sizes: list[int]) -> float:
    """Next fit: a row is closed when the next piece does not fit."""
    rows, free = 0, 0
    for size in sizes:
        if size > free:
            rows, free = rows + 1, SEQ_LEN
        free -= size
    return sum(sizes) / rows / SEQ_LEN


class Timed:
    """Batches, and the seconds that were spent waiting for them."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.seconds, self.longest = batches, 0.0, 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        began = time.perf_counter()
        batch = next(self.batches)
        took = time.perf_counter() - began
        self.seconds, self.longest = self.seconds + took, max(self.longest, took)
        return batch


def waits(work: Path, shards: Shards, steps: int) -> list[tuple[str, float, float]]:
    """Share of the loop spent waiting, and the longest wait in seconds, without and with a feed; the first batch is not counted."""
    tokenizer = shards.tokenizer()
    rows = FileRows(work / "data" / "train.jsonl", columns=("text",))
    some = [text["text"] for _, text in zip(range(20_000), rows(0), strict=False)]
    documents = tokenise_texts(some, tokenizer)
    make: dict[str, Callable[[], Any]] = {
        "in memory": lambda: PackedBatches(documents, 128, ROWS),
        "shards": lambda: ShardedBatches(shards, "train", 128, ROWS),
        "stream": lambda: StreamBatches(rows, tokenizer, 128, ROWS, window=1 << 17),
    }
    shape = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
    )
    config = TrainConfig.parse(
        {"steps": steps, "batch_size": ROWS, "seq_len": 128, "precision": "fp32", "device": "cpu"}, "bench"
    )
    found = []
    for name, batches in make.items():
        for workers in (None, 0, 1):
            source = batches()
            feed = source if workers is None else Feed(source, workers=workers, ahead=16)
            next(feed)
            timed, began = Timed(feed), time.perf_counter()
            fit(Decoder(shape), timed, cross_entropy, config)
            took = time.perf_counter() - began
            if isinstance(feed, Feed):
                feed.close()
            way = {None: "none", 0: "a thread", 1: "a process"}[workers]
            found.append((f"{name}; feed: {way}", timed.seconds / took, timed.longest))
    return found


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__, repeats=5)
    parser.add_argument("--every", type=int, default=1, help="take one text of so many / 每多少篇取一篇")
    parser.add_argument("--steps", type=int, default=120, help="training steps of each wait / 每次测等待的训练步数")
    read = parser.parse_args()
    sources = texts_of(read.every)
    texts = [text for part in sources.values() for text in part]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sample = random.Random(0).sample(texts, min(len(texts), 10_000))
        settings = TokenizerConfig(kind="bpe", vocab_size=VOCABULARY, chat_template="none")
        (work / "tokenizer").mkdir()
        train_tokenizer(sample, settings).save(work / "tokenizer")
        prepared(work / "data", texts)
        spent: Raw = {}
        raw = interleave(
            {name: counted(run, spent, name) for name, run in contenders(work, texts).items()}, read.repeats
        )
        spent = {name: seconds[-read.repeats :] for name, seconds in spent.items()}
        shards = Shards.open(work / f"shards-{os.cpu_count() or 1}")
        assert len(load_split(work / "data", "train")) == shards.total("train", "documents")
        size, tokens = shards.total("train", "bytes"), shards.total("train", "tokens")
        print(f"\n{len(texts):,} documents, {size / 1e6:.1f} MB, {tokens / 1e6:.1f} M tokens\n")
        show(("who", "MB/s, median"), [(who, size / 1e6 / sorted(took)[len(took) // 2]) for who, took in raw.items()])
        print()
        filled = fills(shards)
        show((f"rows of {SEQ_LEN}", "fill"), filled)
        print()
        torch.manual_seed(0)
        waited = waits(work, shards, read.steps)
        show(("batches", "share of the time waited", "longest wait, s"), waited)
        print()
    ratios = {
        "tokenise_and_pack_vs_tokenizers": ratio(raw, "danlu", "tokenizers"),
        "one_at_a_time_vs_tokenizers": ratio(raw, "danlu, one at a time", "tokenizers"),
        "processor_time_vs_tokenizers": ratio(spent, "danlu", "tokenizers"),
        "processor_time_one_at_a_time_vs_tokenizers": ratio(spent, "danlu, one at a time", "tokenizers"),
    }
    waiting = {name: {"share": share, "longest": longest} for name, share, longest in waited}
    write(
        read.json,
        WORK,
        ratios,
        raw,
        processor=spent,
        megabytes=size / 1e6,
        tokens=tokens,
        fill=dict(filled),
        waited=waiting,
    )


if __name__ == "__main__":
    main()
