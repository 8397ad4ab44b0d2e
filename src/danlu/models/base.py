"""What every language model of danlu offers, and the cache it generates with."""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from danlu.ops.attention import additive, attention, cache_mask

__all__ = ["Batch", "Cache", "KVCache", "LanguageModel"]

# input_ids, labels (-100 = no loss), position_ids, segment_ids (0 = padding), all [B, T]; annotations beside them
Batch = dict[str, Tensor]


class Cache(Protocol):
    """Keys and values of the tokens already seen: all that a layer's attention asks of whoever keeps them."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
        """Keep the new k, v [B, G, T, d]; let q [B, H, T, d] look at everything its sequence holds up to itself.

        window: only at the last so many tokens, itself included. Returns [B, H, T, d].
        """
        ...


class LanguageModel(nn.Module):
    """Hidden states apart from logits, so chunked losses, value heads and embeddings need no flags."""

    @abstractmethod
    def hidden(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        """[B, T] ids -> [B, T, D]."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]: `transform`, times `output_weight`, plus `output_bias`."""

    @property
    @abstractmethod
    def output_weight(self) -> Tensor:
        """The matrix of `logits`, [V, D]."""

    def transform(self, hidden: Tensor) -> Tensor:
        """What `logits` does to hidden states before its matrix, [..., D] -> [..., D]: by default nothing."""
        return hidden

    @property
    def output_bias(self) -> Tensor | None:
        """What `logits` adds after its matrix, [V]; None where it adds nothing."""
        return None

    @property
    @abstractmethod
    def context(self) -> int:
        """The longest sequence, in tokens."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    @property
    def dtype_name(self) -> str:
        """Of the weights, such as "float32" or "int8"."""
        return str(next(self.parameters()).dtype).removeprefix("torch.")

    @property
    def parameter_count(self) -> int:
        """Parameters, shared ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @abstractmethod
    def new_cache(self, rows: int, length: int) -> "KVCache":
        """An empty cache for `rows` sequences of at most `length` tokens."""

    @abstractmethod
    def hf_config(self) -> dict[str, Any]:
        """`config.json` as Hugging Face writes it."""

    def hf_generation(self) -> dict[str, Any]:
        """What `generation_config.json` has to say of this model, beside what the tokenizer knows."""
        return {}

    @property
    def router_aux_loss_coef(self) -> float:
        """Weight of the load-balancing loss in training; 0 for a model without experts."""
        return 0.0

    def adopt(self, names: Collection[str]) -> dict[str, str]:
        """What the tensors of a file are called here, {their name: ours}, without those that are known to be unused.

        By default each is called what the file calls it, and the ones that the model lacks are surplus.
        """
        return dict(zip(names, names, strict=True))

    def tied(self) -> dict[str, str]:
        """Names of state that is another name's tensor: {alias: source}."""
        return {}

    def tie(self) -> None:
        """Make the aliases of `tied` one tensor again, after loading."""

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """[B, T] ids -> logits [B, T, V]."""
        return self.logits(self.hidden(batch))


# lesson: kv-cache
class KVCache:
    """Keys and values of the tokens already seen, so that each step computes only the new ones.

    Rows are sequences. `select` names the rows and the positions that the next forward pass writes;
    stale entries beyond a row's position are masked, so rows need no clearing.
    """

    def __init__(
        self, layers: int, rows: int, heads: int, length: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (layers, rows, heads, length, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def select(self, first: int, position_ids: Tensor) -> None:
        """The next pass holds rows `first, first + 1, ...` at `position_ids` [B, T]."""
        self.first, self.count = first, position_ids.shape[0]
        self.positions = position_ids
        self.seen = int(position_ids.max()) + 1
        self._masks: dict[tuple[int | None, torch.dtype], Tensor] = {}  # alike in all layers of one kind

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
        """See `Cache`."""
        keys, values = self.update(layer, k, v)
        mask = self._masks.get((window, q.dtype))
        if mask is None:
            mask = self._masks[window, q.dtype] = additive(cache_mask(self.positions, self.seen, window), q.dtype)
        return attention(q, keys, values, mask)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v [B, G, T, d] at the selected places; return all that the rows hold, [B, G, seen, d]."""
        rows = slice(self.first, self.first + self.count)
        index = torch.arange(self.count, device=k.device)[:, None]
        keys, values = self.keys[layer, rows], self.values[layer, rows]
        keys[index, :, self.positions] = k.transpose(1, 2).to(keys.dtype)
        values[index, :, self.positions] = v.transpose(1, 2).to(values.dtype)
        return keys[:, :, : self.seen], values[:, :, : self.seen]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` entries of one row to another (to close a gap)."""
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]


# end lesson
