"""Turn a prepared data set into shards of token ids: memory-mapped, checked by digests, made on all cores.

把准备好的数据变成词元分片:可内存映射,有摘要校验,用上所有核。

Example: danlu data tokenise --data data/mine --tokenizer runs/mine/model --out data/mine-shards
Killed at any point, the same command goes on and loses or doubles nothing; the same data and tokenizer give the same
bytes, however many work at a time. Train on the result with `danlu pretrain --data SHARDS`.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import PositiveInt

from danlu import __version__
from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import DanluError, DataError
from danlu.core.files import atomic_folder, hash_path, read_json, sha256_file, write_json
from danlu.core.i18n import tr
from danlu.data.executor import Executor
from danlu.data.load import is_prepared
from danlu.data.parts import load_row
from danlu.data.progress import track
from danlu.data.shards import SHARDS_FILE, TOKENIZER, Shards, ShardWriter, Told, dtype_for, is_shards
from danlu.data.split import SPLITS
from danlu.tokenizer import Tokenizer

__all__ = ["Config", "run"]

_CHUNK = 1 << 20  # bytes of jsonl in a task: small, so that no core is idle for long at the end
_PORTION = 512  # documents encoded in one call


class Config(Base):
    """Which data, by which tokenizer, into which shards."""

    data: Input = doc(..., "folder written by `danlu data prepare`", "`danlu data prepare` 写出的文件夹")
    tokenizer: Input = doc(..., "folder with a tokenizer, or a model folder", "分词器文件夹,或模型文件夹")
    out: Output = doc(..., "folder for the shards", "存放分片的文件夹")
    content: Literal["text", "messages"] = doc(
        "text",
        "text: documents; messages: chats, with a loss on what the assistant says alone",
        "text:文档;messages:对话,只在助手的话上计损失",
    )
    shard_tokens: PositiveInt = doc(1 << 24, "tokens in a shard, about", "每个分片约多少个 token")
    workers: PositiveInt | None = doc(
        None,
        "how many at a time; default: one for each core. The bytes are the same",
        "同时处理的个数;默认每核一个。输出字节相同",
    )


def run(config: Config) -> dict[str, Any]:
    """Write the shards (or what is missing of them), print a summary, return what shards.json holds.

    Raises DataError when the data or the tokenizer is not what `out` was begun with, or a row cannot be read;
    StorageError when the disk is full: what is whole stays, and the same command goes on.
    """
    tokenizer = Tokenizer.load(config.tokenizer)
    before = {split: _stamp(file) for split, file in _files(config.data).items()}
    plan = _plan(config, tokenizer)
    record = _begin(config, plan, tokenizer)
    if not record["complete"]:
        with _hands(config) as run:
            for split in plan["data"]:
                _tokenise(config, record, split, run)
        if {split: _stamp(file) for split, file in _files(config.data).items()} != before:
            raise _changed(config, tr("the data changed while it was read", "数据在读取过程中被改动"))
        record["complete"] = True
        write_json(config.out / SHARDS_FILE, record)
    _show(config, record)
    return record


def _files(data: Path) -> dict[str, Path]:
    """The files of the splits. Raises DataError for a folder that is not prepared."""
    if not is_prepared(data):
        raise DataError(
            tr(f"{data} is not a prepared data set", f"{data} 不是准备好的数据"),
            tr(f"prepare it: danlu data prepare --source {data} --out ...", f"请先准备:danlu data prepare --source {data} --out ..."),
        )  # fmt: skip
    return {split: data / f"{split}.jsonl" for split in SPLITS if (data / f"{split}.jsonl").is_file()}


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _plan(config: Config, tokenizer: Tokenizer) -> dict[str, Any]:
    """All that decides the bytes of the shards."""
    files = _files(config.data)
    data = {split: {"bytes": file.stat().st_size, "sha256": sha256_file(file)} for split, file in files.items()}
    card = config.data / "data.json"
    told = read_json(card).get("splits", {}) if card.is_file() else {}
    for split, found in data.items():
        if told.get(split, {}).get("sha256", found["sha256"]) != found["sha256"]:
            raise DataError(
                tr(f"{files[split]} is not the file that {card} describes", f"{files[split]} 与 {card} 的记载不符"),
                tr("prepare the data again", "请重新准备数据"),
            )
    return {
        "schema": 1,
        "danlu": __version__,
        "tokenizer": _hash(tokenizer),
        "vocab_size": tokenizer.vocab_size,
        "eos_id": tokenizer.eos_id,
        "pad_id": tokenizer.pad_id,
        "dtype": dtype_for(tokenizer.vocab_size).str,
        "masked": config.content == "messages",
        "content": config.content,
        "shard_tokens": config.shard_tokens,
        "data_json": sha256_file(card) if card.is_file() else None,
        "data": data,
    }


def _hash(tokenizer: Tokenizer) -> str:
    """The hash of the folder that `tokenizer.save` writes, whoever wrote the one it was loaded from."""
    with tempfile.TemporaryDirectory(prefix="danlu-tokenizer-") as folder:
        tokenizer.save(Path(folder))
        return hash_path(Path(folder))


def _begin(config: Config, plan: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """What stands in `out`, as far as it is whole; a new record when nothing does."""
    out = config.out
    if not is_shards(out):
        if out.exists() and (not out.is_dir() or any(not file.name.startswith(".") for file in out.iterdir())):
            raise DataError(
                tr(f"{out} exists and holds something else", f"{out} 已存在,且内容不是分片"),
                tr("choose another --out", "请换一个 --out"),
            )
        record = {**plan, "complete": False, "splits": {split: [] for split in plan["data"]}}
        write_json(out / SHARDS_FILE, record)
    record = read_json(out / SHARDS_FILE)
    names = {
        "tokenizer": tr("the tokenizer is not the one", "分词器不是"),
        "data": tr("the data is not what it was", "数据已不是"),
        "data_json": tr("data.json is not what it was", "data.json 已不是"),
    }
    for key, value in plan.items():
        if record.get(key) != value:
            what = names.get(
                key, tr(f"{key} is {value}, not {record.get(key)},", f"{key} 为 {value} 而不是 {record.get(key)},并非")
            )
            raise _changed(config, what)
    if not (out / TOKENIZER).is_dir() or hash_path(out / TOKENIZER) != plan["tokenizer"]:
        with atomic_folder(out / TOKENIZER) as folder:
            tokenizer.save(folder)
    return _whole(Shards(out, record), record)


def _changed(config: Config, what: str) -> DataError:
    return DataError(
        tr(f"{what} that {config.out} was begun with", f"{what} {config.out} 开始时所用的"),
        tr("give back what it was begun with, or choose another --out", "请恢复原来的数据与设置,或换一个 --out"),
    )


def _whole(shards: Shards, record: dict[str, Any]) -> dict[str, Any]:
    """The record up to the first shard of each split whose files are not as they were written."""
    for split, listed in record["splits"].items():
        for number, shard in enumerate(listed):
            if shards.fault(shard):
                record["splits"][split] = listed[:number]
                record["complete"] = False
                break
    return record


class _Task(NamedTuple):
    """The rows of `file` whose lines begin at a byte in [start, stop)."""

    file: Path
    tokenizer: Path
    tokenizer_hash: str
    content: str
    start: int
    stop: int


_Run = Callable[[Callable[[_Task], Told], Sequence[_Task]], Iterator[Told]]


@contextmanager
def _hands(config: Config) -> Iterator[_Run]:
    """Who does the tasks, their results in order: threads, for the library encodes text without holding Python's lock;
    processes for chats, which are rendered in Python."""
    workers = config.workers or os.cpu_count() or 1
    if config.content == "messages" or workers == 1:
        with Executor(workers) as executor:
            yield executor.run
        return
    pool = ThreadPoolExecutor(workers)

    def run(function: Callable[[_Task], Told], tasks: Sequence[_Task]) -> Iterator[Told]:
        waiting: deque[Future[Told]] = deque()
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield run
    finally:
        pool.shutdown(cancel_futures=True)


def _tokenise(config: Config, record: dict[str, Any], split: str, run: _Run) -> None:
    """Write the shards of one split that are not there yet."""
    listed, size = record["splits"][split], record["data"][split]["bytes"]
    start = listed[-1]["source_end"] if listed else 0

    def wrote(shard: dict[str, Any]) -> None:
        listed.append(shard)
        write_json(config.out / SHARDS_FILE, record)

    writer = ShardWriter(config.out, split, len(listed), config.shard_tokens, np.dtype(record["dtype"]), wrote)
    file = config.data / f"{split}.jsonl"
    tasks = [
        _Task(file, config.out / TOKENIZER, record["tokenizer"], config.content, at, min(at + _CHUNK, size))
        for at in range(start, size, _CHUNK)
    ]
    told = tr(f"tokenising {split}", f"分词 {split}")
    for part in track(run(_encode, tasks), len(tasks), told):
        writer.add(part)
    writer.close()


def _encode(task: _Task) -> Told:
    """Tokenise the rows of a task: done anywhere, in any order, it gives the same."""
    if parent_process() is not None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    tokenizer = _tokenizer(task.tokenizer, task.tokenizer_hash)
    rows, ends = _rows(task)
    try:
        if task.content == "text":
            return _plain(tokenizer, [row["text"] for row in rows], ends)
        chats = [tokenizer.render(row["messages"]) for row in rows]
    except DanluError as error:
        raise DataError(
            f"{task.file}, {tr('bytes', '字节')} {task.start}-{task.stop}: {error.what}", error.do
        ) from None
    texts = ["\n".join(str(message["content"]) for message in row["messages"]) for row in rows]
    lengths = _integers((len(chat.ids) for chat in chats), len(chats))
    total = int(lengths.sum())
    ids = np.fromiter(chain.from_iterable(chat.ids for chat in chats), dtype_for(tokenizer.vocab_size), total)
    mask = np.fromiter(chain.from_iterable(chat.mask for chat in chats), bool, total)
    return Told(ids, mask, lengths, _integers(ends, len(ends)), *_sizes(texts))


def _plain(tokenizer: Tokenizer, texts: list[str], ends: list[int]) -> Told:
    """Texts, each closed by the end-of-sequence token."""
    found = [tokenizer.encode_arrays(texts[at : at + _PORTION]) for at in range(0, len(texts), _PORTION)]
    lengths = np.concatenate([np.zeros(0, np.int64), *(length for _, length in found)]) + 1
    ids = np.full(int(lengths.sum()), tokenizer.eos_id, dtype_for(tokenizer.vocab_size))
    inside = np.ones(len(ids), bool)
    inside[np.cumsum(lengths) - 1] = False
    ids[inside] = np.concatenate([np.zeros(0, np.uint32), *(one for one, _ in found)])
    return Told(ids, None, lengths, _integers(ends, len(ends)), *_sizes(texts))


def _sizes(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Characters and bytes of each text."""
    sizes = (len(text.encode("utf-8", "replace")) for text in texts)
    return _integers(map(len, texts), len(texts)), _integers(sizes, len(texts))


