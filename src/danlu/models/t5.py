"""T5: an encoder and a decoder that know distances only (Raffel et al. 2020), in the layouts v1.0, v1.1 and Flan.

v1.1 and Flan (Chung et al. 2022) differ from v1.0 in a gated MLP and an output matrix of their own.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.models.base import Cache
from danlu.models.blocks import RMSNorm
from danlu.models.parts import mix_heads
from danlu.models.seq2seq import EncoderDecoder, Source, SourceCache
from danlu.models.t5_shape import T5Config, read_t5, write_t5
from danlu.ops.attention import additive, cache_mask, packed_mask
from danlu.ops.positions import relative_buckets

__all__ = ["T5", "T5Config", "from_hf"]

# Left over in early files: the decoder looks at the source without regard to distance.
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


def from_hf(config: Mapping[str, Any], where: str) -> "T5":
    """A T5 for a config.json; `where` names the file in errors.

    Raises FolderError or ConfigError naming a setting that is missing, wrong or not implemented.
    """
    return T5(read_t5(config, where))


class T5Attention(nn.Module):
    """Multi-head attention without the division by √d, which the initial weights make up for (§2.1, footnote)."""

    def __init__(self, config: T5Config, *, tells_distance: bool = False) -> None:
        super().__init__()
        inner = config.num_heads * config.d_kv
        self.width, self.rate = config.d_kv, config.dropout_rate
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if tells_distance:  # the bias of all the stack's layers
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def look_up(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, S, d] of what is looked at, [B, S, D]."""
        return self._heads(self.k(states)), self._heads(self.v(states))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """x: [B, T, D] looks at keys and values [B, H, S, d]. Returns [B, T, D]."""
        q = self._heads(self.q(x)) * self.width**0.5  # attention divides by it
        mixed = mix_heads(q, keys, values, mask, dropout=self.rate if self.training else 0.0)
        return self.o(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """[B, T, H·d] -> [B, H, T, d]."""
        return x.unflatten(-1, (-1, self.width)).transpose(1, 2)


class _SelfLayer(nn.Module):
    def __init__(self, config: T5Config, *, tells_distance: bool) -> None:
        super().__init__()
        self.SelfAttention = T5Attention(config, tells_distance=tells_distance)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, mask: Tensor, cache: SourceCache | None, layer: int) -> Tensor:
        normed = self.layer_norm(x)
        keys, values = self.SelfAttention.look_up(normed)
        if cache is not None:
            keys, values = cache.update(layer, keys, values)
        return self.SelfAttention(normed, keys, values, mask)


