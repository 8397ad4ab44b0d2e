"""Turn texts into vectors whose cosine tells how alike they are in meaning.

把文本变成向量：两个向量的余弦说明两段文本意思有多近。

Example: danlu embed all-minilm-l6-v2 --text "A cat sits on the mat." --text "A kitten rests on a rug." --text "Stocks fell."
How states become one vector is read from the folder where sentence-transformers wrote it (modules.json); elsewhere it
is their mean. A model that only continues texts gives vectors too, less telling ones.
"""

import json

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from danlu.core.assets import asset_path, catalogue
from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.device import choose_device
from danlu.core.errors import ConfigError
from danlu.core.files import atomic_path, read_lines
from danlu.core.i18n import tr
from danlu.data.embedder import Embedder, EmbeddingPlan, read_plan
from danlu.ops.pooling import Pooling

__all__ = ["Config", "Embedder", "EmbeddingPlan", "read_plan", "run"]

_SHOWN = 12  # texts that are compared each with each


class Config(Base):
    """Which model, which texts."""

    model: Input = doc(
        ..., "model folder, or an asset such as all-minilm-l6-v2", "模型文件夹，或资料名，如 all-minilm-l6-v2"
    )
    text: list[str] = doc([], "a text; give several to compare them", "一段文本；给出多段即可比较")
    lines: Input | None = doc(None, "file with one text a line", "文本文件，每行一段")
    pooling: Pooling | None = doc(
        None,
        "how states become a vector; default: as the folder says, else mean",
        "如何合成向量；默认按文件夹所写，否则取平均",
    )
    batch_size: PositiveInt = doc(32, "texts at a time", "每批文本数")
    device: str = doc("auto", "cpu, cuda, mps or auto", "cpu、cuda、mps 或 auto")
    json_: Output | None = doc(None, "write texts and vectors to this file", "把文本与向量写入该文件")


def run(config: Config) -> None:
    """Print how alike the texts are; with --json write the vectors."""
    texts = [*config.text, *(line for line in (read_lines(config.lines) if config.lines else []) if line.strip())]
    if not texts:
        raise ConfigError(tr("there is no text", "没有文本"), tr("give --text or --lines", "请给出 --text 或 --lines"))
    path = config.model
    if not path.exists() and str(path) in catalogue():
        path = asset_path(str(path))
    embedder = Embedder.open(path, pooling=config.pooling, device=choose_device(config.device))
    vectors = embedder.embed(texts, config.batch_size)
    if config.json_ is not None:
        rows = [{"text": text, "vector": vector} for text, vector in zip(texts, vectors.tolist(), strict=True)]
        with atomic_path(config.json_) as temporary:
            temporary.write_text(
                json.dumps({"model": str(config.model), "rows": rows}, ensure_ascii=False) + "\n", encoding="utf-8"
            )
    _print(texts, vectors)


def _print(texts: list[str], vectors: Tensor) -> None:
    """Each with each where they are few; of many, to each the one nearest to it."""
    unit = F.normalize(vectors, dim=-1)
    alike = unit @ unit.T
    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column(tr("text", "文本"), overflow="fold")
    if len(texts) <= _SHOWN:
        for number in range(1, len(texts) + 1):
            table.add_column(str(number), justify="right", no_wrap=True)
        for number, text in enumerate(texts):
            table.add_row(str(number + 1), Text(text), *(f"{value:.3f}" for value in alike[number].tolist()))
    else:
        table.add_column(tr("nearest", "最近"), justify="right", no_wrap=True)
        table.add_column(tr("cosine", "余弦"), justify="right", no_wrap=True)
        best = alike.fill_diagonal_(-torch.inf).max(1)
        for number, (text, near, value) in enumerate(
            zip(texts, best.indices.tolist(), best.values.tolist(), strict=True), 1
        ):
            table.add_row(str(number), Text(text), str(near + 1), f"{value:.3f}")
    Console().print(table)
    Console().print(tr(f"vectors of {vectors.shape[1]} numbers", f"向量维数：{vectors.shape[1]}"), highlight=False)
