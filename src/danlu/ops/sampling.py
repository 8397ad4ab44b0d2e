"""From logits to the next token: the one place for sampling. Everything is vectorised over the batch."""

import torch
from torch import Tensor

__all__ = ["filter_probabilities", "penalise_repetition", "sample"]


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Make tokens that were seen less likely (Keskar et al. 2019, CTRL, §4.1).

    logits: [B, V]; seen: bool [B, V]; penalty: [B], 1 = none. Positive logits are divided, negative multiplied.
    """
    factor = torch.where(logits > 0, 1 / penalty[:, None], penalty[:, None])
    return torch.where(seen, logits * factor, logits)


# lesson: sampling
def filter_probabilities(probabilities: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """Zero what top-k, top-p and min-p exclude, of probabilities sorted downwards. [B, V] -> [B, V], not normalised.

    top_k: int [B], 0 = all; top_p: [B], 1 = all: the smallest set whose mass reaches p (Holtzman et al. 2020);
    min_p: [B], 0 = all: at least this share of the best token's probability. The best token always stays.
    """
    rank = torch.arange(probabilities.shape[1], device=probabilities.device)
    before = probabilities.cumsum(-1) - probabilities
    keep = (rank < top_k[:, None]) | (top_k[:, None] == 0)
    keep &= (before < top_p[:, None]) | (top_p[:, None] >= 1)
    keep &= probabilities >= min_p[:, None] * probabilities[:, :1]
    keep[:, 0] = True
    return probabilities * keep


def sample(logits: Tensor, uniform: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """Draw one token a row. [B, V], six [B] -> int64 [B].

    uniform: each row's own random number in [0, 1), so a row's draw does not depend on what else is in the batch;
    the token is where the cumulative probability passes it. temperature 0 takes the best token.
    """
    greedy = logits.argmax(-1)
    if not bool((temperature > 0).any()):
        return greedy
    scaled = logits.float() / temperature.clamp_min(1e-6)[:, None]
    probabilities = scaled.softmax(-1)
    order = None
    if bool(((top_k > 0) | (top_p < 1) | (min_p > 0)).any()):
        probabilities, order = torch.sort(probabilities, dim=-1, descending=True, stable=True)
        probabilities = filter_probabilities(probabilities, top_k, top_p, min_p)
    cumulative = probabilities.double().cumsum(-1)
    drawn = torch.searchsorted(cumulative, (uniform.double() * cumulative[:, -1])[:, None], right=True)
    drawn = drawn.clamp_max(logits.shape[1] - 1)
    if order is not None:
        drawn = order.gather(-1, drawn)
    return torch.where(temperature > 0, drawn[:, 0], greedy)


# end lesson
