"""A Llama-shaped decoder with int8 or int4 weights, computed by the C++ kernels: the same model, several times as fast."""

import ctypes
import threading
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.models.base import Cache, KVCache, LanguageModel
from danlu.models.blocks import Attention, DecoderLayer, GatedMLP
from danlu.models.decoder import Decoder
from danlu.models.paged import PAGE, PagedCache, Span
from danlu.models.quantised import Int8Linear
from danlu.ops import kernels
from danlu.ops.kernels import pointer
from danlu.ops.packing import GROUP, LANES, Packed, pack_int4, pack_int8, pack_int8_codes, together, unpack

__all__ = ["PackedDecoder", "unpackable"]

_AT_ONCE = 512  # tokens a pass of the kernels; bounds the room for activations
_QUERIES = 16  # heads that share a key/value head, times tokens, that the kernel computes together

Bits = Literal["int8", "int4"]


def unpackable(model: LanguageModel) -> str:
    """Why the kernels cannot compute this model; empty when they can."""
    if not isinstance(model, Decoder):
        return tr("only decoders of the Llama kind can be packed", "只有 Llama 类的解码器可以打包")
    shape, traits = model.config, model.config.traits
    heads = shape.num_attention_heads
    faults = (
        (traits.gemma or traits.experts, f"{shape.family} cannot be packed", f"{shape.family} 不支持打包"),
        (shape.mlp_bias, "biases in the MLP cannot be packed", "前馈层的偏置不支持打包"),
        (
            shape.hidden_size % GROUP or shape.inner % GROUP or heads * shape.width_of_head % GROUP,
            f"sizes that are no multiple of {GROUP} cannot be packed",
            f"不是 {GROUP} 的倍数的尺寸不支持打包",
        ),
        (
            shape.width_of_head % LANES,
            f"heads of width {shape.width_of_head} cannot be packed",
            f"宽度为 {shape.width_of_head} 的头不支持打包",
        ),
        (
            heads // shape.kv_heads > _QUERIES,
            f"more than {_QUERIES} query heads share a key",
            f"共用一组键的查询头超过 {_QUERIES} 个",
        ),
        (model.device.type != "cpu", "the kernels run on a CPU", "内核只在 CPU 上运行"),
    )
    return next((tr(en, zh) for fault, en, zh in faults if fault), "") or kernels.kernel_fault()


