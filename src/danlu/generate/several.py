"""Several prompts, several answers: which settings each one gets, and which answers are given."""

from collections.abc import Sequence
from dataclasses import replace

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.generate.params import Completion, SamplingParams

__all__ = ["one_each", "spread", "the_best"]


def one_each(params: SamplingParams) -> list[SamplingParams]:
    """One wish for each answer."""
    count = params.best_of or params.n
    logprobs = 0 if params.logprobs is None and params.best_of else params.logprobs
    one = params.model_copy(update={"n": 1, "best_of": None, "logprobs": logprobs})
    if params.seed is None or count == 1:
        return [one] * count
    return [one.model_copy(update={"seed": (params.seed * 1_000_003 + at) % 2**63}) for at in range(count)]


def the_best(answers: list[Completion], params: SamplingParams) -> list[Completion]:
    """The n most likely, the likeliest first; without `best_of`, all."""
    if params.best_of is None:
        return answers
    ranked = sorted(answers, key=lambda answer: -(answer.cumulative_logprob or 0.0))[: params.n]
    if params.logprobs is None:
        ranked = [replace(answer, logprobs=None) for answer in ranked]
    return ranked


def spread(params: SamplingParams | Sequence[SamplingParams] | None, number: int) -> list[SamplingParams]:
    """Settings for each of so many prompts; a seed in common is made different for each."""
    if params is None or isinstance(params, SamplingParams):
        base = params or SamplingParams()
        if base.seed is None:
            return [base] * number
        return [base.model_copy(update={"seed": (base.seed + i) % 2**63}) for i in range(number)]
    if len(params) != number:
        raise ConfigError(
            tr(f"{number} prompts but {len(params)} settings", f"{number} 个提示词却有 {len(params)} 组设置")
        )
    return list(params)
