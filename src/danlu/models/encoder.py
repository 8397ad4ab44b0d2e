"""Encoders: every token sees its whole text, both sides of it (BERT and its relatives, Devlin et al. 2019).

What a family does differently stands in danlu/models/encoders.py and, for ModernBERT's layers, in modernbert.py.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.models.base import Cache, KVCache, LanguageModel
from danlu.models.blocks import View
from danlu.models.encoder_config import EncoderConfig, read_encoder_config, write_encoder_config
from danlu.models.encoders import Head
from danlu.models.modernbert import ModernLayer, modern_norm
from danlu.models.parts import Parts, activation_of, graft, mix_heads, start_normal
from danlu.models.rotary import Rotary
from danlu.ops.attention import additive, mutual_mask
from danlu.ops.pooling import pool

__all__ = ["Encoder", "EncoderConfig", "EncoderLayer", "from_hf"]

_OLD_NORM, _TODAY = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$"), {"gamma": "weight", "beta": "bias"}


def from_hf(config: Mapping[str, Any], where: str) -> "Encoder":
    """An encoder for the config.json of any family in encoders.py; `where` names the file in errors.

    Raises FolderError or ConfigError naming a setting that is missing, wrong or not implemented.
    """
    return Encoder(read_encoder_config(config, where))


# lesson: encoder-layer
class EncoderLayer(Parts):
    """norm(x + attention(x)), then norm(x + mlp(x)): BERT norms after each block (Vaswani et al. 2017, §3.1)."""

    def __init__(self, config: EncoderConfig, number: int) -> None:
        del number  # all layers are alike
        size, eps = config.hidden_size, config.layer_norm_eps
        parts: dict[str, nn.Module] = {name: nn.Linear(size, size) for name in ("query", "key", "value", "out")}
        parts["attention_norm"] = nn.LayerNorm(size, eps)
        parts["inner"], parts["outer"] = nn.Linear(size, config.inner), nn.Linear(config.inner, size)
        parts["mlp_norm"] = nn.LayerNorm(size, eps)
        super().__init__(config.traits.layer, parts)
        self.head_dim = config.head_dim
        self.act = activation_of(config.hidden_act)
        self.dropped, self.unseen = config.hidden_dropout_prob, config.attention_probs_dropout_prob
        self.drops_attention = config.traits.drops_attention

    def forward(self, x: Tensor, view: View) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        q, k, v = (
            self[name](x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for name in ("query", "key", "value")
        )
        mixed = mix_heads(q, k, v, view.mask, dropout=self.unseen if self.training else 0.0)
        added = self["out"](mixed.transpose(1, 2).flatten(2))
        x = self["attention_norm"](x + (self._drop(added) if self.drops_attention else added))
        return self["mlp_norm"](x + self._drop(self["outer"](self.act(self["inner"](x)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropped, self.training)


# end lesson


class Encoder(Parts, LanguageModel):
    """Tokens in, hidden states out; `transform` and an output matrix make of them what the head predicts.

    Batches may hold `token_type_ids` [B, T] (0 first, 1 second sentence; 0 where absent) beside the usual. Rows may
    be padded (segment 0) or hold several documents (segments 1, 2, ... with positions from 0 each).
    `forward` gives logits: [B, T, V] of a masked LM, [B, T, labels] of a token classifier, [B, labels] of a sequence
    classifier, which reads one text a row. A plain encoder has no logits: take `hidden` or `pooled`.
    """

    def __init__(self, config: EncoderConfig) -> None:
        config.check()
        family, head = config.traits, config.head
        self.plan = plan = family.heads[head]
        body = _embeddings(config)
        places = {part: family.place(family.embeddings[part], head) for part in body}
        places |= {"dense": plan.dense or "", "head_norm": plan.norm or "", "output": plan.out or ""}
        super().__init__(places, {**body, **_head(config)})
        self.config = config
        self._layers = family.place(family.layers, head)
        layer = ModernLayer if family.modern else EncoderLayer
        graft(self, self._layers, nn.ModuleList(layer(config, n) for n in range(config.num_hidden_layers)))
        if plan.bias is not None:  # untied, it is in the file and nowhere used
            graft(self, plan.bias, nn.Parameter(torch.zeros(config.vocab_size), config.tie_word_embeddings))
        self.tie()
        self._kinds = config.kinds
        self._head_act = activation_of(getattr(config, plan.act[1:]) if plan.act.startswith("=") else plan.act)
        self._head_drop = config.dropout_of(plan.dropout)
        bases = {"full_attention": config.rope_theta, "sliding_attention": config.local_rope_theta}
        self._rotaries = {
            kind: Rotary(config.head_dim, base, config.max_position_embeddings)
            for kind, base in bases.items()
            if family.modern
        }

    def hidden(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        if cache is not None:
            raise _no_generation()
        ids, positions = batch["input_ids"], batch.get("position_ids")
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        x = self["word"](ids)
        if "position" in self:
            x = x + self["position"](positions + self.config.first_position)
        if "type" in self:
            x = x + self["type"](batch.get("token_type_ids", torch.zeros_like(ids)))
        x = F.dropout(self["norm"](x), self.config.hidden_dropout_prob, self.training)
        views = {kind: self._view(kind, batch, positions, x) for kind in set(self._kinds)}
        layers = self.get_submodule(self._layers)
        assert isinstance(layers, nn.ModuleList)
        for kind, layer in zip(self._kinds, layers, strict=True):
            x = layer(x, views[kind])
        return self["final_norm"](x) if "final_norm" in self else x

    def _view(self, kind: str, batch: Mapping[str, Tensor], positions: Tensor, x: Tensor) -> View:
        """What layers of this kind see: their whole document, or what is near in it."""
        rotary = self._rotaries[kind](positions) if self._rotaries else None
        reach = self.config.local_attention // 2 if kind == "sliding_attention" else None
        segments = batch.get("segment_ids")
        if segments is None:
            if reach is None or reach >= x.shape[1] - 1:
                return View(rotary, None)
            segments = torch.ones_like(positions[:1])
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        return View(rotary, additive(mutual_mask(segments, reach), dtype))

    def pooled(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The one state of each row that a sequence classifier reads: [B, T, D] -> [B, D], its first or its mean."""
        segments = batch.get("segment_ids")
        counted = torch.ones_like(hidden[..., 0], dtype=torch.bool) if segments is None else segments != 0
        return pool(hidden, counted, self.config.classifier_pooling)

    def transform(self, hidden: Tensor) -> Tensor:
        """What the head does before its matrix, [..., D] -> [..., D]: a dense layer, an activation, a norm.

        Of a plain BERT this is its "pooler", trained to tell next sentences.
        """
        drops_first = self.training and self.plan.drops_first
        if "dense" in self:
            hidden = self._head_act(self["dense"](F.dropout(hidden, self._head_drop, drops_first)))
        if "head_norm" in self:
            hidden = self["head_norm"](hidden)
        return F.dropout(hidden, self._head_drop, self.training)

    def logits(self, hidden: Tensor) -> Tensor:
        return self._output(self.transform(hidden))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """[B, T] ids -> logits, as the class says."""
        hidden = self.hidden(batch)
        return self.logits(self.pooled(hidden, batch) if self.config.head == "sequence-classification" else hidden)

    @property
    def output_weight(self) -> Tensor:
        return self._output.get_parameter("weight")

    @property
    def output_bias(self) -> Tensor | None:
        return self._output._parameters.get("bias")

    @property
    def _output(self) -> nn.Module:
        if self.plan.out is None:
            raise ConfigError(
                tr("a plain encoder has no head and gives no logits", "纯编码器没有头部，不产生 logits"),
                tr(
                    "take its hidden states, or put a head on with `with_head`",
                    "请取其隐藏状态，或用 `with_head` 加上头部",
                ),
            )
        return self["output"]

    @property
    def context(self) -> int:
        return self.config.max_position_embeddings - self.config.first_position

    def new_cache(self, rows: int, length: int) -> KVCache:
        raise _no_generation()

    def initialise(self, generator: torch.Generator) -> None:
        """N(0, 0.02); what writes into a residual stream that is never normed smaller by √(2·layers)."""
        residual = ("attn.Wo.weight", "mlp.Wo.weight") if self.config.traits.modern else ()
        start_normal(self, generator, residual, self.config.num_hidden_layers)

    def with_head(self, head: Head, generator: torch.Generator, **settings: Any) -> "Encoder":
        """A new encoder with this one's body and a fresh head; `settings` (such as labels) go to its config.

        The body's tensors are shared, not copied. Raises ConfigError for a setting that there is not.
        """
        new = Encoder(EncoderConfig.parse({**self.config.plain(), "head": head, **settings}, "with_head"))
        new.initialise(generator)
        new.to(self.device, self.get_parameter(f"{self._places['word']}.weight").dtype)
        body = {self.config.traits.place(name, head): tensor for name, tensor in self._body_state().items()}
        new.load_state_dict({**new.state_dict(keep_vars=True), **body}, assign=True)
        new.tie()
        return new.train(self.training)

    def _body_state(self) -> dict[str, Tensor]:
        """Everything below the head, under the names it has in a plain encoder."""
        front, family = self.config.traits.place("", self.config.head), self.config.traits
        roots = tuple(f"{path}." for path in (*family.embeddings.values(), family.layers))
        state = self.state_dict(keep_vars=True).items()
        bare = {name.removeprefix(front): tensor for name, tensor in state if name.startswith(front)}
        return {name: tensor for name, tensor in bare.items() if name.startswith(roots)}

    def adopt(self, names: Collection[str]) -> dict[str, str]:
        """Old files call a norm's weight gamma and its bias beta, and hold what no forward pass uses.

        A plain BERT may be saved with its pooler or without: this model then has one or has none.
        """
        if self.config.head == "none" and self.plan.dense and f"{self.plan.dense}.weight" not in names:
            graft(self, self.plan.dense.partition(".")[0], nn.Module())
            del self._places["dense"]
        own, front = self.state_dict(), f"{self.config.traits.body}."
        today = {name: _OLD_NORM.sub(lambda found: _TODAY[found[0]], name) for name in names}
        return {
            name: now
            for name, now in today.items()
            if now in own or now.removeprefix(front) not in self.config.traits.unused
        }

    def tied(self) -> dict[str, str]:
        if self.config.head != "masked-lm" or not self.config.tie_word_embeddings:
            return {}
        family, plan = self.config.traits, self.plan
        word = family.place(family.embeddings["word"], self.config.head)
        names = {f"{plan.out}.weight": f"{word}.weight"}
        return names | ({f"{plan.out}.bias": plan.bias} if plan.bias else {})

    def tie(self) -> None:
        for alias, source in self.tied().items():
            path, _, leaf = alias.rpartition(".")
            setattr(self.get_submodule(path), leaf, self.get_parameter(source))

    def hf_config(self) -> dict[str, Any]:
        return write_encoder_config(self.config, self.dtype_name)


