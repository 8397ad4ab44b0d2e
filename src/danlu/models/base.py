"""What every language model of danlu offers, and the cache it generates with."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Batch", "KVCache", "LanguageModel"]

# input_ids, labels (-100 = no loss), position_ids, segment_ids (0 = padding), all [B, T]; annotations beside them
Batch = dict[str, Tensor]


class LanguageModel(nn.Module):
    """Hidden states apart from logits, so chunked losses, value heads and embeddings need no flags."""

    @abstractmethod
    def hidden(self, batch: Mapping[str, Tensor], cache: "KVCache | None" = None) -> Tensor:
        """[B, T] ids -> [B, T, D]."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""

    @property
    @abstractmethod
    def output_weight(self) -> Tensor:
        """The matrix of `logits`, [V, D]."""

    @property
    @abstractmethod
    def context(self) -> int:
        """The longest sequence, in tokens."""

    @abstractmethod
    def new_cache(self, rows: int, length: int) -> "KVCache":
        """An empty cache for `rows` sequences of at most `length` tokens."""

    @abstractmethod
    def hf_config(self) -> dict[str, Any]:
        """`config.json` as Hugging Face writes it."""

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
