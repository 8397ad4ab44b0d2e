"""Pre-train an encoder by masked language modelling: hide words, guess them from both sides (BERT).

用掩码语言模型预训练编码器：遮住一些词，再根据两侧的文字猜出来（BERT）。

Example: danlu mlm --data my_texts --out runs/mlm
Data is a folder that `danlu data prepare` wrote, or any txt, jsonl or parquet files or folders of them. The model
folder is OUT/model, which `danlu fill` and transformers' BertForMaskedLM open; give the same command again after an
interruption and it goes on.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError
from danlu.core.folder import ModelFolder
from danlu.core.i18n import tr
from danlu.core.run import Run
from danlu.data.batches import PackedBatches
from danlu.data.load import load_split
from danlu.data.masking import MaskedBatches, Masker, MaskingConfig, fixed_masking, mark_words, with_mask
from danlu.generate.fill import BLANK, Candidate, fill_blanks, filled
from danlu.models import auto
from danlu.models.base import Batch, LanguageModel
from danlu.models.encoder import Encoder, EncoderConfig
from danlu.stages.stage import Stage
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.hooks import console
from danlu.train.objective import aligned_cross_entropy

__all__ = ["Config", "run"]

_SHOWN = 24  # tokens of a held-out text that is shown with a blank in its middle, when no prompts are given


class Config(Base):
    """What to learn from, how large, what is hidden, how long."""

    data: Input = doc(
        ...,
        "prepared folder, or txt, jsonl, parquet files or folders of them",
        "准备好的数据文件夹，或 txt、jsonl、parquet 文件（夹）",
    )
    out: Output = doc(Path("runs/mlm"), "the run's folder; the model goes to OUT/model", "运行目录；模型存于 OUT/model")
    base: Input | None = doc(
        None, "encoder folder to go on from; default: from scratch", "起点编码器文件夹；默认从零开始"
    )
    tokenizer: Input | None = doc(
        None, "folder with a tokenizer; default: train one on the data", "分词器文件夹；默认在数据上训练一个"
    )
    new_tokenizer: TokenizerConfig = doc(
        TokenizerConfig(chat_template="none"), "the tokenizer to train, when none is given", "未给分词器时，如何训练"
    )
    model: EncoderConfig = doc(EncoderConfig(), "the model's shape, when there is no base", "没有 base 时，模型的形状")
    masking: MaskingConfig = doc(MaskingConfig(), "what is hidden", "遮住什么")
    train: TrainConfig = doc(TrainConfig(lr=3e-3), "the training loop", "训练循环")
    valid: float = doc(
        0.05,
        "share (or number) of documents held out, for data that is not prepared",
        "未划分的数据中，留作验证的比例（或数目）",
        gt=0,
    )
    prompts: tuple[str, ...] = doc(
        (),
        f"texts with a {BLANK} to fill while training; default: one that is held out",
        f"训练中用于观察的填空，含 {BLANK}；默认取一篇验证文本",
    )


def run(config: Config) -> Path:
    """Train and save; return the model folder."""
    parent = _parent(config)
    with Stage(Run(config.out, "mlm", config, parent=parent and parent.hash), config.train) as stage:
        if stage.done:
            return stage.model_path
        seed = config.train.seed
        texts = {
            split: [
                row["text"] for row in load_split(config.data, split, seed=seed, valid=config.valid, columns=("text",))
            ]
            for split in ("train", "valid")
        }
        tokenizer = _tokenizer(config, texts["train"])
        model = _model(config, tokenizer)
        masker = Masker(tokenizer, config.masking, seed)
        documents = {split: mark_words(texts[split], tokenizer, config.masking.whole_words) for split in texts}
        size, rows = config.train.seq_len, config.train.batch_size
        batches = MaskedBatches(PackedBatches(documents["train"], size, rows, seed=seed), masker)
        valid = fixed_masking(documents["valid"], size, rows, tokenizer, config.masking)
        prompts = config.prompts or (_blanked(texts["valid"][0], tokenizer, model.context // 2),)
        for prompt in prompts:
            fill_blanks(model, tokenizer, prompt)  # one that cannot be shown is told before training
        stage.fit(model, batches, valid, aligned_cross_entropy, lambda: _show(model, tokenizer, prompts))
        stage.run.measured["val_accuracy"] = round(_accuracy(model, valid), 4)
        return stage.save(model, tokenizer, parent=parent)


def _parent(config: Config) -> ModelFolder | None:
    if config.base is None:
        config.model.check()
        return None
    for name in ("tokenizer", "new_tokenizer", "model"):
        if getattr(config, name) != type(config).model_fields[name].default:
            raise ConfigError(
                tr(f"base and {name} are both given", f"同时给出了 base 与 {name}"),
                tr(f"leave out {name}: the base folder has its own", f"请去掉 {name}：base 文件夹自带"),
            )
    return ModelFolder.open(config.base)


def _tokenizer(config: Config, texts: Sequence[str]) -> Tokenizer:
    if config.base is not None:
        return Tokenizer.load(config.base)
    if config.tokenizer is not None:
        return with_mask(Tokenizer.load(config.tokenizer))
    return with_mask(train_tokenizer(texts, config.new_tokenizer))


def _model(config: Config, tokenizer: Tokenizer) -> Encoder:
    random = torch.Generator().manual_seed(config.train.seed)
    if config.base is None:
        shape = {"head": "masked-lm", "vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id}
        model = Encoder(config.model.model_copy(update=shape))
        model.initialise(random)
        return model
    model = auto.load(config.base)
    if not isinstance(model, Encoder):
        raise ConfigError(
            tr(f"{config.base} holds no encoder", f"{config.base} 中不是编码器"),
            tr("a decoder learns by danlu pretrain", "解码器请用 danlu pretrain 训练"),
        )
    return model if model.config.head == "masked-lm" else model.with_head("masked-lm", random)


def _blanked(text: str, tokenizer: Tokenizer, room: int) -> str:
    """The beginning of a text, at most `room` tokens, the one in its middle made a blank."""
    ids = tokenizer.encode(text)[: min(room, _SHOWN)]
    middle = len(ids) // 2
    return tokenizer.decode(ids[:middle]) + BLANK + tokenizer.decode(ids[middle + 1 :])


def _show(model: LanguageModel, tokenizer: Tokenizer, prompts: Sequence[str]) -> list[str]:
    """Each prompt with its blanks filled, and how sure the model is; printed, too."""
    shown = []
    for prompt in prompts:
        blanks = fill_blanks(model, tokenizer, prompt, top=4)
        shown.append(f"{filled(prompt, blanks)}\n    " + "  |  ".join(map(_odds, blanks)))
        console.print(shown[-1], markup=False, highlight=False, soft_wrap=True)
    return shown


def _odds(candidates: Sequence[Candidate]) -> str:
    return ", ".join(f"{one.shown} {one.probability:.0%}" for one in candidates)


@torch.no_grad()
def _accuracy(model: LanguageModel, batches: Sequence[Batch]) -> float:
    """The share of hidden tokens that the model's first guess finds."""
    model.eval()
    right = hidden = 0
    for batch in batches:
        here = {name: tensor.to(model.device) for name, tensor in batch.items()}
        wanted = here["labels"] != -100
        guesses = model.logits(model.hidden(here)[wanted]).argmax(-1)
        right += int((guesses == here["labels"][wanted]).sum())
        hidden += int(wanted.sum())
    return right / max(1, hidden)
