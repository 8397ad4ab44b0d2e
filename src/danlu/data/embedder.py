"""Texts as vectors, by any model folder that has a tokenizer; how states become one vector is read from the folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.core.errors import DataError, FolderError
from danlu.core.files import read_json
from danlu.core.i18n import tr
from danlu.models import auto
from danlu.models.base import LanguageModel
from danlu.ops.pooling import POOLINGS, Pooling, pool
from danlu.tokenizer import Tokenizer

__all__ = ["Embedder", "EmbeddingPlan", "read_plan"]

# What sentence-transformers wrote before it had one setting for it
_OLDER: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


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
    def embed(self, texts: Sequence[str], batch_size: int = 32, *, steady: bool = False) -> Tensor:
        """float32 [N, D] on the CPU, in the order of `texts`. Texts of like length share a batch.

        A vector may differ in its last bits with the texts beside it; not so when `steady`: then all batches have
        `batch_size` rows and a width that a text's own length decides, at some cost where there are few texts.
        """
        ids = self.tokens(texts)
        widths = [min(-(-len(one) // 16) * 16, self.longest) if steady else 0 for one in ids]
        order = sorted(range(len(ids)), key=lambda number: (-widths[number], -len(ids[number])))
        found: dict[int, Tensor] = {}
        for _, numbers in groupby(order, key=widths.__getitem__):
            alike = list(numbers)
            for start in range(0, len(alike), batch_size):
                chosen = alike[start : start + batch_size]
                batch = [ids[number] for number in chosen]
                if steady:
                    batch += batch[:1] * (batch_size - len(batch))
                vectors = self._vectors(batch, max(widths[chosen[0]], len(batch[0])))
                found |= dict(zip(chosen, vectors, strict=False))
        return torch.stack([found[number] for number in range(len(ids))])

    def _vectors(self, ids: Sequence[Sequence[int]], width: int) -> Tensor:
        padded = torch.tensor([[*one, *[self.tokenizer.pad_id] * (width - len(one))] for one in ids])
        lengths = torch.tensor([len(one) for one in ids])
        counted = (torch.arange(width) < lengths[:, None]).to(self.model.device)
        hidden = self.model.hidden({"input_ids": padded.to(self.model.device), "segment_ids": counted.long()})
        vectors = torch.cat([pool(hidden, counted, how) for how in self.plan.poolings], dim=-1).float().cpu()
        return F.normalize(vectors, dim=-1) if self.plan.normalise else vectors

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