def _integers(values: Any, count: int) -> np.ndarray:
    return np.fromiter(values, np.int64, count)


@lru_cache(maxsize=1)
def _tokenizer(folder: Path, _hash: str) -> Tokenizer:
    """Loaded once in each process."""
    return Tokenizer.load(folder)


def _rows(task: _Task) -> tuple[list[dict[str, Any]], list[int]]:
    """The task's rows, and the byte after each one's line. Raises DataError naming the place of one without its column."""
    rows, ends = [], []
    for at, line in _lines(task):
        try:
            row = load_row(line)
            good = isinstance(row, dict) and isinstance(row.get(task.content), str if task.content == "text" else list)
        except ValueError:
            good, row = False, {}
        if not good or (task.content == "messages" and not row["messages"]):
            raise DataError(
                tr(f"{task.file}: the line at byte {at} has no {task.content}", f"{task.file}:第 {at} 字节处的一行没有 {task.content}"),
                tr("prepare the data again, or choose another --content", "请重新准备数据,或换一个 --content"),
            )  # fmt: skip
        rows.append(row)
        ends.append(at + len(line))
    return rows, ends


def _lines(task: _Task) -> Iterator[tuple[int, bytes]]:
    """(first byte, line) of the lines that begin within the task and are not blank."""
    with open(task.file, "rb") as file:
        at = task.start
        if at:
            file.seek(at - 1)
            at += len(file.readline()) - 1  # the rest of a line that began before, or its line end alone
        while at < task.stop and (line := file.readline()):
            if line.strip():
                yield at, line
            at += len(line)


def _show(config: Config, record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(tr("shards", "分片"), str(config.out), markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for column in (
        tr("split", "部分"),
        tr("shards", "分片"),
        tr("documents", "篇数"),
        "token",
        tr("tokens per byte", "每字节 token"),
    ):
        table.add_column(column, justify="right" if table.columns else "left")
    for split, listed in record["splits"].items():
        sums = [sum(shard[what] for shard in listed) for what in ("documents", "tokens", "bytes")]
        table.add_row(split, f"{len(listed):,}", f"{sums[0]:,}", f"{sums[1]:,}", f"{sums[1] / max(1, sums[2]):.3f}")
    console.print(table)