class _CrossLayer(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.EncDecAttention = T5Attention(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        return self.EncDecAttention(self.layer_norm(x), keys, values, mask)


class _Relu(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.rate = config.dropout_rate
        self.wi = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.dropout(F.relu(self.wi(x)), self.rate, self.training))


class _GatedGelu(nn.Module):
    """GeGLU (Shazeer 2020, eq. 6)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.rate = config.dropout_rate
        self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x)
        return self.wo(F.dropout(inner, self.rate, self.training))


class _MLPLayer(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = (_Relu if config.feed_forward_proj == "relu" else _GatedGelu)(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return self.DenseReluDense(self.layer_norm(x))


class _Block(nn.Module):
    """Self-attention, in a decoder attention to the source, MLP: each normed before, each added to the stream."""

    def __init__(self, config: T5Config, *, decodes: bool, first: bool) -> None:
        super().__init__()
        self.rate = config.dropout_rate
        cross = [_CrossLayer(config)] if decodes else []
        self.layer = nn.ModuleList([_SelfLayer(config, tells_distance=first), *cross, _MLPLayer(config)])

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        cache: SourceCache | None = None,
        number: int = 0,
        source: tuple[Tensor, Tensor] | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        x = x + self._drop(self.layer[0](x, mask, cache, number))
        if source is not None:
            x = x + self._drop(self.layer[1](x, *source, source_mask))
        return x + self._drop(self.layer[-1](x))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.training)


class _Stack(nn.Module):
    """One of the two: blocks, a norm, and the embedding that all of T5 shares."""

    def __init__(self, config: T5Config, shared: nn.Embedding, *, decodes: bool) -> None:
        super().__init__()
        layers = config.decoder_layers if decodes else config.num_layers
        self.embed_tokens = shared
        self.block = nn.ModuleList(_Block(config, decodes=decodes, first=number == 0) for number in range(layers))
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.buckets, self.reach = config.relative_attention_num_buckets, config.relative_attention_max_distance
        self.both_ways = not decodes

    def mask(self, queries: Tensor, keys: Tensor, allowed: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What is added to the scores of every layer: [B or 1, H, T, S].

        queries: positions [..., T], keys: [S]; allowed: bool, broadcastable to the result, or None: all.
        """
        distance = keys - queries[..., None]
        buckets = relative_buckets(distance, self.buckets, self.reach, bidirectional=self.both_ways)
        bias = self.block[0].layer[0].SelfAttention.relative_attention_bias(buckets)  # pyright: ignore
        bias = bias.movedim(-1, -3).to(dtype)
        return bias if allowed is None else bias + additive(allowed, dtype)


class T5(EncoderDecoder):
    """Source in, the decoder's hidden states out; `logits` turns them into scores over the vocabulary."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = _Stack(config, self.shared, decodes=False)
        self.decoder = _Stack(config, self.shared, decodes=True)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.shared.weight

    def adopt(self, names: Collection[str]) -> dict[str, str]:
        """See `LanguageModel`. A file may say that the output matrix is tied and yet bring one: `tie` will see."""
        if self.config.tie_word_embeddings and "lm_head.weight" in names:
            self.lm_head.weight = nn.Parameter(torch.empty_like(self.shared.weight))
        return {name: name for name in names if name != _UNUSED}

    def tied(self) -> dict[str, str]:
        names = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
        if self.lm_head.weight is self.shared.weight:
            names.append("lm_head.weight")
        return dict.fromkeys(names, "shared.weight")

    def tie(self) -> None:
        """One embedding for both ends; where config.json ties an output matrix that differs, it is its own after all.

        `transformers` from release 5 on writes so of every T5, and reads it so.
        """
        if self.config.tie_word_embeddings and not torch.equal(self.lm_head.weight, self.shared.weight):
            settings = {"tie_word_embeddings": False, "scale_decoder_outputs": self.config.scales}
            self.config = self.config.model_copy(update=settings)
        elif self.config.tie_word_embeddings:
            self.lm_head.weight = self.shared.weight

    def initialise(self, generator: torch.Generator) -> None:
        """Normal, of a width that keeps scores and sums near 1 without further scaling (Mesh TensorFlow's T5)."""
        size, inner = self.config.d_model, self.config.num_heads * self.config.d_kv
        widths = {
            "shared": 1.0,
            "lm_head": size**-0.5,
            "q": (size * self.config.d_kv) ** -0.5,
            "o": inner**-0.5,
            "wo": self.config.d_ff**-0.5,
        }
        for name, parameter in self.named_parameters():
            part = name.split(".")[-2]
            if parameter.ndim == 1:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=widths.get(part, size**-0.5), generator=generator)

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        ids, segments = batch["input_ids"], _segments(batch)
        x = self._embed(ids)
        allowed = None if segments is None else (segments[:, :, None] == segments[:, None, :])[:, None]
        places = torch.arange(ids.shape[1], device=ids.device)
        mask = self.encoder.mask(places, places, allowed, _products_dtype(x))
        for block in self.encoder.block:
            x = block(x, mask)
        return self._drop(self.encoder.final_layer_norm(x))

    def read(self, batch: Mapping[str, Tensor]) -> Source:
        real = batch.get("attention_mask")
        if real is None:
            real = torch.ones_like(batch["input_ids"])
        return Source(self._source_keys(self.encode(batch)), real.bool())

    def _source_keys(self, states: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [block.layer[1].EncDecAttention.look_up(states) for block in self.decoder.block]  # pyright: ignore

    def hidden(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        if cache is not None:
            assert isinstance(cache, SourceCache)
            return self._next(batch["decoder_input_ids"], cache)
        ids = self._decoder_ids(batch)
        segments, places = batch.get("decoder_segment_ids"), torch.arange(ids.shape[1], device=ids.device)
        x = self._embed(ids)
        dtype = _products_dtype(x)
        written = torch.ones_like(ids) if segments is None else segments
        mask = self.decoder.mask(places, places, packed_mask(written), dtype)
        sources = _segments(batch)
        source_mask = None
        if sources is not None:  # padding looks at everything, so that no row is empty
            seen = (written[:, :, None] == sources[:, None, :]) | (written == 0)[:, :, None]
            source_mask = additive(seen[:, None], dtype)
        keys = self._source_keys(self.encode(batch))
        return self._decode(x, mask, keys, source_mask)

    def _next(self, ids: Tensor, cache: SourceCache) -> Tensor:
        """Hidden states of the new tokens alone."""
        x = self._embed(ids)
        dtype, seen = _products_dtype(x), torch.arange(cache.seen, device=ids.device)
        mask = self.decoder.mask(cache.positions, seen, cache_mask(cache.positions, cache.seen), dtype)
        source_mask = additive(cache.source.real[:, None, None], dtype)
        return self._decode(x, mask, cache.source.keys, source_mask, cache)

    def _decode(
        self,
        x: Tensor,
        mask: Tensor,
        keys: list[tuple[Tensor, Tensor]],
        source_mask: Tensor | None,
        cache: SourceCache | None = None,
    ) -> Tensor:
        for number, block in enumerate(self.decoder.block):
            x = block(x, mask, cache, number, keys[number], source_mask)
        return self._drop(self.decoder.final_layer_norm(x))

    def _decoder_ids(self, batch: Mapping[str, Tensor]) -> Tensor:
        if "decoder_input_ids" in batch:
            return batch["decoder_input_ids"]
        if "labels" not in batch or "segment_ids" in batch:  # packed labels cannot be shifted across their seams
            raise ConfigError(
                tr(
                    "plain packed text has nothing for T5's decoder to read",
                    "拼接的纯文本里没有可供 T5 解码器读取的内容",
                ),
                tr(
                    "an encoder-decoder learns by `danlu denoise`; a batch of one's own needs decoder_input_ids",
                    "编码器-解码器模型请用 danlu denoise 训练;自备的批次需含 decoder_input_ids",
                ),
            )
        return self.shift_right(batch["labels"])

    def _embed(self, ids: Tensor) -> Tensor:
        return self._drop(self.shared(ids))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout_rate, self.training)

    def transform(self, hidden: Tensor) -> Tensor:
        """Tied embeddings have entries near 1, so the scores would be too large by √d_model."""
        return hidden * self.config.d_model**-0.5 if self.config.scales else hidden

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(self.transform(hidden))

    @property
    def output_weight(self) -> Tensor:
        return self.lm_head.weight

    @property
    def start_id(self) -> int:
        return self.config.start_id

    @property
    def context(self) -> int:
        return self.config.n_positions

    def new_cache(self, rows: int, length: int) -> SourceCache:
        weight = self.decoder.final_layer_norm.weight
        config = self.config
        return SourceCache(
            config.decoder_layers, rows, config.num_heads, length, config.d_kv, weight.dtype, weight.device
        )

    def hf_generation(self) -> dict[str, Any]:
        return {"decoder_start_token_id": self.config.start_id}

    def hf_config(self) -> dict[str, Any]:
        return write_t5(self.config, str(self.decoder.final_layer_norm.weight.dtype).removeprefix("torch."))


def _segments(batch: Mapping[str, Tensor]) -> Tensor | None:
    """Which document each token of the source belongs to, 0 = padding; None where all belong together."""
    return batch.get("segment_ids", batch.get("attention_mask"))


def _products_dtype(x: Tensor) -> torch.dtype:
    """What the scores are computed in, which masks must be in as well."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
