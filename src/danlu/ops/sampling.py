"""From logits to the next token: the one place for sampling. Everything is vectorised over the batch.

Every setting is a tensor [B], so that each row has its own. What excludes a token sets its logit to -inf; the
functions can be chained in any order, `sample` chains them as transformers and vLLM do: temperature, top-k, top-p
of what is left, min-p, typical. Tokens tied at a border stay together, so no result depends on an order of equals;
something always stays.
"""

from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from danlu.ops.loss import logprobs

__all__ = [
    "contrast",
    "distribution",
    "greedy",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "keep_typical",
    "likeliest",
    "penalise_frequency",
    "penalise_repetition",
    "sample",
]

_FEW = 256  # a nucleus mostly lies within so many tokens; to find them is cheaper than to sort all
_AT_ONCE = 400_000  # logits that a processor's cache holds: beyond, all that is made of them goes through memory
_OUT = float("-inf")


def greedy(logits: Tensor) -> Tensor:
    """The best token of each row, of equally good ones the lowest id. [B, V] -> int64 [B]."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return torch.from_numpy(np.asarray(logits.detach().numpy().argmax(-1)))  # several times as fast as torch's
    return logits.argmax(-1)


def likeliest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best tokens of each row and their log-probabilities: [B, V] -> int64 [B, k], float32 [B, k], best first."""
    values, ids = logits.float().topk(min(k, logits.shape[-1]), dim=-1)
    first = logprobs(logits, greedy(logits))  # they share the normaliser
    return ids, values - values[:, :1] + first[:, None]


