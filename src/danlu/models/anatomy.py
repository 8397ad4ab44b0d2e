"""What a model is made of: its parameters by part, its matrices, its attention; all without its weights.

The model is built on the meta device, where tensors have shapes and no memory, and its modules are walked; so one
description serves every family.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from danlu.core.errors import ConfigError, FolderError
from danlu.core.files import read_json
from danlu.core.folder import ModelFolder
from danlu.core.gguf import GGUF, is_gguf
from danlu.core.i18n import tr
from danlu.models import auto
from danlu.models.base import LanguageModel
from danlu.models.gguf import config_of
from danlu.models.moe import Router, SparseMoE

__all__ = ["PARTS", "Anatomy", "Look", "Matrix", "Shape", "dissect", "examine", "open_anatomy", "refuse_vast"]

PARTS = ("embedding", "attention", "mlp", "experts", "router", "norms", "head")
_CAUSAL = ("ForCausalLM", "LMHeadModel")  # how the classes of decoders end
# One number, by the names that families give it in config.json
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_HEAD_DIM = ("head_dim", "d_kv")
_COUNTED = (_LAYERS, ("num_experts", "num_local_experts"))
_VAST = 50_000  # the largest public models have a third of that
_INNER = ("intermediate_size", "n_inner", "d_ff", "hidden_dim")


class Look(NamedTuple):
    """One attention of one layer: who sees whom."""

    causal: bool  # only what stands before, and so kept in a cache while generating
    window: int | None = None  # tokens seen: so many back, or around, the token itself included


class Matrix(NamedTuple):
    """A weight that tokens are multiplied with."""

    out: int
    inner: int
    share: float  # of the tokens visit it: chosen / experts for an expert's, else 1
    inside: bool  # in a layer; what is not stands between the layers and the output matrix

    @property
    def size(self) -> int:
        return self.out * self.inner


@dataclass(frozen=True)
class Shape:
    """The numbers that the formulas of memory and computation need."""

    model_type: str
    hidden: int
    layers: int  # of an encoder-decoder: of both
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    context: int
    gated: bool  # three matrices in the MLP instead of two
    rms: bool  # RMSNorm instead of LayerNorm
    normed: int  # numbers that all norms together are given for one token
    tied: bool  # the output matrix is the embedding
    looks: tuple[Look, ...]
    encoder_decoder: bool = False
    sparse: int = 0  # layers with experts
    experts: int = 0
    chosen: int = 0
    expert_inner: int = 0

    @property
    def cached(self) -> int:
        """Attentions that keep keys and values of what was written."""
        return sum(look.causal for look in self.looks)


@dataclass(frozen=True)
class Anatomy:
    """Parameters by part (`PARTS`; a shared one counts once, where it stands first), and the matrices."""

    shape: Shape
    parts: dict[str, int]
    active: dict[str, int]  # of these, how many a token meets
    tensors: int
    matrices: tuple[Matrix, ...]  # without the output matrix
    output: int  # elements of the output matrix, shared or not; 0 where the answer is the hidden states

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def total_active(self) -> int:
        return sum(self.active.values())

    @property
    def inside(self) -> list[Matrix]:
        """The matrices inside the layers: what quantisation, LoRA and Muon are about."""
        return [matrix for matrix in self.matrices if matrix.inside]

    @property
    def in_layers(self) -> int:
        """Parameters of `inside`."""
        return sum(matrix.size for matrix in self.inside)


def dissect(config: Mapping[str, Any], where: str = "config.json") -> Anatomy:
    """The anatomy of the model that a Hugging Face config describes; no weights, no memory.

    Raises FolderError or ConfigError for a family, or a setting of one, that danlu does not implement.
    """
    refuse_vast(config, where)
    with torch.device("meta"):
        return examine(auto.build(config, where))


def refuse_vast(config: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError where layers times experts are so many that their bare modules would fill the memory."""
    counts = [next((config[name] for name in names if isinstance(config.get(name), int)), 1) for names in _COUNTED]
    if math.prod(counts) > _VAST:
        raise ConfigError(
            tr(
                f"{where}: {counts[0]:,} layers of {counts[1]:,} experts",
                f"{where}:{counts[0]:,} 层、每层 {counts[1]:,} 个专家",
            ),
            tr(f"at most {_VAST:,} experts in all can be counted", f"专家总数至多 {_VAST:,} 个"),
        )


def open_anatomy(path: Path | str) -> Anatomy:
    """The anatomy of a model folder, of a config.json alone, or of a GGUF file; the weights are not read.

    Raises FolderError or ConfigError for what cannot be opened or is not implemented.
    """
    path = Path(path)
    if is_gguf(path):
        return dissect(config_of(GGUF(path)), str(path))
    if path.suffix != ".json":
        return dissect(ModelFolder.open(path, verify=False).config, str(path / "config.json"))
    config = read_json(path)
    if not isinstance(config, dict):
        raise FolderError(tr(f"{path} is no mapping", f"{path} 不是“键: 值”结构"))
    return dissect(config, str(path))


