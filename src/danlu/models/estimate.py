"""Estimate what a model would take to run and to train, from its size or its shape alone.

仅凭参数量或形状，估算模型运行与训练所需。

Example: danlu model estimate --params 7e9 --context 4096 --batch 4
Give --params for a Llama-like shape of that size, --shape config.json for somebody's model, or the shape itself
(--model.hidden-size 768 --model.num-hidden-layers 12 ...).
"""

import json
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.models.account import account, print_account
from danlu.models.anatomy import Anatomy, examine, open_anatomy, refuse_vast
from danlu.models.decoder import Decoder
from danlu.models.shape import DecoderConfig

__all__ = ["Config", "llama_like", "run"]

_SMALL = 1e9  # below this, models are deeper for their width and share the embedding, as GPT-2 and Llama 3.2 do
_OFF = 0.02  # of the parameters asked for; among shapes as near as this, the proportions decide


class Config(Base):
    """How large, or of which shape; and what it should do."""

    params: PositiveFloat | None = doc(None, "parameters, such as 7e9", "参数量,如 7e9", ge=1e5, le=1e13)
    shape: Input | None = doc(None, "config.json, model folder or GGUF file", "config.json、模型文件夹或 GGUF 文件")
    model: DecoderConfig = doc(DecoderConfig(), "the shape, by hand", "直接给出形状")
    vocabulary: PositiveInt = doc(32000, "tokens in the vocabulary, with --params", "词表大小(配合 --params)", le=2**24)
    context: PositiveInt | None = doc(
        None, "tokens of a sequence; default: the model's context, at most 4096", "序列长度;默认为模型上下文,至多 4096"
    )
    batch: PositiveInt = doc(1, "sequences at once", "同时处理的序列数")
    rank: PositiveInt = doc(16, "rank of LoRA", "LoRA 的秩")
    json_: bool = doc(False, "print JSON for programs", "输出 JSON,给程序读")


def run(config: Config) -> dict[str, Any]:
    """Print the account; return it. Raises ConfigError unless exactly one of params, shape and model is given."""
    anatomy, title = _anatomy(config)
    told = account(anatomy, config.context, config.batch, config.rank)
    if config.params is not None:
        told = {"inferred": title, **told}
    if config.json_:
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        print_account(anatomy, told, title)
    return told


def _anatomy(config: Config) -> tuple[Anatomy, str]:
    given = [name for name in ("params", "shape", "model") if name in config.model_fields_set]
    if len(given) != 1:
        raise ConfigError(
            tr(
                f"one of --params, --shape and --model.* is needed, not {len(given)}",
                f"--params、--shape、--model.* 须且只须给出一种,现有 {len(given)} 种",
            ),
            tr("for instance: danlu model estimate --params 7e9", "例如:danlu model estimate --params 7e9"),
        )
    if config.shape is not None:
        return open_anatomy(config.shape), str(config.shape)
    if config.params is None:
        return _built(config.model), config.model.family
    anatomy = _built(llama_like(config.params, config.vocabulary))
    shape = anatomy.shape
    told = tr(
        f"only a size was given; assumed is a Llama-like shape, {shape.layers} layers of {shape.hidden}: "
        f"{anatomy.total:.4g} parameters",
        f"只给了参数量;按 Llama 式形状估计,{shape.layers} 层、宽 {shape.hidden}:{anatomy.total:.4g} 个参数",
    )
    return anatomy, told


def _built(shape: DecoderConfig) -> Anatomy:
    import torch

    refuse_vast(shape.plain(), "model")
    with torch.device("meta"):
        return examine(Decoder(shape))


def llama_like(params: float, vocabulary: int = 32000) -> DecoderConfig:
    """A shape of about `params` parameters with Llama's proportions (Touvron et al. 2023, Table 2).

    Heads are 128 wide (64 below 1e9), the MLP 8/3 of the width rounded up to 64, every head has keys of its own, and
    a layer is for each 128 of the width (for each 64 below 1e9, where the embedding is shared too). Of the shapes
    within 2% of the size, or else the nearest, the one nearest to that proportion.
    Raises ConfigError when the vocabulary alone is larger.
    """
    small = params < _SMALL
    head, embeddings = (64, 1) if small else (128, 2)
    found: list[tuple[bool, float, DecoderConfig]] = []
    for heads in range(1, 512):
        width = heads * head
        inner = -(-width * 8 // 3 // 64) * 64
        layer = 4 * width**2 + 3 * width * inner + 2 * width
        ends = embeddings * vocabulary * width + width
        layers = max(1, round((params - ends) / layer))
        off = abs(ends + layers * layer - params) / params
        proportion = width / layers / head
        if layers > 4096:
            continue
        shape = DecoderConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=4096,
            tie_word_embeddings=small,
        )
        found.append((off > _OFF, off if off > _OFF else max(proportion, 1 / proportion), shape))
    best = min(found, key=lambda one: one[:2])
    if best[0] and best[1] > 0.5:
        raise ConfigError(
            tr(
                f"no Llama-like model of {params:.3g} parameters has a vocabulary of {vocabulary:,}",
                f"没有参数量为 {params:.3g}、词表为 {vocabulary:,} 的 Llama 式模型",
            ),
            tr("lower --vocabulary", "请调小 --vocabulary"),
        )
    return best[2]