# --- before the temperature: what was said already ---------------------------------------


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Make tokens that were seen less likely (Keskar et al. 2019, CTRL, §4.1).

    logits: [B, V]; seen: bool [B, V]; penalty: [B], 1 = none. Positive logits are divided, negative multiplied.
    """
    factor = torch.where(logits > 0, 1 / penalty[:, None], penalty[:, None])
    return torch.where(seen, logits * factor, logits)


def penalise_frequency(logits: Tensor, counts: Tensor, presence: Tensor, frequency: Tensor) -> Tensor:
    """Make generated tokens less likely, once and for each time (OpenAI's API reference, "frequency and presence").

    logits: [B, V]; counts: how often each token was generated, [B, V]; presence, frequency: [B], 0 = none.
    """
    return logits - presence[:, None] * (counts > 0) - frequency[:, None] * counts


# lesson: contrast
def contrast(expert: Tensor, amateur: Tensor, alpha: float, beta: float | None = None) -> Tensor:
    """What the expert says and the amateur does not, of what the expert finds plausible: logits [B, V] of both -> [B, V].

    Plausible: at least alpha times as likely as the expert's best. Without beta, log p(expert) - log p(amateur), up to
    a constant (Li et al. 2023, eq. 2-4); with it, (1 + beta) expert - beta amateur (O'Brien & Lewis 2023, eq. 2).
    """
    apart = expert - amateur if beta is None else (1 + beta) * expert - beta * amateur
    return apart.masked_fill(_weights(expert) < alpha, _OUT)


# end lesson


# --- filters: [B, V] and one setting a row -> [B, V] with -inf for what is excluded -----------------------------


# lesson: sampling
def keep_top_k(logits: Tensor, top_k: Tensor) -> Tensor:
    """Keep the k best (Fan et al. 2018) and what is tied with the last of them. top_k: int [B], 0 = all."""
    k = top_k.clamp_max(logits.shape[1])
    best = logits.topk(max(1, int(k.max())), dim=-1).values
    least = best.gather(-1, (k - 1).clamp_min(0)[:, None])
    return logits.masked_fill((logits < least) & (k > 0)[:, None], _OUT)


def keep_top_p(logits: Tensor, top_p: Tensor) -> Tensor:
    """Keep the fewest best tokens whose mass reaches p (nucleus, Holtzman et al. 2020). top_p: [B], 1 = all."""
    weights = _weights(logits)
    least = -_border(weights, -weights, top_p)
    return logits.masked_fill((weights < least) & (top_p < 1)[:, None], _OUT)


def keep_min_p(logits: Tensor, min_p: Tensor) -> Tensor:
    """Keep what is at least p times as likely as the best (Nguyen et al. 2024). min_p: [B], 0 = all."""
    return logits.masked_fill(_weights(logits) < min_p[:, None], _OUT)


def keep_typical(logits: Tensor, typical_p: Tensor) -> Tensor:
    """Keep the fewest tokens of mass p whose surprise is nearest to the expected one, the entropy (Meister et al. 2023).

    typical_p: [B], 1 = all. The best token may go: that is the point of it.
    """
    weights = _weights(logits)
    probabilities = weights / weights.sum(-1, keepdim=True)
    surprise = -probabilities.log()
    entropy = (probabilities * surprise).nan_to_num(0.0).sum(-1, keepdim=True)  # 0 log 0 = 0
    distance = (surprise - entropy).abs()
    furthest = _border(weights, distance, typical_p)
    return logits.masked_fill((distance > furthest) & (typical_p < 1)[:, None], _OUT)


def _weights(logits: Tensor) -> Tensor:
    """Probabilities over that of the best: a row's values do not depend on how many columns there are."""
    return (logits.float() - logits.float().amax(-1, keepdim=True)).exp_()


def _border(weights: Tensor, by: Tensor, share: Tensor, few: int = _FEW) -> Tensor:
    """The value of `by` [B, V], going upwards, at which the tokens so far have the `share` [B] of the mass. -> [B, 1]."""
    few = min(few, weights.shape[1])
    values, order = by.topk(few, dim=-1, largest=False)
    mass = weights.gather(-1, order).double().cumsum(-1)
    wanted = share.double() * weights.sum(-1, dtype=torch.float64)
    if few < weights.shape[1] and not bool(((mass[:, -1] >= wanted) | (share >= 1)).all()):
        return _border(weights, by, share, few * 16)
    return values.gather(-1, torch.searchsorted(mass, wanted[:, None]).clamp_max(few - 1))


# --- the draw ---------------------------------------------------------------------------------------------------


def sample(
    logits: Tensor,
    uniform: Tensor,
    temperature: Tensor,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    min_p: Tensor | None = None,
    typical_p: Tensor | None = None,
) -> Tensor:
    """Draw one token a row. logits: [B, V], all others [B] (None: no row wants it) -> int64 [B].

    uniform: each row's own random number in [0, 1), so a row's draw does not depend on what else is in the batch;
    the token is where the cumulative probability, in the order of ids, passes it. Temperature 0 is `greedy`.
    """
    draws = temperature > 0
    if not bool(draws.any()):
        return greedy(logits)
    rows = max(1, _AT_ONCE // logits.shape[1])
    if logits.device.type == "cpu" and len(logits) > rows:
        given = (logits, uniform, temperature, top_k, top_p, min_p, typical_p)
        parts = (each.split(rows) if each is not None else repeat(None) for each in given)
        return torch.cat([sample(*part) for part in zip(*parts, strict=False)])
    best = greedy(logits)
    logits, ids = _heated(logits, temperature), None
    if top_k is not None and bool(((top_k > 0) | ~draws).all()):  # a few columns are all there is to look at
        top_k = torch.where(draws, top_k, 1)
        logits, ids = _columns(logits, int(top_k.max()))
    cumulative = _weights(_filtered(logits, top_k, top_p, min_p, typical_p)).double().cumsum_(-1)
    at = torch.searchsorted(cumulative, uniform.double()[:, None] * cumulative[:, -1:], right=True)
    at = at.clamp_max(logits.shape[1] - 1)
    drawn = at if ids is None else ids.gather(-1, at)
    return torch.where(draws, drawn[:, 0], best)


# end lesson


def distribution(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    min_p: Tensor | None = None,
    typical_p: Tensor | None = None,
) -> Tensor:
    """The probabilities that `sample` draws from, float32 [B, V]; a row of temperature 0 has all on its best token."""
    likely = _filtered(_heated(logits, temperature), top_k, top_p, min_p, typical_p).softmax(-1)
    certain = torch.zeros_like(likely).scatter_(-1, greedy(logits)[:, None], 1.0)
    return torch.where(temperature[:, None] > 0, likely, certain)


def _heated(logits: Tensor, temperature: Tensor) -> Tensor:
    """Logits over temperature in float32; rows of temperature 0 stay as they are."""
    return logits.float() / torch.where(temperature > 0, temperature.clamp_min(1e-6), 1)[:, None]


def _filtered(
    logits: Tensor, top_k: Tensor | None, top_p: Tensor | None, min_p: Tensor | None, typical_p: Tensor | None
) -> Tensor:
    """The filters that some row wants."""
    if top_k is not None and bool((top_k > 0).any()):
        logits = keep_top_k(logits, top_k)
    if top_p is not None and bool((top_p < 1).any()):
        logits = keep_top_p(logits, top_p)
    if min_p is not None and bool((min_p > 0).any()):
        logits = keep_min_p(logits, min_p)
    if typical_p is not None and bool((typical_p < 1).any()):
        logits = keep_typical(logits, typical_p)
    return logits


def _columns(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of every row with what is tied with the last, in the order of ids: logits and ids, [B, K]."""
    k = min(k, logits.shape[1])
    least = logits.topk(k, dim=-1).values[:, -1:]
    k = int((logits >= least).sum(-1).max())
    ids = logits.topk(k, dim=-1).indices.sort(dim=-1).values
    return logits.gather(-1, ids), ids
