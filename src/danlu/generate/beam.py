"""Beam search: the likeliest whole answers, instead of the likeliest next token (Freitag & Al-Onaizan 2017, §3)."""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from danlu.generate.lockstep import Lockstep, room
from danlu.models.base import LanguageModel
from danlu.ops.sampling import likeliest

__all__ = ["Hypothesis", "beam_search"]


class Hypothesis(NamedTuple):
    """An answer without its stop token; score: its log-probability, that of the stop token included, over
    length ** length_penalty (in nats).
    """

    ids: list[int]
    score: float
    reason: Literal["stop", "length"]


class _Beam(NamedTuple):
    """An answer under way, and its log-probability."""

    ids: list[int]
    logprob: float


@torch.inference_mode()
def beam_search(
    model: LanguageModel,
    ids: Sequence[int],
    *,
    num_beams: int,
    max_tokens: int,
    source: Sequence[int] = (),
    stop_ids: Collection[int] = (),
    length_penalty: float = 1.0,
    early_stopping: bool | Literal["never"] = False,
) -> list[Hypothesis]:
    """The num_beams best answers to the prompt `ids`, best first: what transformers' beam search finds.

    At each step every beam grows by every token, and the num_beams likeliest go on. Those among them that end are
    done; more would come than there is room for: the worst score goes. length_penalty: above 0 favours long answers.
    source: what an encoder-decoder answers; its prompt is the token that its decoder begins with.
    early_stopping: True ends at num_beams answers; False when the best beam, would it end now, could not join them;
    "never" when it could not whatever its length. Raises ContextError for a prompt that does not fit.
    """
    longest = room(model, ids, max_tokens)
    step = Lockstep(model, num_beams, len(ids) + longest, source)
    hidden = step.feed([ids])
    beams, done = [_Beam([], 0.0)], list[Hypothesis]()
    for length in range(1, longest + 1):
        found = _grown(beams, model.logits(hidden[:, -1]).float(), max(2, 1 + len(stop_ids)) * num_beams)
        going = []
        for rank, (parent, beam) in enumerate(found):
            stops = beam.ids[-1] in stop_ids
            if not stops and length < longest:
                going.append((parent, beam))
            elif rank < num_beams:  # the others are there only so that enough can go on
                answer = beam.ids[:-1] if stops else beam.ids
                done.append(Hypothesis(answer, beam.logprob / length**length_penalty, "stop" if stops else "length"))
        done = sorted(done, key=lambda one: -one.score)[:num_beams]
        beams = [beam for _, beam in going[:num_beams]]
        reachable = longest if early_stopping == "never" and length_penalty > 0 else length
        full = len(done) == num_beams
        if not beams or (full and (early_stopping is True or not _may_join(beams[0], reachable, length_penalty, done))):
            break
        step.keep([parent for parent, _ in going[:num_beams]], since=0 if length == 1 else len(ids))
        hidden = step.feed([beam.ids[-1:] for beam in beams])
    return done


def _grown(beams: list[_Beam], logits: Tensor, number: int) -> list[tuple[int, _Beam]]:
    """The `number` likeliest one-token growths of all beams, best first, each with the place of its parent."""
    tokens, logs = likeliest(logits, number)
    totals = logs + torch.tensor([beam.logprob for beam in beams], device=logs.device)[:, None]
    best, places = totals.flatten().topk(min(number, totals.numel()))
    found = []
    for place, total in zip(places.tolist(), best.tolist(), strict=True):
        parent, rank = divmod(place, totals.shape[1])
        found.append((parent, _Beam([*beams[parent].ids, int(tokens[parent, rank])], total)))
    return found


def _may_join(beam: _Beam, length: int, length_penalty: float, done: list[Hypothesis]) -> bool:
    return beam.logprob / length**length_penalty > done[-1].score
