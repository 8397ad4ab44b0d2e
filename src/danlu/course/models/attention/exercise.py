"""Exercise: scaled dot-product attention and the mask of packed documents. 练习：缩放点积注意力与文档打包的掩码。"""

import torch
from torch import Tensor


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """How much each query looks at each key: softmax(q kᵀ / √d + mask).

    q: [B, H, T, d], k: [B, G, S, d] with H a multiple of G: query heads 0 to H/G - 1 share the first head of k.
    mask: additive (0 or -inf), broadcastable to [B, H, T, S]. Returns [B, H, T, S] in q's dtype; every row sums
    to 1. Take the softmax in float32, whatever the dtype of q.
    """
    raise NotImplementedError


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Boolean 'may look' to what is added to the scores: 0 where allowed, -inf elsewhere. Works in every dtype."""
    raise NotImplementedError


def packed_mask(segment_ids: Tensor) -> Tensor:
    """Who may look at whom when several documents lie in one row: the same document, and not later than oneself.

    segment_ids: [B, T], 1, 2, ... for the documents, 0 for padding, which counts as a document of its own.
    Returns bool [B, 1, T, T].
    """
    raise NotImplementedError
