"""How an engine runs: its settings, the model in the asked precision, and the size of its cache."""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from rich.console import Console

from danlu.core.config import Config, Input, doc
from danlu.core.device import choose_device, choose_precision, memory_free
from danlu.core.errors import ConfigError
from danlu.core.folder import ModelFolder
from danlu.core.gguf import GGUF, is_gguf
from danlu.core.i18n import tr
from danlu.models import auto
from danlu.models.base import LanguageModel
from danlu.models.packed import PackedDecoder, unpackable
from danlu.models.paged import PAGE, PagedCache
from danlu.ops.kernels import kernel_fault

__all__ = ["EngineConfig", "load_model", "new_paged", "page_count"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_TOKENS_KEPT = 32768  # of the cache, unless told otherwise (or one context is longer, or memory is short)
_SHARE_OF_MEMORY = 0.25


class EngineConfig(Config):
    """How the engine runs."""

    max_rows: PositiveInt = doc(64, "requests that are computed together", "同时计算的请求数")
    step_tokens: PositiveInt = doc(
        512,
        "tokens that a step computes at most; longer prompts go in pieces",
        "每步最多计算的 token 数;更长的提示词分段",
    )
    cache_tokens: PositiveInt | None = doc(
        None,
        "tokens that the cache holds in all; default: 32768, or as memory allows",
        "缓存可容纳的 token 总数;默认 32768,视内存而定",
    )
    prefix_cache: bool = doc(True, "requests that begin alike share what is computed", "开头相同的请求共用计算结果")
    weights: Literal["auto", "float", "int8", "int4"] = doc(
        "auto",
        "pack the weights when loading, for speed on a CPU; auto: as stored",
        "加载时打包权重以提升 CPU 速度;auto:按存储方式",
    )
    guesses: NonNegativeInt = doc(
        0,
        "tokens guessed ahead and checked in one pass (speculative decoding)",
        "每步预猜并一次验证的 token 数(投机解码)",
    )
    draft: Input | None = doc(
        None,
        "small model that guesses; default: look the words up in the text",
        "用于预猜的小模型;默认在已有文本中查找",
    )
    adapters: dict[str, Path] = doc(
        {}, "LoRA folders by name, for requests that ask for one", "按名称加载的 LoRA 文件夹,供请求选用"
    )
    device: str = doc("auto", "cpu, cuda, cuda:1, mps", "设备:cpu、cuda、cuda:1、mps")
    dtype: str = doc(
        "auto",
        "auto: as stored; bf16 for int8 weights where that is fast; or fp32, bf16, fp16",
        "auto:按存储精度;int8 权重在合适的机器上用 bf16;或 fp32、bf16、fp16",
    )


def new_paged(model: LanguageModel, pages: int) -> PagedCache:
    """An empty cache of `pages` pages for a model, in its precision."""
    kept = model.new_cache(1, 1).keys
    layers, _, heads, _, head_dim = kept.shape
    return PagedCache(layers, pages, heads, head_dim, kept.dtype, kept.device)


def page_count(model: LanguageModel, config: EngineConfig) -> int:
    """How many pages the cache has: as told, or enough for all rows, within reason and a part of the free memory."""
    if config.cache_tokens:
        return -(-config.cache_tokens // PAGE)
    kept = model.new_cache(1, 1).keys
    page = 2 * kept.numel() * kept.element_size() * PAGE
    wanted = min(config.max_rows * model.context, max(model.context, _TOKENS_KEPT)) // PAGE + 1
    free = torch.cuda.mem_get_info(kept.device)[0] if kept.device.type == "cuda" else memory_free()
    return wanted if free is None else max(1, min(wanted, int(free * _SHARE_OF_MEMORY) // page))


def load_model(folder: Path | str, config: EngineConfig) -> LanguageModel:
    """The model in the asked precision, packed for the kernels when that is asked for or it is stored in 8 or 4 bits.

    Raises ConfigError when packing was asked for and the model cannot be packed. Without a compiler for the kernels it
    says so, once, and the weights stay float.
    """
    device, dtype = choose_device(config.device), config.dtype
    if dtype not in ("auto", *_DTYPES):
        raise ConfigError(
            tr(f"unknown dtype '{dtype}'", f"未知精度“{dtype}”"),
            tr("one of: auto, fp32, bf16, fp16", "可选:auto、fp32、bf16、fp16"),
        )
    stored = _stored_bits(folder)
    bits = stored if config.weights == "auto" and dtype == "auto" and not config.adapters else config.weights
    if bits in ("int8", "int4"):
        model = auto.load(folder, device=device)
        fault = unpackable(model)
        if not fault or (config.weights != "auto" and not kernel_fault()):
            return PackedDecoder(model, bits)
        if kernel_fault():
            _say_once(kernel_fault())
    if dtype == "auto" and stored == "int8" and not is_gguf(folder):
        dtype = choose_precision("auto", device)
    return auto.load(folder, dtype=_DTYPES.get(dtype), device=device)


def _stored_bits(folder: Path | str) -> Literal["int8", "int4", "float"]:
    """What most of the matrices on disk are kept in."""
    if not is_gguf(folder):
        return "int8" if "quantization_config" in ModelFolder.open(folder).config else "float"
    kinds = Counter(info.kind.name for info in GGUF(folder).tensors.values() if len(info.shape) > 1)
    kind = kinds.most_common(1)[0][0] if kinds else "F32"
    return "float" if kind in ("F32", "F16", "BF16") else "int4" if kind.startswith("Q4") else "int8"


@cache
def _say_once(fault: str) -> None:
    Console(stderr=True).print(
        tr(f"{fault}; the weights stay float, which is slower", f"{fault};权重保持浮点,速度较慢"), markup=False
    )
