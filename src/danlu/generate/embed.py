"""Turn texts into vectors whose cosine tells how alike they are in meaning.

把文本变成向量：两个向量的余弦说明两段文本意思有多近。

Example: danlu embed all-minilm-l6-v2 --text "A cat sits on the mat." --text "A kitten rests on a rug." --text "Stocks fell."
How states become one vector is read from the folder where sentence-transformers wrote it (modules.json); elsewhere it
is their mean. A model that only continues texts gives vectors too, less telling ones.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
from danlu.core.errors import ConfigError, DataError, FolderError
from danlu.core.files import atomic_path, read_json
from danlu.core.i18n import tr
from danlu.models import auto
from danlu.models.base import LanguageModel
from danlu.ops.pooling import POOLINGS, Pooling, pool
from danlu.tokenizer import Tokenizer

__all__ = ["Config", "Embedder", "EmbeddingPlan", "read_plan", "run"]

_SHOWN = 12  # texts that are compared each with each
# What sentence-transformers wrote before it had one setting for it
_OLDER: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


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


@dataclass(frozen=True)
class EmbeddingPlan:
    """How a folder's hidden states become one vector: `poolings` side by side, then perhaps scaled to length 1."""

    poolings: tuple[Pooling, ...] = ("mean",)
    normalise: bool = False
    longest: int | None = None  # tokens of a text that are read
    lower: bool = False
    prefix: str = ""  # stands before every text


class Embedder:
    """Texts to vectors [N, D], by any model folder that has a tokenizer."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, plan: EmbeddingPlan) -> None:
        self.model, self.tokenizer, self.plan = model.eval(), tokenizer, plan
        self.longest = min(plan.longest or tokenizer.model_max_length or model.context, model.context)

    @classmethod
    def open(cls, path: Path | str, *, pooling: Pooling | None = None, device: torch.device | str = "cpu") -> Self:
        """A folder's model, tokenizer and plan; `pooling` in place of the plan's own.

        Raises FolderError for what is missing or damaged, and naming a step of the plan that is not implemented.
        """
        plan = read_plan(Path(path))
        if pooling is not None:
            plan = EmbeddingPlan((pooling,), plan.normalise, plan.longest, plan.lower, plan.prefix)
        return cls(auto.load(path, device=device), Tokenizer.load(Path(path)), plan)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids, framed as the tokenizer frames a text; what is too long loses its end, but not the frame's.

        Raises DataError for a text of which no token is left.
        """
        asked = [self.plan.prefix + (text.lower() if self.plan.lower else text) for text in texts]
        found = []
        for text, encoding in zip(texts, self.tokenizer.encode_framed(asked), strict=True):
            ids = encoding.ids
            if not ids:
                raise DataError(tr(f"no token in the text {text!r}", f"文本 {text!r} 中没有词元"))
            if len(ids) > self.longest:
                closing = encoding.special_tokens_mask[::-1]
                kept = closing.index(0) if 0 in closing else 0
                ids = ids[: max(0, self.longest - kept)] + ids[len(ids) - kept :]
            found.append(ids)
        return found

    # lesson: embed
    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """float32 [N, D] on the CPU, in the order of `texts`. Texts of like length share a batch."""
        ids = self.tokens(texts)
        order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            width = len(ids[chosen[0]])
            padded = torch.tensor([ids[n] + [self.tokenizer.pad_id] * (width - len(ids[n])) for n in chosen])
            lengths = torch.tensor([len(ids[n]) for n in chosen])
            counted = (torch.arange(width) < lengths[:, None]).to(self.model.device)
            hidden = self.model.hidden({"input_ids": padded.to(self.model.device), "segment_ids": counted.long()})
            vectors = torch.cat([pool(hidden, counted, how) for how in self.plan.poolings], dim=-1).float().cpu()
            found |= dict(zip(chosen, F.normalize(vectors, dim=-1) if self.plan.normalise else vectors, strict=True))
        return torch.stack([found[number] for number in range(len(ids))])

    # end lesson


