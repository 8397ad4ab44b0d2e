"""Exercise: multi-head, grouped-query and multi-query attention in one module. 练习：一个模块实现多头、分组与多查询注意力。"""

from typing import Any

from torch import Tensor, nn


class Attention(nn.Module):
    """`heads` query heads share `kv_heads` heads of keys and values; every head is `head_dim` wide.

    kv_heads = heads is multi-head attention, kv_heads = 1 is multi-query attention.
    """

    def __init__(self, size: int, heads: int, kv_heads: int, head_dim: int) -> None:
        """Four linear layers without bias, under Hugging Face's names: q_proj, k_proj, v_proj, o_proj.

        They go from `size` to all heads of queries, of keys, of values, and back from all query heads to `size`.
        """
        super().__init__()
        raise NotImplementedError

    def forward(self, x: Tensor, view: Any, cache: None, layer: int) -> Tensor:
        """x: [B, T, D]. Returns [B, T, D].

        view.mask is added to the scores (broadcastable to [B, H, T, T]); None means causal. view.rotary and cache are
        None in this exercise, layer is not needed. `danlu.ops.attention.attention(q, k, v, mask, causal=...)` takes
        q [B, H, T, d] and k, v [B, G, T, d] with fewer heads, and returns [B, H, T, d].
        """
        raise NotImplementedError
