"""Two ways to say less of what is likely but dull: contrastive decoding and contrastive search."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.generate.choose import Chooser, Row, forbidden_next
from danlu.generate.lockstep import Lockstep, room
from danlu.generate.params import Completion, FinishReason, SamplingParams
from danlu.generate.stopping import Answer
from danlu.models.base import LanguageModel
from danlu.ops.sampling import contrast
from danlu.tokenizer import Tokenizer

__all__ = ["check_alike", "contrastive_decoding", "contrastive_scores", "contrastive_search"]

_ENDING = ("max_tokens", "min_tokens", "stop", "stop_token_ids", "ignore_eos", "bad_words")


class _Writer:
    """One answer: its row, its text, and the completion once it ends."""

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, ids: Sequence[int], params: SamplingParams, vocab: int
    ):
        self.row, self.began = Row.of(params, list(ids), tokenizer, vocab), time.perf_counter()
        self.room = room(model, ids, params.max_tokens)
        self.answer = Answer(tokenizer.stream_decoder(), params.stop, self.row.stop_ids, params.min_tokens)
        self.completion: Completion | None = None

    def push(self, token: int) -> bool:
        """Add a token; whether it goes on."""
        step = self.answer.push(token, last=self.row.generated + 1 >= self.room)
        if step.keep:
            self.row.ids.append(token)
        if step.reason:
            self.completion = self._finished(step.reason)
        return step.reason is None

    def _finished(self, reason: FinishReason) -> Completion:
        written = self.row.ids[self.row.prompt_tokens :]
        return Completion(self.answer.text, written, self.row.prompt_tokens, reason, time.perf_counter() - self.began)


def check_alike(expert: Tokenizer, amateur: Tokenizer) -> None:
    """Raise ConfigError unless both have the same tokens under the same ids."""
    one, other = expert.backend.get_vocab(), amateur.backend.get_vocab()
    if one != other:
        token = min((set(one.items()) ^ set(other.items())), key=lambda item: item[1])[0]
        raise ConfigError(
            tr(
                f"expert and amateur have different tokenizers: they differ in the token {token!r}",
                f"专家与业余模型的分词器不同:词元 {token!r} 不一致",
            ),
            tr("take a smaller model of the same family", "请换用同一系列中较小的模型"),
        )


@torch.inference_mode()
def contrastive_decoding(
    expert: LanguageModel,
    amateur: LanguageModel,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    params: SamplingParams,
    *,
    alpha: float = 0.1,
    beta: float | None = None,
) -> list[Completion]:
    """params.n answers to the prompt `ids`: tokens that the expert likes and the amateur, a weaker model, does not.

    See `ops.sampling.contrast` for alpha and beta. What it gives is used as logits: temperature 0 takes its best
    (Li et al. search it with beams), above 0 is drawn from, under all of the params but best_of and logprobs.
    """
    params.only(type(params).model_fields.keys() - {"best_of", "logprobs"}, "contrastive decoding", "对比解码")
    vocab = min(model.output_weight.shape[0] for model in (expert, amateur))  # padded differently in one family
    nearest = min((expert, amateur), key=lambda model: model.context)
    seeds = [None if params.seed is None else params.seed + number for number in range(params.n)]
    writers = [_Writer(nearest, tokenizer, ids, params.model_copy(update={"seed": seed}), vocab) for seed in seeds]
    steps = [Lockstep(model, params.n, len(ids) + writers[0].room) for model in (expert, amateur)]
    chooser, going, fed = Chooser(), writers, [list(ids)]
    while going:
        logits = [step.model.logits(step.feed(fed)[:, -1])[:, :vocab].float() for step in steps]
        wished = contrast(*logits, alpha, beta).expand(len(going), -1)
        tokens = chooser.choose(wished, [writer.row for writer in going]).tokens.tolist()
        first = len(fed) < len(going)  # all begin with the one row of the prompt
        places = [at for at, (one, token) in enumerate(zip(going, tokens, strict=True)) if one.push(token)]
        going, fed = [going[at] for at in places], [[tokens[at]] for at in places]
        if going and (first or len(places) < len(tokens)):
            for step in steps:
                step.keep([0] * len(places) if first else places)
    return [writer.completion for writer in writers if writer.completion]


class _Candidates(NamedTuple):
    ids: list[int]
    probabilities: Tensor  # [K]


@torch.inference_mode()
def contrastive_search(
    model: LanguageModel,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    params: SamplingParams,
    *,
    penalty_alpha: float = 0.6,
    top_k: int = 5,
) -> Completion:
    """An answer to the prompt `ids` that is likely and does not go in circles (Su et al. 2022, eq. 5).

    Each next token is that of the top_k likeliest with the highest (1 - alpha) p - alpha s: s is the greatest cosine
    between its last hidden state and those of all tokens before it, the prompt's included. Nothing is drawn; of
    params only what ends an answer or forbids tokens may be set.
    """
    params.only((*_ENDING, "top_k", "seed"), "contrastive search", "对比搜索")
    writer = _Writer(model, tokenizer, ids, params, model.output_weight.shape[0])
    step = Lockstep(model, top_k, len(ids) + writer.room)
    hidden = step.feed([list(ids)])[0]
    before = normalize(hidden.float(), dim=-1)  # [tokens, D]
    step.keep([0] * top_k)
    logits = model.logits(hidden[-1]).float()
    while True:
        found = _candidates(logits, writer.row, top_k)
        hidden = step.feed([[token] for token in found.ids])[:, 0]
        new = normalize(hidden.float(), dim=-1)
        best = int(contrastive_scores(found.probabilities, new, before, penalty_alpha).argmax())
        if not writer.push(found.ids[best]):
            assert writer.completion is not None
            return writer.completion
        step.keep([best] * top_k, since=step.length - 1)  # the others differ in their last token only
        before, logits = torch.cat([before, new[best : best + 1]]), model.logits(hidden[best]).float()


# lesson: contrastive-scores
def contrastive_scores(probabilities: Tensor, new: Tensor, before: Tensor, penalty_alpha: float) -> Tensor:
    """What contrastive search thinks of K candidates: likely, and unlike all that was said (Su et al. 2022, eq. 5). -> [K].

    probabilities: [K]; new, before: last hidden states after each candidate, [K, D], and of the tokens so far, [T, D],
    each of length 1.
    """
    alike = (new @ before.T).amax(-1)
    return (1 - penalty_alpha) * probabilities - penalty_alpha * alike


# end lesson


def _candidates(logits: Tensor, row: Row, top_k: int) -> _Candidates:
    """The likeliest tokens that may come now; logits: [V]."""
    logits[forbidden_next(row)] = float("-inf")
    values, ids = logits.softmax(-1).topk(min(top_k, len(logits)))
    return _Candidates(ids.tolist(), values)
