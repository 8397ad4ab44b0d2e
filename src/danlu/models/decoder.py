"""A Llama-shaped decoder and its relatives: one model out of shared blocks (Touvron et al. 2023).

What a family does differently stands in danlu/models/families.py.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from danlu.models.base import Cache, KVCache, LanguageModel
from danlu.models.blocks import (
    Attention,
    DecoderLayer,
    GatedMLP,
    MixtralLayer,
    OffsetRMSNorm,
    RMSNorm,
    SandwichLayer,
    View,
)
from danlu.models.hub import read_config, write_config
from danlu.models.moe import MixtralExpert, Router, SparseMoE
from danlu.models.paged import PagedCache
from danlu.models.rotary import Rotary
from danlu.models.shape import DecoderConfig
from danlu.ops.attention import additive, causal_mask, packed_mask

__all__ = ["Decoder", "DecoderConfig", "from_hf"]


def from_hf(config: Mapping[str, Any], where: str) -> "Decoder":
    """A decoder for the config.json of any family in families.py; `where` names the file in errors.

    Raises FolderError or ConfigError naming a setting that is missing, wrong or not implemented.
    """
    return Decoder(read_config(config, where))


def _layer(config: DecoderConfig, number: int) -> nn.Module:
    """Layer `number` (from 0): the family's attention, its MLP or experts, and the norms around them."""
    traits, size, eps = config.traits, config.hidden_size, config.rms_norm_eps
    norm = OffsetRMSNorm if traits.gemma else RMSNorm
    attention = Attention(
        size,
        config.num_attention_heads,
        config.kv_heads,
        config.width_of_head,
        qkv_bias=config.attention_bias or traits.qkv_bias,
        out_bias=config.attention_bias,
        norms=(norm(config.width_of_head, eps), norm(config.width_of_head, eps)) if traits.qk_norm else None,
        scalar=config.query_pre_attn_scalar,
    )
    mlp = partial(GatedMLP, size, bias=config.mlp_bias, gelu=traits.activation != "silu")
    if traits.gemma:
        return SandwichLayer(attention, mlp(config.inner), size, eps)
    if not config.is_sparse(number):
        return DecoderLayer(attention, mlp(config.inner), size, eps)
    assert config.num_experts is not None  # `check` saw to it
    router = Router(size, config.num_experts, config.num_experts_per_tok, config.norm_topk_prob)
    if traits.experts == "block_sparse_moe":
        experts = [MixtralExpert(size, config.expert_inner) for _ in range(config.num_experts)]
        return MixtralLayer(attention, SparseMoE(router, experts), size, eps)
    return DecoderLayer(
        attention, SparseMoE(router, [mlp(config.expert_inner) for _ in range(config.num_experts)]), size, eps
    )


class _Body(nn.Module):
    """Everything below the output matrix; on disk its names begin with `model.`."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_layer(config, number) for number in range(config.num_hidden_layers))
        self.norm = (OffsetRMSNorm if config.traits.gemma else RMSNorm)(config.hidden_size, config.rms_norm_eps)


class Decoder(LanguageModel):
    """Tokens in, hidden states out; `logits` turns hidden states into scores over the vocabulary."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.model = _Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie()
        self._kinds = config.kinds
        rotary = Rotary(config.width_of_head, config.rope_theta, config.max_position_embeddings, config.rope_scaling)
        local = (
            Rotary(config.width_of_head, config.local_theta, config.max_position_embeddings)
            if config.traits.gemma
            else rotary
        )
        self._rotaries = {"full_attention": rotary, "sliding_attention": local}

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
                nn.init.constant_(parameter, 0.0 if name.endswith("bias") or self.config.traits.gemma else 1.0)
            else:
                scale = depth if name.endswith(("o_proj.weight", "down_proj.weight", "w2.weight")) else 1.0
                nn.init.normal_(parameter, std=0.02 * scale, generator=generator)

    def hidden(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        ids, positions = batch["input_ids"], batch.get("position_ids")
        x = self.model.embed_tokens(ids)
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        if self.config.traits.gemma:  # the factor in the weights' precision, as in training
            x = x * torch.tensor(self.config.hidden_size**0.5, dtype=x.dtype, device="cpu").item()
        views = {kind: self._view(kind, batch, positions, x, cache) for kind in set(self._kinds)}
        for number, layer in enumerate(self.model.layers):
            x = layer(x, views[self._kinds[number]], cache, number)
        return self.model.norm(x)

    def _view(self, kind: str, batch: Mapping[str, Tensor], positions: Tensor, x: Tensor, cache: Cache | None) -> View:
        """What layers of this kind see."""
        turn, cached = self._rotaries[kind], cache is not None
        rotary = turn.each(positions) if isinstance(cache, PagedCache) else turn(positions)
        window = self.config.sliding_window if kind == "sliding_attention" else None
        allowed = None
        if "segment_ids" in batch and not cached:
            allowed = packed_mask(batch["segment_ids"], window)
        elif window is not None and window < x.shape[1] and not cached:
            allowed = causal_mask(x.shape[1], window, x.device)
        if allowed is None:
            return View(rotary, None, window)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        return View(rotary, additive(allowed, dtype), window)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)

    @property
    def output_weight(self) -> Tensor:
        return self.lm_head.weight

    @property
    def context(self) -> int:
        scaling, learned = self.config.rope_scaling, self.config.max_position_embeddings
        return (
            int(learned * scaling.need("factor")) if scaling is not None and scaling.rope_type == "dynamic" else learned
        )

    @property
    def router_aux_loss_coef(self) -> float:
        sparse = any(map(self.config.is_sparse, range(self.config.num_hidden_layers)))
        return self.config.router_aux_loss_coef if sparse else 0.0

    def new_cache(self, rows: int, length: int) -> KVCache:
        weight = self.model.norm.weight
        return KVCache(
            self.config.num_hidden_layers,
            rows,
            self.config.kv_heads,
            length,
            self.config.width_of_head,
            weight.dtype,
            weight.device,
        )

    def hf_config(self) -> dict[str, Any]:
        return write_config(self.config, str(self.model.norm.weight.dtype).removeprefix("torch."))