def _embeddings(config: EncoderConfig) -> dict[str, nn.Module]:
    """The parts of the body that are not in its layers."""
    size, paths = config.hidden_size, config.traits.embeddings
    norm = modern_norm(config) if config.traits.modern else nn.LayerNorm(size, config.layer_norm_eps)
    parts: dict[str, nn.Module] = {"word": nn.Embedding(config.vocab_size, size), "norm": norm}
    if "position" in paths:
        parts["position"] = nn.Embedding(config.max_position_embeddings, size)
    if "type" in paths:
        parts["type"] = nn.Embedding(config.type_vocab_size, size)
    if "final_norm" in paths:
        parts["final_norm"] = modern_norm(config)
    return parts


def _head(config: EncoderConfig) -> dict[str, nn.Module]:
    """The parts above the body, of those that the family's plan names."""
    size, modern, plan = config.hidden_size, config.traits.modern, config.traits.heads[config.head]
    parts: dict[str, nn.Module] = {}
    if plan.dense is not None:
        parts["dense"] = nn.Linear(size, size, bias=config.classifier_bias or not modern)
    if plan.norm is not None:
        parts["head_norm"] = modern_norm(config) if modern else nn.LayerNorm(size, config.layer_norm_eps)
    if plan.out is not None:
        masked = config.head == "masked-lm"
        rows = config.vocab_size if masked else len(config.labels)
        parts["output"] = nn.Linear(size, rows, bias=config.decoder_bias or not masked)
    return parts


def _no_generation() -> ConfigError:
    return ConfigError(
        tr("an encoder reads both sides of a text and does not continue it", "编码器同时看两侧文本，不能续写"),
        tr("generate with a decoder, such as llama or gpt2", "请用解码器（如 llama、gpt2）生成"),
    )
