"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each block, and one matrix for q, k and v."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError, FolderError
from danlu.core.i18n import tr
from danlu.models.base import Cache, KVCache, LanguageModel
from danlu.models.hub import NEUTRAL, check_size, refuse_unknown
from danlu.models.parts import activation_of, mix_heads, start_normal
from danlu.ops.attention import additive, packed_mask

__all__ = ["GPT2", "Conv1D", "GPT2Config", "from_hf"]

_LARGE, _WIDE, _MANY = 2**31, 2**20, 4096  # beyond these a config is damaged, and would ask for the memory of it
# Heads that are not built; and in which precision half-precision scores are summed, which ours always are in float32.
_NEUTRAL = NEUTRAL | {"n_ctx", "reorder_and_upcast_attn", "gradient_checkpointing", "problem_type"}
_SUMMARY = frozenset(
    {f"summary_{name}" for name in ("activation", "first_dropout", "proj_to_labels", "type", "use_proj")}
)
_CAUSAL = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # the causal mask, which old files hold


class GPT2Config(Config):
    """The shape of a GPT-2, under the names that its config.json uses. Dropout is off unless asked for."""

    vocab_size: PositiveInt = doc(
        50257, "tokens in the vocabulary (taken from the tokenizer)", "词表大小（取自分词器）", le=_LARGE
    )
    n_positions: PositiveInt = doc(
        1024, "context: the longest sequence, in tokens", "上下文长度（token 数）", le=_LARGE
    )
    n_embd: PositiveInt = doc(192, "width of the residual stream", "残差流宽度", le=_WIDE)
    n_layer: PositiveInt = doc(6, "layers", "层数", le=_MANY)
    n_head: PositiveInt = doc(6, "attention heads", "注意力头数", le=_WIDE)
    n_inner: PositiveInt | None = doc(
        None, "inner width of the MLP; default: 4 times n_embd", "前馈层宽度；默认 n_embd 的 4 倍", le=_LARGE
    )
    activation_function: str = doc("gelu_new", "activation of the MLP", "前馈层的激活函数")
    layer_norm_epsilon: float = doc(
        1e-5, "guards LayerNorm against division by zero", "防止 LayerNorm 除零", gt=0, le=1
    )
    resid_pdrop: float = doc(
        0.0, "share of each block's output dropped in training", "训练时各块输出的丢弃比例", ge=0, lt=1
    )
    embd_pdrop: float = doc(0.0, "share of the embeddings dropped in training", "训练时嵌入的丢弃比例", ge=0, lt=1)
    attn_pdrop: float = doc(
        0.0, "share of attention weights dropped in training", "训练时注意力权重的丢弃比例", ge=0, lt=1
    )
    scale_attn_weights: bool = doc(True, "divide scores by the root of a head's width", "分数除以头宽的平方根")
    scale_attn_by_inverse_layer_idx: bool = doc(
        False, "divide scores by the layer's number too, from 1", "分数再除以层号（从 1 计）"
    )
    tie_word_embeddings: bool = doc(True, "input and output embeddings are one matrix", "输入输出共用词嵌入")

    def check(self) -> None:
        """Raise ConfigError for a shape that cannot be built."""
        activation_of(self.activation_function, "activation_function")
        if self.n_embd % self.n_head:
            raise ConfigError(
                tr(
                    f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}",
                    f"n_embd {self.n_embd} 不能被 n_head {self.n_head} 整除",
                )
            )


# What transformers means by leaving a key out, where that is not our default.
_ASSUMED = {"n_positions": 1024, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}


def from_hf(config: Mapping[str, Any], where: str) -> "GPT2":
    """A GPT-2 for a config.json; `where` names the file in errors.

    Raises FolderError or ConfigError naming a setting that is missing, wrong or not implemented.
    """
    settings = GPT2Config.model_fields
    refuse_unknown(config, {*_NEUTRAL, *_SUMMARY, *settings}, {}, where)
    for key in ("vocab_size", "n_embd", "n_layer", "n_head"):
        if config.get(key) is None:
            raise FolderError(tr(f"{where}: {key} is missing", f"{where}：缺少 {key}"))
        check_size(config, key, where)
    values = _ASSUMED | {key: config[key] for key in settings if config.get(key) is not None}
    shape = GPT2Config.parse(values, where)
    try:
        return GPT2(shape)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.what}", error.do) from None


