"""Pre-train an encoder-decoder by span corruption: fill the blanks of a text (T5).

用片段挖空预训练编码器-解码器模型：补全文中的空白（T5）。

Example: danlu denoise --data my_texts --out runs/denoise
Data is a folder that `danlu data prepare` wrote, or any txt, jsonl or parquet files or folders of them. The model
folder is OUT/model, which transformers' T5ForConditionalGeneration opens, and `danlu generate OUT/model
"春<extra_id_0>秋月"` fills blanks with it; give the same command again after an interruption and it goes on.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.run import Run
from danlu.data.batches import PackedBatches, tokenise_texts
from danlu.data.denoise import DenoiseBatches, SpanConfig, add_sentinels, corrupt, filled, sentinel_ids
from danlu.data.load import load_split
from danlu.generate.params import SamplingParams
from danlu.generate.seq2seq import Seq2Seq
from danlu.models.t5 import T5, T5Config
from danlu.stages.seq2seq import build_t5, check_shape
from danlu.stages.stage import Stage
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.hooks import console
from danlu.train.objective import aligned_cross_entropy

__all__ = ["Config", "run"]

_SHOWN, _TOKENS = 2, 40  # held-out texts that are shown with blanks when no prompts are given, and their length
_BEST = SamplingParams(max_tokens=64, temperature=0)


class Config(Base):
    """What to learn from, how large, what is taken out, how long."""

    data: Input = doc(
        ...,
        "prepared folder, or txt, jsonl, parquet files or folders of them",
        "准备好的数据文件夹，或 txt、jsonl、parquet 文件（夹）",
    )
    out: Output = doc(
        Path("runs/denoise"), "the run's folder; the model goes to OUT/model", "运行目录；模型存于 OUT/model"
    )
    tokenizer: Input | None = doc(
        None, "folder with a tokenizer; default: train one on the data", "分词器文件夹；默认在数据上训练一个"
    )
    new_tokenizer: TokenizerConfig = doc(
        TokenizerConfig(chat_template="none"), "the tokenizer to train, when none is given", "未给分词器时，如何训练"
    )
    model: T5Config = doc(T5Config(), "the model's shape", "模型的形状")
    spans: SpanConfig = doc(SpanConfig(), "what is taken out", "挖去什么")
    train: TrainConfig = doc(TrainConfig(), "the training loop", "训练循环")
    valid: float = doc(
        0.05,
        "share (or number) of documents held out, for data that is not prepared",
        "未划分的数据中，留作验证的比例（或数目）",
        gt=0,
    )
    prompts: tuple[str, ...] = doc(
        (),
        "texts with blanks (<extra_id_0>, <extra_id_1>, ...) to fill while training; default: held-out ones",
        "训练中用于观察的填空，含 <extra_id_0>、<extra_id_1>……；默认取验证文本",
    )


def run(config: Config) -> Path:
    """Train and save; return the model folder."""
    with Stage(Run(config.out, "denoise", config), config.train) as stage:
        if stage.done:
            return stage.model_path
        check_shape(config.model, config.train)
        seed, size, rows = config.train.seed, config.train.seq_len, config.train.batch_size
        texts = {
            split: [
                row["text"] for row in load_split(config.data, split, seed=seed, valid=config.valid, columns=("text",))
            ]
            for split in ("train", "valid")
        }
        tokenizer = _tokenizer(config, texts["train"])
        model = build_t5(config.model, tokenizer, seed)
        prompts = _prompts(config, model, tokenizer, texts["valid"])
        batches = {
            split: DenoiseBatches(
                PackedBatches(
                    tokenise_texts(texts[split], tokenizer, add_eos=False),
                    size,
                    rows,
                    seed=seed,
                    pad_id=tokenizer.pad_id,
                    **({} if split == "train" else {"shuffle": False, "epochs": 1, "drop_last": False}),
                ),
                sentinel_ids(tokenizer),
                config.spans,
                start_id=model.start_id,
                eos_id=tokenizer.eos_id,
            )
            for split in texts
        }
        valid = list(batches["valid"])  # the same blanks at every validation
        stage.fit(model, batches["train"], valid, aligned_cross_entropy, lambda: _show(model, tokenizer, prompts))
        return stage.save(model, tokenizer, parent=None)


def _tokenizer(config: Config, texts: Sequence[str]) -> Tokenizer:
    plain = Tokenizer.load(config.tokenizer) if config.tokenizer else train_tokenizer(texts, config.new_tokenizer)
    return add_sentinels(plain, config.spans.sentinels)


def _prompts(config: Config, model: T5, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """What is shown, as the encoder reads it. Raises ContextError for a prompt that cannot be."""
    reader = Seq2Seq(model, tokenizer)
    if config.prompts:
        return [reader.encode(text) for text in config.prompts]
    known, random = sentinel_ids(tokenizer), np.random.default_rng(config.train.seed)
    parts = (ids[:_TOKENS] for ids in tokenizer.encode_batch(texts[:_SHOWN]))
    asked = [corrupt(ids, known, random, config.spans).source for ids in parts if len(ids) > 1]
    return [reader.encode([*ids, tokenizer.eos_id]) for ids in asked]


def _show(model: T5, tokenizer: Tokenizer, prompts: Sequence[list[int]]) -> list[str]:
    """Each prompt with the model's words in its blanks; printed, too."""
    answers = Seq2Seq(model, tokenizer).generate(prompts, _BEST)
    shown = [filled(tokenizer, prompt, answer.ids) for prompt, answer in zip(prompts, answers, strict=True)]
    for text in shown:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return shown