def read_plan(folder: Path) -> EmbeddingPlan:
    """What modules.json and the files beside it say; the mean of the states where there is none.

    Raises FolderError naming a file that is damaged, or a step or setting that is not implemented.
    """
    file = folder / "modules.json"
    if not file.exists():
        return EmbeddingPlan()
    steps = read_json(file)
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise FolderError(tr(f"{file} is no list of modules", f"{file} 不是模块列表"))
    poolings, normalise, more = None, False, {}
    for number, step in enumerate(steps):
        kind, place = str(step.get("type")).rpartition(".")[2], folder / str(step.get("path", ""))
        if kind == "Transformer" and number == 0 and place == folder:
            more = _reading(folder)
        elif kind == "Pooling" and poolings is None:
            poolings = _poolings(place / "config.json")
        elif kind == "Normalize" and poolings is not None:
            normalise = True
        else:
            raise _refused(file, f"{kind} ({step.get('path')})")
    return EmbeddingPlan(poolings or ("mean",), normalise, **more)


def _reading(folder: Path) -> dict[str, Any]:
    """How much of a text is read, and what is done to it before."""
    said = _mapping(folder / "sentence_bert_config.json")
    prompts = _mapping(folder / "config_sentence_transformers.json")
    longest, name = said.get("max_seq_length"), prompts.get("default_prompt_name")
    if longest is not None and not (isinstance(longest, int) and longest > 0):
        raise _refused(folder / "sentence_bert_config.json", f"max_seq_length {longest!r}")
    known = prompts.get("prompts") or {}
    if name is not None and not (isinstance(known, dict) and isinstance(known.get(name), str)):
        raise _refused(folder / "config_sentence_transformers.json", f"default_prompt_name {name!r}")
    return {
        "longest": longest,
        "lower": bool(said.get("do_lower_case", False)),
        "prefix": known[name] if name is not None else "",
    }


def _poolings(file: Path) -> tuple[Pooling, ...]:
    said = _mapping(file)
    if not said.get("include_prompt", True):
        raise _refused(file, "include_prompt false")
    older = [mode for key, mode in _OLDER.items() if said.get(key)]
    told = said.get("pooling_mode", older or "mean")
    modes = told if isinstance(told, list) else [told]
    known: dict[Any, Pooling] = {mode: mode for mode in POOLINGS}
    if not modes or not all(isinstance(mode, str) and mode in known for mode in modes):
        raise _refused(file, f"pooling_mode {told!r}")
    return tuple(known[mode] for mode in modes)


def _mapping(file: Path) -> Mapping[str, Any]:
    found = read_json(file) if file.exists() else {}
    if not isinstance(found, dict):
        raise FolderError(tr(f"{file} is no mapping", f"{file} 不是“键: 值”结构"))
    return found


def _refused(file: Path, what: str) -> FolderError:
    return FolderError(
        tr(f"{file}: {what} is not implemented", f"{file}：尚未实现 {what}"),
        tr(
            f"known steps: Transformer, Pooling ({', '.join(POOLINGS)}), Normalize",
            f"可用的步骤：Transformer、Pooling（{'、'.join(POOLINGS)}）、Normalize",
        ),
    )


def run(config: Config) -> None:
    """Print how alike the texts are; with --json write the vectors."""
    texts = [*config.text, *(_lines(config.lines) if config.lines else [])]
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


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(
            tr(
                f"{file} is not UTF-8: byte {error.start} cannot be decoded",
                f"{file} 不是 UTF-8：第 {error.start} 个字节无法解码",
            ),
            tr("convert it first, for instance with iconv", "请先转换编码，例如用 iconv"),
        ) from None
    except OSError as error:
        raise DataError(tr(f"cannot read {file}: {error.strerror}", f"无法读取 {file}：{error.strerror}")) from None


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
