"""Pre-train a language model from scratch: predict the next token of plain text.

从零预训练一个语言模型:在纯文本上预测下一个 token。

Example: danlu pretrain --data my_texts --out runs/mine
Data is a folder that `danlu data prepare` wrote, one of shards that `danlu data tokenise` made of it, or any txt, jsonl
or parquet files or folders of them. Without --tokenizer one is trained on the data first (shards bring theirs). With
--stream a prepared folder is tokenised while training, in bounded memory. The model folder is OUT/model; give the same
command again after an interruption and it goes on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.core.run import Run
from danlu.data.batches import PackedBatches, tokenise_texts, valid_batches
from danlu.data.feed import Feed, Resumable
from danlu.data.load import is_prepared, load_split
from danlu.data.pack import Document
from danlu.data.sharded import ShardedBatches
from danlu.data.shards import Shards, is_shards
from danlu.data.stream import FileRows, StreamBatches
from danlu.models.base import Batch
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.stages.stage import Stage
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.loop import steps_of

__all__ = ["Config", "run"]


class Config(Base):
    """What to learn from, how large, how long."""

    data: Input = doc(
        ...,
        "prepared folder, folder of shards, or txt, jsonl, parquet files or folders of them",
        "准备好的数据文件夹、分片文件夹,或 txt、jsonl、parquet 文件(夹)",
    )
    out: Output = doc(
        Path("runs/pretrain"), "the run's folder; the model goes to OUT/model", "运行目录;模型存于 OUT/model"
    )
    tokenizer: Input | None = doc(
        None, "folder with a tokenizer; default: train one on the data", "分词器文件夹;默认在数据上训练一个"
    )
    new_tokenizer: TokenizerConfig = doc(
        TokenizerConfig(chat_template="none"), "the tokenizer to train, when none is given", "未给分词器时,如何训练"
    )
    model: DecoderConfig = doc(DecoderConfig(), "the model's shape", "模型的形状")
    train: TrainConfig = doc(TrainConfig(), "the training loop", "训练循环")
    valid: float = doc(
        0.05,
        "share (or number) of documents held out, for data that is not prepared",
        "未划分的数据中,留作验证的比例(或数目)",
        gt=0,
    )
    stream: bool = doc(
        False,
        "tokenise a prepared folder while training, for what memory does not hold; give train.steps",
        "边训练边对准备好的数据分词,适合内存放不下的语料;须给出 train.steps",
    )
    prompts: tuple[str, ...] = doc(
        ("",), "beginnings to continue while training, to see it learn", "训练中用于观察的续写开头"
    )


def run(config: Config) -> Path:
    """Train and save; return the model folder."""
    with Stage(Run(config.out, "pretrain", config), config.train) as stage:
        if stage.done:
            return stage.model_path
        config.model.check()
        read = _shards if is_shards(config.data) else _stream if config.stream else _texts
        data = read(config)
        shape = config.model.model_copy(update={"vocab_size": data.tokenizer.vocab_size})
        model = Decoder(shape)
        model.initialise(torch.Generator().manual_seed(config.train.seed))
        with Feed(data.batches) as feed:
            stage.train_on(model, data.tokenizer, feed, data.valid, prompts=config.prompts)
        return stage.save(model, data.tokenizer, parent=None, characters=data.characters, size=data.size)


class _Data(NamedTuple):
    """What to train and to validate on; `characters` and `size` (bytes) of the held-out text."""

    tokenizer: Tokenizer
    batches: Resumable
    valid: list[Batch]
    characters: int
    size: int


def _texts(config: Config) -> _Data:
    """All text in memory."""
    train = config.train
    texts = {split: _read(config, split) for split in ("train", "valid")}
    tokenizer = _tokenizer(config, texts["train"])
    documents = {split: tokenise_texts(texts[split], tokenizer) for split in texts}
    batches = PackedBatches(
        documents["train"], train.seq_len, train.batch_size, seed=train.seed, pad_id=tokenizer.pad_id
    )
    return _Data(tokenizer, batches, *_held_out(config, tokenizer, documents["valid"], texts["valid"]))


def _stream(config: Config) -> _Data:
    """The training text stays on disk."""
    if not is_prepared(config.data):
        raise DataError(
            tr(f"--stream needs a prepared folder, and {config.data} is none", f"--stream 需要准备好的数据文件夹,{config.data} 不是"),
            tr(f"prepare it: danlu data prepare --source {config.data} --out ...", f"请先准备:danlu data prepare --source {config.data} --out ..."),
        )  # fmt: skip
    train, rows = config.train, FileRows(config.data / "train.jsonl", columns=("text",))
    tokenizer = _tokenizer(config, (row["text"] for row in rows(0)))
    batches = StreamBatches(rows, tokenizer, train.seq_len, train.batch_size, seed=train.seed, pad_id=tokenizer.pad_id)
    steps_of(batches, train)  # a missing train.steps is told before the validation text is read
    texts = _read(config, "valid")
    return _Data(tokenizer, batches, *_held_out(config, tokenizer, tokenise_texts(texts, tokenizer), texts))


def _shards(config: Config) -> _Data:
    """Tokens on disk."""
    if config.tokenizer or config.stream:
        raise ConfigError(
            tr("shards are tokenised already: --tokenizer and --stream mean nothing to them",
               "分片已经分过词:--tokenizer 与 --stream 对其没有意义"),
            tr("leave them out, or train on the prepared folder", "请去掉它们,或用准备好的数据文件夹训练"),
        )  # fmt: skip
    shards, train = Shards.open(config.data), config.train
    shape, long = (train.seq_len, train.batch_size), "truncate" if shards.masked else "pieces"
    batches = ShardedBatches(shards, "train", *shape, seed=train.seed, long=long)
    valid = ShardedBatches(shards, "valid", *shape, shuffle=False, epochs=1, drop_last=False, long=long)
    characters, size = (shards.total("valid", what) for what in ("characters", "bytes"))
    return _Data(shards.tokenizer(), batches, list(valid), characters, size)


def _read(config: Config, split: Literal["train", "valid"]) -> list[str]:
    rows = load_split(config.data, split, seed=config.train.seed, valid=config.valid, columns=("text",))
    return [row["text"] for row in rows]


def _tokenizer(config: Config, texts: Iterable[str]) -> Tokenizer:
    return Tokenizer.load(config.tokenizer) if config.tokenizer else train_tokenizer(texts, config.new_tokenizer)


def _held_out(
    config: Config, tokenizer: Tokenizer, documents: list[Document], texts: list[str]
) -> tuple[list[Batch], int, int]:
    batches = valid_batches(documents, config.train.seq_len, config.train.batch_size, pad_id=tokenizer.pad_id)
    return batches, sum(map(len, texts)), _bytes(texts)


def _bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)
