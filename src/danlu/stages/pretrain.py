"""Pre-train a language model from scratch: predict the next token of plain text.

从零预训练一个语言模型:在纯文本上预测下一个 token。

Example: danlu pretrain --data my_texts --out runs/mine
Data is a folder that `danlu data prepare` wrote, or any txt, jsonl or parquet files or folders of them. Without
--tokenizer one is trained on the data first. The model folder is OUT/model; give the same command again after an
interruption and it goes on.
"""

from pathlib import Path

import torch

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.run import Run
from danlu.data.batches import tokenise_texts
from danlu.data.load import load_split
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.stages.stage import Stage
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig

__all__ = ["Config", "run"]


class Config(Base):
    """What to learn from, how large, how long."""

    data: Input = doc(
        ...,
        "prepared folder, or txt, jsonl, parquet files or folders of them",
        "准备好的数据文件夹,或 txt、jsonl、parquet 文件(夹)",
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
    prompts: tuple[str, ...] = doc(
        ("",), "beginnings to continue while training, to see it learn", "训练中用于观察的续写开头"
    )


def run(config: Config) -> Path:
    """Train and save; return the model folder."""
    with Stage(Run(config.out, "pretrain", config), config.train) as stage:
        if stage.done:
            return stage.model_path
        config.model.check()
        texts = {
            split: [
                row["text"]
                for row in load_split(config.data, split, seed=config.train.seed, valid=config.valid, columns=("text",))
            ]
            for split in ("train", "valid")
        }
        tokenizer = (
            Tokenizer.load(config.tokenizer)
            if config.tokenizer
            else train_tokenizer(texts["train"], config.new_tokenizer)
        )
        documents = {split: tokenise_texts(texts[split], tokenizer) for split in texts}
        shape = config.model.model_copy(update={"vocab_size": tokenizer.vocab_size})
        model = Decoder(shape)
        model.initialise(torch.Generator().manual_seed(config.train.seed))
        stage.train(model, tokenizer, documents["train"], documents["valid"], prompts=config.prompts)
        return stage.save(
            model, tokenizer, parent=None, characters=sum(map(len, texts["valid"])), size=_bytes(texts["valid"])
        )


def _bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)