class Conv1D(nn.Module):
    """A linear layer whose weight is kept as [in, out], as GPT-2's files have it. [..., in] -> [..., out]."""

    def __init__(self, inner: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inner, out) * 0.02)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.T, self.bias)


class _Attention(nn.Module):
    def __init__(self, config: GPT2Config, number: int) -> None:
        super().__init__()
        size, self.head_dim = config.n_embd, config.n_embd // config.n_head
        self.c_attn = Conv1D(size, 3 * size)
        self.c_proj = Conv1D(size, size)
        self.dropped, self.unseen = config.resid_pdrop, config.attn_pdrop
        self.stretch = 1.0 if config.scale_attn_weights else self.head_dim**0.5  # attention divides by the root
        if config.scale_attn_by_inverse_layer_idx:
            self.stretch /= number + 1

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        """[B, T, D] -> [B, T, D]; mask: additive, None: causal."""
        q, k, v = self.c_attn(x).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        if self.stretch != 1.0:
            q = q * self.stretch
        if cache is not None:
            mixed = cache.attend(layer, q, k, v)
        else:
            mixed = mix_heads(q, k, v, mask, causal=mask is None, dropout=self.unseen if self.training else 0.0)
        return F.dropout(self.c_proj(mixed.transpose(1, 2).flatten(2)), self.dropped, self.training)


class _MLP(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc = Conv1D(config.n_embd, inner)
        self.c_proj = Conv1D(inner, config.n_embd)
        self.act, self.dropped = activation_of(config.activation_function), config.resid_pdrop

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.c_proj(self.act(self.c_fc(x))), self.dropped, self.training)


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: GPT2Config, number: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = _Attention(config, number)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = _MLP(config)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None, layer: int) -> Tensor:
        x = x + self.attn(self.ln_1(x), mask, cache, layer)
        return x + self.mlp(self.ln_2(x))


class _Body(nn.Module):
    """Everything below the output matrix; on disk its names begin with `transformer.`."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(_Block(config, number) for number in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)


class GPT2(LanguageModel):
    """Tokens in, hidden states out; `logits` turns hidden states into scores over the vocabulary."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.transformer = _Body(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.tie()

    def initialise(self, generator: torch.Generator) -> None:
        """N(0, 0.02), and what writes into the residual stream smaller by √(2·layers) (Radford et al. 2019, §2.3)."""
        start_normal(self, generator, ("c_proj.weight",), self.config.n_layer)

    def hidden(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        ids, positions = batch["input_ids"], batch.get("position_ids")
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        x = self.transformer.wte(ids) + self.transformer.wpe(positions)
        x = F.dropout(x, self.config.embd_pdrop, self.training)
        mask = None
        if "segment_ids" in batch and cache is None:
            device = x.device.type
            dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
            mask = additive(packed_mask(batch["segment_ids"]), dtype)
        for number, block in enumerate(self.transformer.h):
            x = block(x, mask, cache, number)
        return self.transformer.ln_f(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)

    @property
    def output_weight(self) -> Tensor:
        return self.lm_head.weight

    @property
    def context(self) -> int:
        return self.config.n_positions

    def new_cache(self, rows: int, length: int) -> KVCache:
        weight, config = self.transformer.ln_f.weight, self.config
        head_dim = config.n_embd // config.n_head
        return KVCache(config.n_layer, rows, config.n_head, length, head_dim, weight.dtype, weight.device)

    def adopt(self, names: Collection[str]) -> dict[str, str]:
        """Old files leave out `transformer.` and hold each layer's causal mask, which is computed here."""
        own = self.state_dict()
        parts = [name for name in names if not _CAUSAL.fullmatch(name.removeprefix("transformer."))]
        return {name: full if (full := f"transformer.{name}") in own else name for name in parts}

    def tied(self) -> dict[str, str]:
        return {"lm_head.weight": "transformer.wte.weight"} if self.config.tie_word_embeddings else {}

    def tie(self) -> None:
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight

    def hf_config(self) -> dict[str, Any]:
        plain = self.config.plain()
        ends = {"bos_token_id": None, "eos_token_id": None}  # left out, they would be those of GPT-2's own vocabulary
        return {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **plain, **ends, "dtype": self.dtype_name}
