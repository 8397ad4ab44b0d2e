"""What every request's next token is: its own settings, its own random numbers, all rows at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_not
from typing import NamedTuple, Self

import torch
from torch import Tensor

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.generate.params import SamplingParams, TokenLogprob
from danlu.generate.penalties import History
from danlu.ops.loss import logprobs
from danlu.ops.sampling import greedy, likeliest, sample
from danlu.tokenizer import Tokenizer

__all__ = ["Chooser", "Chosen", "Row", "forbidden_next"]

_OUT, _ZERO = float("-inf"), torch.zeros(1)
_OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}  # where a setting does nothing


@dataclass(eq=False)
class Row:
    """A request. `ids` holds prompt and answer, its owner lets it grow; no stop_ids before min_tokens."""

    params: SamplingParams
    ids: list[int]
    prompt_tokens: int
    generator: torch.Generator
    stop_ids: tuple[int, ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, params: SamplingParams, ids: list[int], tokenizer: Tokenizer, vocab_size: int) -> Self:
        """A new request with the prompt `ids` for a model of `vocab_size`; without a seed it is new each time.

        Raises ConfigError when the settings name a token that the model does not have.
        """
        for name, tokens in (("logit_bias", params.biases), ("stop_token_ids", params.stop_token_ids)):
            if (last := max(tokens, default=0)) >= vocab_size:
                raise ConfigError(
                    tr(f"{name}: there is no token {last}", f"{name}:没有编号为 {last} 的 token"),
                    tr(f"this model's go from 0 to {vocab_size - 1}", f"该模型的 token 编号为 0 到 {vocab_size - 1}"),
                )
        generator = torch.Generator()
        generator.manual_seed(params.seed) if params.seed is not None else generator.seed()
        ends = () if params.ignore_eos else tokenizer.stop_ids
        # A word is spelt differently after a space: with byte-level tokens " word" is one.
        spelt = [tokenizer.encode(space + word) for word in params.bad_words for space in ("", " ")]
        bad = tuple(dict.fromkeys(tuple(found) for found in spelt if found))
        return cls(params, ids, len(ids), generator, tuple(dict.fromkeys((*ends, *params.stop_token_ids))), bad)

    @property
    def generated(self) -> int:
        """Tokens of the answer so far."""
        return len(self.ids) - self.prompt_tokens

    @property
    def penalised(self) -> bool:
        """What was said before matters."""
        own = self.params
        return own.repetition_penalty != 1 or own.presence_penalty != 0 or own.frequency_penalty != 0


class Chosen(NamedTuple):
    """tokens: int64 [R]; logprobs: for each row what it asked for, None where it asked for nothing."""

    tokens: Tensor
    logprobs: list[TokenLogprob | None]


def forbidden_next(row: Row) -> list[int]:
    """Tokens that may not come now: the last of a bad word whose others stand there, and an end that is too early."""
    early = row.stop_ids if row.generated < row.params.min_tokens else ()
    return [last for *head, last in row.bad_words if not head or row.ids[-len(head) :] == head] + list(early)


class Chooser:
    """Chooses a token for each row. It remembers the rows of the last call, so that nothing is built twice."""

    def __init__(self) -> None:
        self._batch: _Batch | None = None

    @torch.inference_mode()
    def choose(self, logits: Tensor, rows: Sequence[Row], allowed: Tensor | None = None) -> Chosen:
        """One step. logits: float32 [R, V], left as they are; allowed: bool [R, V], at least one a row.

        In vLLM's order: bias, forbidden tokens, penalties, then `ops.sampling.sample`. Logprobs are of the logits
        as they came. Where bad words or min_tokens would leave nothing that is allowed, they give way.
        """
        batch = self._batch
        if batch is None or batch.differs(rows):
            batch = self._batch = _Batch(rows, logits, batch.history if batch else None)
        edited = batch.edited(logits)
        if allowed is not None:
            edited, raw = (part.masked_fill(~allowed, _OUT) for part in (edited, logits))
            edited = torch.where(edited.amax(-1, keepdim=True) == _OUT, raw, edited)
        tokens = batch.drawn(edited)
        return Chosen(tokens, _told(logits, tokens, rows))


class _Batch:
    """Rows that step together, their settings as tensors [R]. What no row wants is None and costs nothing."""

    def __init__(self, rows: Sequence[Row], logits: Tensor, before: History | None) -> None:
        self.rows, self.device = list(rows), logits.device
        self.temperature = self._setting("temperature")
        self.filters = {
            name: self._setting(name) if any(getattr(row.params, name) != off for row in rows) else None
            for name, off in _OFF.items()
        }
        self.draws = any(row.params.temperature > 0 for row in rows)
        biased = [(at, *bias) for at, row in enumerate(rows) for bias in row.params.biases.items()]
        self.bias = [torch.tensor(part, device=self.device) for part in zip(*biased, strict=True)]
        self.watched = [(at, row) for at, row in enumerate(rows) if row.bad_words or row.params.min_tokens]
        self.history = History(self.rows, self.device, before) if any(row.penalised for row in rows) else None

    def _setting(self, name: str) -> Tensor:
        return torch.tensor([getattr(row.params, name) for row in self.rows], device=self.device)

    def differs(self, rows: Sequence[Row]) -> bool:
        """Other rows, or an answer that was set back."""
        if len(self.rows) != len(rows) or any(map(is_not, self.rows, rows)):
            return True
        return self.history is not None and self.history.set_back()

    def edited(self, logits: Tensor) -> Tensor:
        """Bias, forbidden tokens and penalties: a copy, or the logits themselves when there is nothing to do."""
        forbidden = [(at, token) for at, row in self.watched for token in forbidden_next(row)]
        if not (self.bias or forbidden or self.history):
            return logits
        logits = logits.clone()
        if self.bias:
            logits.index_put_(tuple(self.bias[:2]), self.bias[2], accumulate=True)
        if forbidden:
            logits[torch.tensor(forbidden, device=self.device).unbind(1)] = _OUT
        if self.history:
            self.history.penalise(logits)
        return logits

    def drawn(self, logits: Tensor) -> Tensor:
        """int64 [R]. A row that draws uses up one number of its generator at each step."""
        if not self.draws:
            return greedy(logits)
        uniform = [torch.rand(1, generator=r.generator) if r.params.temperature > 0 else _ZERO for r in self.rows]
        return sample(logits, torch.cat(uniform).to(self.device), self.temperature, **self.filters)


def _told(logits: Tensor, tokens: Tensor, rows: Sequence[Row]) -> list[TokenLogprob | None]:
    """Log-probabilities for the rows that asked: of the token, and of the likeliest ones."""
    told: list[TokenLogprob | None] = [None] * len(rows)
    asking = [at for at, row in enumerate(rows) if row.params.logprobs is not None]
    if not asking:
        return told
    own, chosen = logits[asking], tokens[asking]
    best, best_logs = likeliest(own, max(1, *(rows[row].params.logprobs or 0 for row in asking)))
    found = zip(asking, chosen.tolist(), logprobs(own, chosen).tolist(), best.tolist(), best_logs.tolist(), strict=True)
    for row, token, log, ids, logs in found:
        few = rows[row].params.logprobs
        told[row] = TokenLogprob(token, log, tuple(zip(ids[:few], logs[:few], strict=True)))
    return told
