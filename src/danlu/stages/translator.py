"""Train one encoder-decoder to translate both ways between English and Chinese.

训练一个编码器-解码器模型，在中英文之间双向翻译。

Example: danlu translator --data my_pairs --out runs/translator
Data is a folder that `danlu data pairs` wrote: train.jsonl and valid.jsonl with rows {"source", "target", "origin"}.
The model folder is OUT/model, which transformers' T5ForConditionalGeneration opens; `danlu translate OUT/model --text
"你好" --to en` translates with it, `danlu bleu OUT/model --data my_pairs` measures it. Give the same command again
after an interruption and it goes on.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from pydantic import PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.i18n import tr
from danlu.core.run import Run
from danlu.data.pairs import Pair
from danlu.data.translation import LANGUAGES, PairBatches, add_tags, load_pairs
from danlu.generate.translate import Translator
from danlu.models.t5 import T5, T5Config
from danlu.stages.seq2seq import build_t5, check_shape
from danlu.stages.stage import Stage
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.hooks import console
from danlu.train.objective import aligned_cross_entropy

__all__ = ["Config", "run"]

_SHOWN = 3  # held-out pairs that are translated both ways while training


class Config(Base):
    """What to learn from, how large, how long."""

    data: Input = doc(..., "folder of pairs", "句对文件夹")
    out: Output = doc(
        Path("runs/translator"), "the run's folder; the model goes to OUT/model", "运行目录；模型存于 OUT/model"
    )
    tokenizer: Input | None = doc(
        None, "folder with a tokenizer; default: train one on both sides", "分词器文件夹；默认在两侧文本上训练一个"
    )
    new_tokenizer: TokenizerConfig = doc(
        TokenizerConfig(vocab_size=6000, chat_template="none"),
        "the tokenizer to train, when none is given",
        "未给分词器时，如何训练",
    )
    model: T5Config = doc(
        T5Config(
            d_model=256,
            d_kv=64,
            d_ff=512,
            num_heads=4,
            num_layers=3,
            num_decoder_layers=2,
            tie_word_embeddings=True,
            n_positions=48,
        ),
        "the model's shape",
        "模型的形状",
    )
    alpha: float = doc(
        0.1,
        "origins of n pairs are drawn in proportion to n^alpha: 1 as they are, 0 all alike",
        "含 n 对的来源按 n^alpha 的比例抽取：1 为原比例，0 为各来源均等",
        ge=0,
        le=1,
    )
    valid_pairs: PositiveInt = doc(1000, "held-out pairs that validation draws", "验证时抽取的留出句对数")
    train: TrainConfig = doc(
        TrainConfig(batch_size=64, seq_len=48, schedule="wsd", decay=0.35, lr=0.03, warmup=30),
        "the training loop; a batch holds batch_size · seq_len tokens of both sides, and no side exceeds seq_len",
        "训练循环；一批两侧共含 batch_size · seq_len 个词元，任一侧不超过 seq_len",
    )


def run(config: Config) -> Path:
    """Train and save; return the model folder."""
    with Stage(Run(config.out, "translator", config), config.train) as stage:
        if stage.done:
            return stage.model_path
        check_shape(config.model, config.train)
        train, valid = (load_pairs(config.data, split) for split in ("train", "valid"))
        tokenizer = add_tags(_tokenizer(config, train))
        model = build_t5(config.model, tokenizer, config.train.seed)
        batches = _batches(config, train, tokenizer)
        asked = valid[:: max(1, len(valid) // _SHOWN)][:_SHOWN]
        if batches.left_out:
            console.print(tr(f"{batches.left_out} pairs are longer than {config.train.seq_len} tokens and left out",
                             f"有 {batches.left_out} 对超过 {config.train.seq_len} 个词元，已略去"))  # fmt: skip
        held_out = list(_batches(config, valid, tokenizer, draws=min(config.valid_pairs, len(valid))))
        stage.run.measured["pairs_left_out"] = batches.left_out
        stage.fit(model, batches, held_out, aligned_cross_entropy, lambda: _show(model, tokenizer, asked))
        return stage.save(model, tokenizer, parent=None)


def _tokenizer(config: Config, pairs: Sequence[Pair]) -> Tokenizer:
    if config.tokenizer:
        return Tokenizer.load(config.tokenizer)
    return train_tokenizer(chain.from_iterable((pair.en, pair.zh) for pair in pairs), config.new_tokenizer)


def _batches(config: Config, pairs: Sequence[Pair], tokenizer: Tokenizer, draws: int | None = None) -> PairBatches:
    """Of the train split without end; of the valid one `draws` pairs, once."""
    train = config.train
    size = train.batch_size * train.seq_len
    return PairBatches(
        pairs,
        tokenizer,
        tokens=size,
        longest=train.seq_len,
        alpha=config.alpha,
        seed=train.seed,
        draws=draws,
        epochs=1 if draws else None,
    )


def _show(model: T5, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> list[str]:
    """Each pair's text and what the model makes of it, both ways; printed, too."""
    translator, shown = Translator.of(model, tokenizer), []
    for source, target in (LANGUAGES, LANGUAGES[::-1]):
        texts = [getattr(pair, source) for pair in pairs]
        found = translator.translate(texts, source, target)
        shown += [f"{text} → {answer}" for text, answer in zip(texts, found, strict=True)]
    for text in shown:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return shown