def examine(model: LanguageModel) -> Anatomy:
    """The anatomy of a model."""
    modules = dict(model.named_modules())
    output = _output(model)
    parts, active = Counter[str](), Counter[str]()
    matrices, seen = [], set[int]()
    for place, module in modules.items():
        words = place.split(".")
        inside = any(word.isdecimal() for word in words)
        sparse = _sparse_above(words, modules)
        part = _part(words, module, inside, sparse is not None)
        share = sparse.gate.chosen / len(sparse.experts) if sparse is not None and part == "experts" else 1.0
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            parts[part] += parameter.numel()
            active[part] += round(parameter.numel() * share)
            if parameter.ndim == 2 and not isinstance(module, nn.Embedding) and parameter is not output:
                out, inner = parameter.shape
                matrices.append(Matrix(out, inner, share, inside))
    ordered = [part for part in PARTS if parts[part]]
    return Anatomy(
        _shape(model, modules, parts),
        {part: parts[part] for part in ordered},
        {part: active[part] for part in ordered},
        len(seen),
        tuple(matrices),
        0 if output is None else output.numel(),
    )


def _part(words: list[str], module: nn.Module, inside: bool, sparse: bool) -> str:
    """Which of `PARTS` a module's own parameters belong to. words: its place; inside: within a numbered layer."""
    if "norm" in type(module).__name__.lower():
        return "norms"
    if any("attention" in word.lower() or "attn" in word.lower() for word in words):
        return "attention"
    if isinstance(module, nn.Embedding):
        return "embedding"
    if isinstance(module, Router):
        return "router"
    return "experts" if sparse else "mlp" if inside else "head"


def _sparse_above(words: list[str], modules: Mapping[str, nn.Module]) -> SparseMoE | None:
    """The mixture of experts that a module is part of."""
    above = (modules[".".join(words[:depth])] for depth in range(1, len(words)))
    return next((module for module in above if isinstance(module, SparseMoE)), None)


def _output(model: LanguageModel) -> nn.Parameter | None:
    try:
        weight = model.output_weight
    except ConfigError:  # a plain encoder, whose answer is its hidden states
        return None
    assert isinstance(weight, nn.Parameter)
    return weight


def _shape(model: LanguageModel, modules: Mapping[str, nn.Module], parts: Mapping[str, int]) -> Shape:
    config = model.hf_config()
    heads, hidden = _number(config, _HEADS), _number(config, _HIDDEN)
    inner = _number(config, _INNER, 4 * hidden)
    looks = _looks(config)
    both = bool(config.get("is_encoder_decoder"))
    layers = _number(config, _LAYERS)
    layers += _number(config, ("num_decoder_layers",), layers) if both else 0
    sparse = [module for module in modules.values() if isinstance(module, SparseMoE)]
    dense = (layers - len(sparse)) * hidden * inner
    expert = [weight.numel() // hidden for weight in sparse[0].experts[0].parameters()] if sparse else []
    return Shape(
        model_type=config["model_type"],
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=_number(config, _HEAD_DIM, hidden // heads),
        inner=inner,
        vocabulary=config["vocab_size"],
        context=model.context,
        gated=len(expert) == 3 if not dense else parts["mlp"] > 2.5 * dense,
        rms=any("rms" in type(module).__name__.lower() for module in modules.values()),
        normed=_normed(modules, heads, config.get("num_key_value_heads") or heads),
        tied=model.tied().get("lm_head.weight") is not None or bool(config.get("tie_word_embeddings")),
        looks=looks,
        encoder_decoder=both,
        sparse=len(sparse),
        experts=len(sparse[0].experts) if sparse else 0,
        chosen=sparse[0].gate.chosen if sparse else 0,
        expert_inner=expert[0] if expert else 0,
    )


def _normed(modules: Mapping[str, nn.Module], heads: int, kv_heads: int) -> int:
    """Numbers a token that go through norms: those of queries and keys have a head's width, and work on each head."""
    copies = {"q_norm": heads, "k_norm": kv_heads}
    return sum(
        module.weight.numel() * copies.get(name.rpartition(".")[2], 1)
        for name, module in modules.items()
        if "norm" in type(module).__name__.lower() and isinstance(module.weight, nn.Parameter)
    )


def _looks(config: Mapping[str, Any]) -> tuple[Look, ...]:
    """Every attention of the model; of an encoder-decoder those of the encoder, then of the decoder two a layer."""
    layers = _number(config, _LAYERS)
    if config.get("is_encoder_decoder"):
        return (Look(False),) * layers + (Look(True), Look(False)) * _number(config, ("num_decoder_layers",), layers)
    causal = any(name.endswith(_CAUSAL) for name in config["architectures"])
    window = config.get("sliding_window") if causal else config.get("local_attention", 0) // 2 * 2 + 1
    kinds = config.get("layer_types") or ["sliding_attention" if causal and window else "full_attention"] * layers
    return tuple(Look(causal, window if kind == "sliding_attention" else None) for kind in kinds)


def _number(config: Mapping[str, Any], names: tuple[str, ...], default: int | None = None) -> int:
    found = next((config[name] for name in names if config.get(name) is not None), default)
    if found is None:
        raise FolderError(tr(f"config.json has none of {', '.join(names)}", f"config.json 中没有 {'、'.join(names)}"))
    return int(found)
