"""Learn a tokenizer's vocabulary from text.

从文本中训练一个分词器。

Example: danlu tokenizer train --data my_texts --out tokenizers/mine --kind bpe
Data is a folder that `danlu data prepare` wrote (its training split is read), or any txt, jsonl or parquet files or
folders of them. The result is a folder in Hugging Face format, which `danlu pretrain --tokenizer` takes.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import DataError
from danlu.core.files import atomic_folder
from danlu.core.i18n import tr
from danlu.data.load import load_split
from danlu.data.progress import track
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

__all__ = ["Config", "learnable_texts", "run"]

_SAMPLE = 2000  # texts whose length in tokens is measured for the summary


class _Paths(Base):
    data: Input = doc(
        ...,
        "prepared folder, or text, jsonl, parquet files or folders of them",
        "准备好的数据，或文本、jsonl、parquet 文件（夹）",
    )
    out: Output = doc(..., "folder to write", "输出文件夹")


class Config(TokenizerConfig, _Paths):  # pydantic puts the fields of the last base first
    """Settings of `danlu tokenizer train`."""

    column: str | None = doc(
        None, "the column that holds text; default: text and messages", "文本所在的列；默认为 text 与 messages"
    )


def run(config: Config) -> Path:
    """Train, save, print what was learnt; return the folder.

    Raises DataError for unusable data, ConfigError for an unusable chat template, StorageError when it cannot be saved.
    """
    _refuse_foreign(config.out)
    start = time.perf_counter()
    columns = None if config.column is None else [f"text={config.column}"]
    texts = [text for row in load_split(config.data, "train", columns=columns) for text in learnable_texts(row)]
    settings = TokenizerConfig.parse({name: getattr(config, name) for name in TokenizerConfig.model_fields})
    tokenizer = _train(texts, settings)
    with atomic_folder(config.out) as folder:
        tokenizer.save(folder)
    _show(config.out, tokenizer, texts, time.perf_counter() - start)
    return config.out


def _refuse_foreign(out: Path) -> None:
    """`out` is replaced as a whole, so it must be absent, empty or an earlier result."""
    if out.exists() and not (out.is_dir() and {file.name for file in out.iterdir()} <= set(Tokenizer.FILES)):
        raise DataError(
            tr(f"{out} exists and holds more than a tokenizer", f"{out} 已存在，且其中不只有分词器"),
            tr("choose another --out", "请换一个 --out"),
        )


def learnable_texts(row: dict[str, Any]) -> list[str]:
    """What a model will read of a row: its text, and what is said in its messages and is not part of the text."""
    text = row.get("text", "")
    said = [message.get("content") for message in row.get("messages", ()) if isinstance(message, dict)]
    return [part for part in (text, *(part for part in said if isinstance(part, str) and part not in text)) if part]


def _train(texts: Sequence[str], settings: TokenizerConfig) -> Tokenizer:
    """Train under a bar while texts are read; joining pairs, which comes after, cannot tell how far it is."""
    from rich.console import Console

    joining = Console(stderr=True).status(tr("joining frequent pairs", "合并常见的字节对"))

    def read() -> Iterator[str]:
        yield from track(texts, len(texts), tr("learning the vocabulary", "学习词表"))
        joining.start()

    try:
        return train_tokenizer(read(), settings)
    finally:
        joining.stop()


def _show(out: Path, tokenizer: Tokenizer, texts: Sequence[str], seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    sample = texts[:: max(1, len(texts) // _SAMPLE)]
    encoded = tokenizer.encode_batch(sample)
    tokens, characters = sum(map(len, encoded)), sum(map(len, sample))
    table = Table(title=str(out), show_header=False)
    table.add_row(tr("texts", "文本数"), f"{len(texts):,}")
    table.add_row(tr("tokens in the vocabulary", "词表大小"), f"{tokenizer.vocab_size:,}")
    table.add_row(tr("characters per token", "平均每个词元的字符数"), f"{characters / max(tokens, 1):.2f}")
    table.add_row(tr("seconds", "用时（秒）"), f"{seconds:.1f}")
    Console().print(table)