class PackedDecoder(LanguageModel):
    """Takes a decoder apart: keeps its norms and biases in float32, packs its matrices, and drops the rest.

    The residual stream and all sums are float32; activations are rounded to 8 bits, in groups of 32, before each
    product; keys and values are float16. A token's result does not depend on what else is in the pass, to the bit.
    With int4 the embedding and the output matrix stay at 8 bits. Raises ConfigError for a model that `unpackable` names.
    """

    def __init__(self, model: LanguageModel, bits: Bits, threads: int | None = None) -> None:
        super().__init__()
        if fault := unpackable(model):
            raise ConfigError(fault, tr("use float weights", "请使用浮点权重"))
        assert isinstance(model, Decoder)
        self.config, self.bits = model.config, bits
        self._parameters_before = sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())
        self._rotary = model._rotaries["full_attention"]
        self._hf_config, self._context = model.hf_config(), model.context
        self._library = kernels.load_kernels()
        self._kept: list[Tensor] = []  # what the structs point into, beside the matrices
        self._layers = (kernels.Layer * len(model.model.layers))()
        self._windows = [
            model.config.sliding_window if kind == "sliding_attention" else None for kind in model.config.kinds
        ]
        packed = [one for layer in model.model.layers for one in self._pack_layer(layer)]
        *self._matrices, self._head = together([*packed, pack_int8(model.lm_head.weight.detach())])
        for number, layer in enumerate(model.model.layers):
            self._fill(self._layers[number], layer, number)
        self._norm = model.model.norm.weight.detach().float()
        self._embedding = None if model.tied() else model.model.embed_tokens.weight.detach()
        self._room_for: dict[str, Tensor] = {}
        self._lock = threading.Lock()
        self._cache: PagedCache | None = None
        shape = self.config
        self._shape = kernels.Shape(
            hidden=shape.hidden_size,
            heads=shape.num_attention_heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.width_of_head,
            inner=shape.inner,
            threads=threads or torch.get_num_threads(),
            eps=shape.rms_norm_eps,
            scale=shape.width_of_head**-0.5,
        )

    def hidden(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        """[B, T] ids -> [B, T, D]. cache: a PagedCache of `new_paged`, on which the sequences were selected."""
        with self._lock:  # the room for a pass is shared
            return self._hidden(batch, cache)

    def _hidden(self, batch: Mapping[str, Tensor], cache: Cache | None) -> Tensor:
        ids = batch["input_ids"]
        if cache is None:
            cache = self._own_cache(batch)
        assert isinstance(cache, PagedCache)
        self._use(cache)
        x = self._embed(ids.flatten())
        for start in range(0, len(x), _AT_ONCE):
            passing = self._pass(_cut(cache.spans, start, _AT_ONCE))
            passing.x = x[start:].data_ptr()
            self._library.decoder_layers(
                ctypes.byref(self._shape), ctypes.byref(self._layers), len(self._layers), ctypes.byref(passing)
            )
        return nn.functional.rms_norm(x, x.shape[-1:], self._norm, self.config.rms_norm_eps).view(
            *ids.shape, self.config.hidden_size
        )

    def logits(self, hidden: Tensor) -> Tensor:
        with self._lock:
            return self._logits(hidden)

    def _logits(self, hidden: Tensor) -> Tensor:
        flat = hidden.reshape(-1, hidden.shape[-1]).float().contiguous()
        out = torch.empty(len(flat), self._head.padded_rows)
        for start in range(0, len(flat), _AT_ONCE):
            count = min(_AT_ONCE, len(flat) - start)
            room = self._quantised(self.config.hidden_size)
            self._library.linear(
                ctypes.byref(self._head.struct()), flat[start:].data_ptr(), count, out[start:].data_ptr(), ctypes.byref(room),
                self._shape.threads,
            )  # fmt: skip
        return out[:, : self._head.rows].reshape(*hidden.shape[:-1], self._head.rows)

    @property
    def output_weight(self) -> Tensor:
        return unpack(self._head)

    @property
    def context(self) -> int:
        return self._context

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype_name(self) -> str:
        return self.bits

    @property
    def parameter_count(self) -> int:
        return self._parameters_before

    @property
    def weight_bytes(self) -> int:
        """What generating a token reads of the weights."""
        return sum(matrix.bytes for matrix in (*self._matrices, self._head))

    def new_cache(self, rows: int, length: int) -> KVCache:
        shape = (len(self._layers), rows, self.config.kv_heads, length, self.config.width_of_head)
        return KVCache(*shape, torch.float16, torch.device("cpu"))

    def hf_config(self) -> dict[str, Any]:
        return dict(self._hf_config)

    # --- packing ----------------------------------------------------------------------------------------------------

    def _pack_layer(self, layer: nn.Module) -> list[Packed]:
        """Its matrices, in the order in which a pass reads them."""
        assert isinstance(layer, DecoderLayer)
        attention, mlp = layer.self_attn, layer.mlp
        assert isinstance(mlp, GatedMLP)
        groups = (attention.q_proj, attention.k_proj, attention.v_proj), (attention.o_proj,), (mlp.gate_proj, mlp.up_proj), (mlp.down_proj,)  # fmt: skip
        return [self._packed(linears) for linears in groups]

    def _fill(self, to: kernels.Layer, layer: nn.Module, number: int) -> None:
        """The struct of a layer: addresses of its matrices, norms and biases."""
        assert isinstance(layer, DecoderLayer)
        attention = layer.self_attn
        assert isinstance(attention, Attention)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        to.qkv, to.output, to.gate_up, to.down = (one.struct() for one in self._matrices[4 * number : 4 * number + 4])
        to.attention_norm = self._floats(layer.input_layernorm.weight)
        to.mlp_norm = self._floats(layer.post_attention_layernorm.weight)
        if attention.q_norm is not None and attention.k_norm is not None:
            to.q_norm, to.k_norm = (
                self._floats(norm.get_parameter("weight")) for norm in (attention.q_norm, attention.k_norm)
            )
        biases: list[Tensor] = [projection.bias for projection in projections if projection.bias is not None]
        to.qkv_bias = self._floats(torch.cat(biases)) if biases else None
        own = getattr(attention.o_proj, "bias", None)
        to.output_bias = None if own is None else self._floats(own)
        to.window = self._windows[number] or 0

    def _packed(self, linears: tuple[nn.Module, ...]) -> Packed:
        """Matrices one under the other as one."""
        codes = [linear for linear in linears if isinstance(linear, Int8Linear)]
        if len(codes) == len(linears):
            scales = torch.cat([linear.weight_scale[:, 0] for linear in codes])
            return pack_int8_codes(torch.cat([linear.weight for linear in codes]), scales)
        whole = torch.cat([_weight(linear) for linear in linears])
        return pack_int4(whole) if self.bits == "int4" else pack_int8(whole)

    def _floats(self, tensor: Tensor) -> int:
        kept = tensor.detach().float().contiguous().clone()
        self._kept.append(kept)
        return kept.data_ptr()

    # --- a pass -----------------------------------------------------------------------------------------------------

    def new_paged(self, pages: int) -> PagedCache:
        """An empty cache of `pages` pages."""
        return PagedCache(len(self._layers), pages, self.config.kv_heads, self.config.width_of_head, torch.float16)

    def _use(self, cache: PagedCache) -> None:
        """Point the layers at the cache's pages."""
        if cache is self._cache:
            return
        for number, layer in enumerate(self._layers):
            layer.keys, layer.values = cache.keys[number].data_ptr(), cache.values[number].data_ptr()
        self._cache = cache

    def _embed(self, ids: Tensor) -> Tensor:
        if self._embedding is not None:
            return self._embedding[ids].float()
        ids, out = ids.contiguous(), torch.empty(len(ids), self.config.hidden_size)
        self._library.embed(ctypes.byref(self._head.struct()), pointer(ids), len(ids), pointer(out))
        return out

    def _pass(self, spans: list[Span]) -> kernels.Pass:
        """The struct for these tokens; `x` is still to be set."""
        shape, tokens = self.config, sum(span.count for span in spans)
        rows = max(1, _QUERIES // (shape.num_attention_heads // shape.kv_heads))
        width = max(-(-(span.start + span.count) // PAGE) for span in spans)
        sequence, position, tiles = [], [], [0]
        for number, span in enumerate(spans):
            sequence += [number] * span.count
            position += range(span.start, span.start + span.count)
            first = tiles[-1]
            tiles += [min(first + t, first + span.count) for t in range(rows, span.count + rows, rows)]
        used = [[*span.pages[:width]] for span in spans]
        tables = torch.tensor([pages + [0] * (width - len(pages)) for pages in used], dtype=torch.int32)
        places = torch.tensor([sequence, position], dtype=torch.int32)
        cosine, sine = (part[0, 0].contiguous() for part in self._rotary.each(places[1][None].long()))
        keep = (tables, places, torch.tensor(tiles, dtype=torch.int32), cosine, sine)
        self._now = keep  # the structs hold addresses only
        longest = width * PAGE
        heads, dim = shape.num_attention_heads, shape.width_of_head
        return kernels.Pass(
            tokens=tokens,
            tiles=len(tiles) - 1,
            table_width=width,
            longest=longest,
            sequence=places[0].data_ptr(),
            position=places[1].data_ptr(),
            tables=tables.data_ptr(),
            tile_starts=keep[2].data_ptr(),
            cosine=cosine.data_ptr(),
            sine=sine.data_ptr(),
            qkv=self._room("qkv", tokens * (heads + 2 * shape.kv_heads) * dim),
            mixed=self._room("mixed", tokens * heads * dim),
            gates=self._room("gates", tokens * 2 * shape.inner),
            scores=self._room("scores", self._shape.threads * _QUERIES * longest),
            quantised=self._quantised(max(shape.inner, shape.hidden_size, heads * dim), tokens),
        )

    def _room(self, name: str, size: int, dtype: torch.dtype = torch.float32) -> int:
        """Address of room for `size` numbers, kept for the next pass."""
        if name not in self._room_for or self._room_for[name].numel() < size:
            self._room_for[name] = torch.empty(size, dtype=dtype)
        return self._room_for[name].data_ptr()

    def _quantised(self, columns: int, tokens: int = _AT_ONCE) -> kernels.Quantised:
        return kernels.Quantised(
            self._room("codes", tokens * columns, torch.int8),
            self._room("scales", tokens * columns // GROUP),
            self._room("sums", tokens * columns // GROUP, torch.int32),
        )

    def _own_cache(self, batch: Mapping[str, Tensor]) -> PagedCache:
        """Pages for a batch that is computed once: a sequence begins at each row, and wherever positions do not go on."""
        ids = batch["input_ids"]
        positions = batch.get("position_ids")
        if positions is None:
            positions = torch.arange(ids.shape[1]).expand_as(ids)
        spans: list[tuple[int, int]] = []
        for row in positions.tolist():
            for column, at in enumerate(row):
                if column and spans[-1][0] + spans[-1][1] == at:
                    spans[-1] = (spans[-1][0], spans[-1][1] + 1)
                else:
                    spans.append((at, 1))
        pages = [-(-(start + count) // PAGE) for start, count in spans]
        cache = self.new_paged(sum(pages))
        first, selected = 0, []
        for (start, count), number in zip(spans, pages, strict=True):
            selected.append(Span(start, count, range(first, first + number)))
            first += number
        cache.spans = selected
        return cache


def _weight(linear: nn.Module) -> Tensor:
    assert isinstance(linear, nn.Linear)
    return linear.weight.detach()


def _cut(spans: list[Span], start: int, most: int) -> list[Span]:
    """The tokens `start` to `start + most` of these, end to end."""
    found, at = [], 0
    for span in spans:
        first, last = max(start - at, 0), min(start + most - at, span.count)
        if first < last:
            found.append(Span(span.start + first, last - first, span.pages))
        at += span.count
    return found
