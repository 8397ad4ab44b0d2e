"""Exercise: from logits to the next token. 练习：从 logits 到下一个词元。"""

from torch import Tensor


def keep_top_k(logits: Tensor, top_k: Tensor) -> Tensor:
    """Keep the k largest logits of each row; the others become -inf.

    logits: [B, V]; top_k: int [B], each row its own, 0 = all. What equals the k-th largest stays too.
    """
    raise NotImplementedError


def keep_top_p(logits: Tensor, top_p: Tensor) -> Tensor:
    """Keep the fewest best tokens whose probabilities sum to at least p; the others become -inf.

    logits: [B, V]; top_p: [B], each row its own, 1 = all. The best token always stays; what equals the last stays too.
    """
    raise NotImplementedError


def keep_min_p(logits: Tensor, min_p: Tensor) -> Tensor:
    """Keep what is at least p times as likely as the best; the others become -inf. min_p: [B], 0 = all."""
    raise NotImplementedError


def sample(
    logits: Tensor,
    uniform: Tensor,
    temperature: Tensor,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    min_p: Tensor | None = None,
) -> Tensor:
    """One token for each row: logits [B, V], all others [B] (None: no row wants it) -> int64 [B].

    Temperature first, then top-k, top-p of what is left, min-p of what is left. uniform: each row's own random number
    in [0, 1); the token is the first, by id, at which the cumulative probability goes beyond it. Rows of temperature 0
    take the best token.
    """
    raise NotImplementedError
