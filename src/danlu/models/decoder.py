"""A Llama-shaped decoder: GQA, RoPE, RMSNorm, SwiGLU (Touvron et al. 2023)."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.models.base import KVCache, LanguageModel
from danlu.models.blocks import Attention, DecoderLayer, GatedMLP, RMSNorm
from danlu.ops.attention import additive, cache_mask, packed_mask
from danlu.ops.rope import inverse_frequencies, rotary_angles

__all__ = ["Decoder", "DecoderConfig"]


class DecoderConfig(Config):
    """The shape of a decoder, under Hugging Face's names."""

    vocab_size: PositiveInt = doc(32000, "tokens in the vocabulary (taken from the tokenizer)", "词表大小(取自分词器)")
    hidden_size: PositiveInt = doc(192, "width of the residual stream", "残差流宽度")
    num_hidden_layers: PositiveInt = doc(6, "layers", "层数")
    num_attention_heads: PositiveInt = doc(6, "query heads", "查询头数")
    num_key_value_heads: PositiveInt | None = doc(None, "key/value heads; default: as many as query heads", "键值头数;默认与查询头数相同")
    head_dim: PositiveInt | None = doc(None, "width of a head; default: hidden_size / heads", "每个头的宽度;默认 hidden_size / heads")
    intermediate_size: PositiveInt | None = doc(None, "inner width of the MLP; default: 8/3 of hidden_size", "前馈层宽度;默认 hidden_size 的 8/3")
    max_position_embeddings: PositiveInt = doc(512, "context: the longest sequence, in tokens", "上下文长度(token 数)")
    rope_theta: float = doc(10000.0, "base of the rotary frequencies", "旋转位置编码的基数", gt=0)
    rms_norm_eps: float = doc(1e-5, "guards RMSNorm against division by zero", "防止 RMSNorm 除零", gt=0)
    tie_word_embeddings: bool = doc(True, "input and output embeddings are one matrix", "输入输出共用词嵌入")

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def width_of_head(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def inner(self) -> int:
        """8/3 of the width keeps SwiGLU's three matrices as large as a plain MLP's two; rounded up to 64."""
        return self.intermediate_size or -(-self.hidden_size * 8 // 3 // 64) * 64

    def check(self) -> None:
        """Raise ConfigError for a shape that cannot be built."""
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                tr(
                    f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}",
                    f"hidden_size {self.hidden_size} 不能被 num_attention_heads {self.num_attention_heads} 整除",
                )
            )
        if self.num_attention_heads % self.kv_heads:
            raise ConfigError(
                tr(
                    f"num_attention_heads {self.num_attention_heads} is not a multiple of num_key_value_heads {self.kv_heads}",
                    f"num_attention_heads {self.num_attention_heads} 不能被 num_key_value_heads {self.kv_heads} 整除",
                )
            )
        if self.width_of_head % 2:
            raise ConfigError(
                tr(f"head_dim {self.width_of_head} is odd; rotary positions turn pairs", f"head_dim {self.width_of_head} 为奇数;旋转位置编码需要成对的维度")
            )


class _Body(nn.Module):
    """Everything below the output matrix; on disk its names begin with `model.`."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(
                Attention(config.hidden_size, config.num_attention_heads, config.kv_heads, config.width_of_head),
                GatedMLP(config.hidden_size, config.inner),
                config.hidden_size,
                config.rms_norm_eps,
            )
            for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Decoder(LanguageModel):
    """Tokens in, hidden states out; `logits` turns hidden states into scores over the vocabulary."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.model = _Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie()
        self._frequencies = inverse_frequencies(config.width_of_head, config.rope_theta)

    def tied(self) -> dict[str, str]:
        return {"lm_head.weight": "model.embed_tokens.weight"} if self.config.tie_word_embeddings else {}

    def tie(self) -> None:
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def initialise(self, generator: torch.Generator) -> None:
        """N(0, 0.02), and what writes into the residual stream smaller by √(2·layers) (GPT-2, §2.3)."""
        depth = (2 * self.config.num_hidden_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                nn.init.ones_(parameter)
            else:
                scale = depth if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(parameter, std=0.02 * scale, generator=generator)

    def hidden(self, batch: Mapping[str, Tensor], cache: KVCache | None = None) -> Tensor:
        ids, positions = batch["input_ids"], batch.get("position_ids")
        x = self.model.embed_tokens(ids)
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        if self._frequencies.device != ids.device:
            self._frequencies = self._frequencies.to(ids.device)
        rotary = rotary_angles(positions, self._frequencies)
        mask = self._mask(batch, positions, cache, x)
        for number, layer in enumerate(self.model.layers):
            x = layer(x, rotary, mask, cache, number)
        return self.model.norm(x)

    def _mask(self, batch: Mapping[str, Tensor], positions: Tensor, cache: KVCache | None, x: Tensor) -> Tensor | None:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        if cache is not None:
            return additive(cache_mask(positions, cache.seen), dtype)
        if "segment_ids" in batch:
            return additive(packed_mask(batch["segment_ids"]), dtype)
        return None

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)

    @property
    def output_weight(self) -> Tensor:
        return self.lm_head.weight

    @property
    def context(self) -> int:
        return self.config.max_position_embeddings

    def new_cache(self, rows: int, length: int) -> KVCache:
        weight = self.model.norm.weight
        return KVCache(
            self.config.num_hidden_layers, rows, self.config.kv_heads, length, self.config.width_of_head, weight.dtype, weight.device
        )

    def hf_config(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **self.config.plain(),
            "num_key_value_heads": self.config.kv_heads,
            "head_dim": self.config.width_of_head,
            "intermediate_size": self.config.inner,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.config.rope_theta},
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "dtype": str(self.model.norm.weight.dtype).removeprefix("torch."),
        }
