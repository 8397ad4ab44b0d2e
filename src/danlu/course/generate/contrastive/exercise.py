"""Exercise: two ways to score the next token by contrast. 练习：用对比给下一个词元打分的两种方法。"""

from torch import Tensor


def contrast(expert: Tensor, amateur: Tensor, alpha: float, beta: float | None = None) -> Tensor:
    """What the expert says and the amateur does not, of what the expert finds plausible: logits [B, V] of both -> [B, V].

    Plausible is a token that the expert finds at least alpha times as likely as its best; the others become -inf.
    Without beta, the score of a plausible token is log p(expert) - log p(amateur), where a constant for each row does
    not matter; with it, (1 + beta) times the expert's logit minus beta times the amateur's.
    """
    raise NotImplementedError


def contrastive_scores(probabilities: Tensor, new: Tensor, before: Tensor, penalty_alpha: float) -> Tensor:
    """The score of each of K candidates: (1 - alpha) p - alpha s. -> [K].

    probabilities: p of each candidate, [K]; new: the last hidden state after each candidate, [K, D]; before: those of
    all tokens so far, [T, D]; all of length 1. s is the greatest cosine between a candidate's state and those before.
    """
    raise NotImplementedError
