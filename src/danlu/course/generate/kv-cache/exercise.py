"""Exercise: a KV cache, and the mask that goes with it. 练习：KV 缓存，以及与它配套的掩码。"""

import torch
from torch import Tensor


class KVCache:
    """Keys and values of the tokens already seen, so that each step computes only the new ones.

    Rows are sequences. `select` names the rows and the positions that the next forward pass writes; then each layer
    calls `update` once.
    """

    def __init__(
        self, layers: int, rows: int, heads: int, length: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (layers, rows, heads, length, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def select(self, first: int, position_ids: Tensor) -> None:
        """The next pass holds rows `first, first + 1, ...` at `position_ids` [B, T]; each row may be elsewhere.

        Also sets `seen`: how many positions, counted from 0, the fullest of these rows holds after the pass.
        """
        self.first, self.positions = first, position_ids
        self.seen = int(position_ids.max()) + 1

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v [B, G, T, d] of one layer at the selected rows and positions.

        Returns all keys and all values of these rows up to `seen`, [B, G, seen, d] each.
        """
        raise NotImplementedError


def cache_mask(position_ids: Tensor, length: int) -> Tensor:
    """What queries at `position_ids` [B, T] may see of a cache of `length`: bool [B, 1, T, length].

    A query sees the entries up to its own position. What lies beyond is empty, or left by whoever had the row before.
    """
    raise NotImplementedError
