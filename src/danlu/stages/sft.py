"""Instruction tuning: learn to answer, from chats; the loss falls on the answers only.

指令微调:从对话中学会回答;只在回答部分计算损失。

Example: danlu sft runs/mine/model --data my_chats.jsonl --out runs/mine-sft
A row is {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}.
"""

from pathlib import Path

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.folder import ModelFolder
from danlu.core.run import Run
from danlu.data.batches import render_chats
from danlu.data.load import load_split
from danlu.models import auto
from danlu.stages.stage import Stage
from danlu.tokenizer import Tokenizer
from danlu.tokenizer.chat import CHATML
from danlu.train.config import TrainConfig

__all__ = ["Config", "run"]


class Config(Base):
    """Which model, which chats, how long."""

    base: Input = doc(..., "model folder to start from", "起点模型文件夹")
    data: Input = doc(
        ...,
        "chats: prepared folder, jsonl or parquet with a column 'messages'",
        "对话数据:准备好的文件夹,或含 messages 列的 jsonl、parquet",
    )
    out: Output = doc(Path("runs/sft"), "the run's folder; the model goes to OUT/model", "运行目录;模型存于 OUT/model")
    train: TrainConfig = doc(TrainConfig(lr=2e-3, matrix_lr=2e-3), "the training loop", "训练循环")
    valid: float = doc(
        0.05,
        "share (or number) of chats held out, for data that is not prepared",
        "未划分的数据中,留作验证的比例(或数目)",
        gt=0,
    )
    prompts: tuple[str, ...] = doc((), "questions to ask while training, to see it learn", "训练中用于观察的提问")


def run(config: Config) -> Path:
    """Train and save; return the model folder."""
    parent = ModelFolder.open(config.base)
    with Stage(Run(config.out, "sft", config, parent=parent.hash), config.train) as stage:
        if stage.done:
            return stage.model_path
        tokenizer = Tokenizer.load(config.base)
        if not tokenizer.has_chat:  # a base model; from here on its folder knows how to chat
            tokenizer = Tokenizer(tokenizer.backend, {**tokenizer.config, "chat_template": CHATML})
        model = auto.load(config.base)
        documents = {}
        for split in ("train", "valid"):
            rows = load_split(config.data, split, seed=config.train.seed, valid=config.valid, columns=("messages",))
            documents[split] = render_chats(rows, tokenizer)
        prompts = [[{"role": "user", "content": text}] for text in config.prompts]
        stage.train(model, tokenizer, documents["train"], documents["valid"], long="truncate", prompts=prompts)
        return stage.save(model, tokenizer, parent=parent)
