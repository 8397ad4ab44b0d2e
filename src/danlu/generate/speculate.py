"""Guesses of what an answer says next, checked many at a time: the same text, sooner."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch

from danlu.generate.choose import Chooser, Row
from danlu.generate.scheduler import Request
from danlu.models.base import LanguageModel
from danlu.models.paged import PagedCache, Span

__all__ = ["DraftModel", "Guesser", "Lookup"]

_READ_AT_ONCE = 512  # tokens of a prompt

# How a guess is checked (danlu.generate.engine): the model draws its own token at each place, with the random number that
# belongs to that place, and guesses are right for as long as they are what it drew. So text and distribution are
# those without guessing, by construction; Leviathan et al. 2023 accept more often where a draft is sampled, but change
# which text a seed gives.


class Guesser(Protocol):
    """Proposes tokens."""

    def propose(self, requests: Sequence[Request], most: int) -> list[list[int]]:
        """For each request, up to `most` tokens that may follow `ids`."""
        ...

    def forget(self, request: Request) -> None:
        """It ended, or begins again."""
        ...


# lesson: lookup
class Lookup:
    """Prompt look-up (Saxena 2023): what followed the last few tokens the time before. Needs no second model.

    Answers that quote their prompt, as summaries, corrections and code do, repeat long runs of it.
    """

    def __init__(self, longest: int = 3) -> None:
        self.longest = longest  # tokens that have to match, at first; then fewer
        self._seen: dict[int, tuple[int, dict[tuple[int, ...], int]]] = {}

    def propose(self, requests: Sequence[Request], most: int) -> list[list[int]]:
        return [self._continuation(request, most) for request in requests]

    def forget(self, request: Request) -> None:
        self._seen.pop(request.number, None)

    def _continuation(self, request: Request, most: int) -> list[int]:
        """What came after the latest earlier place where the last tokens stand."""
        ids = request.ids
        known, places = self._seen.get(request.number, (1, {}))
        for end in range(known, len(ids)):  # where each run of tokens ends; the run that ends now is not indexed yet
            for size in range(1, min(self.longest, end) + 1):
                places[tuple(ids[end - size : end])] = end
        self._seen[request.number] = (max(known, len(ids)), places)
        for size in range(min(self.longest, len(ids)), 0, -1):
            end = places.get(tuple(ids[-size:]))
            if end is not None:
                return ids[end : end + most]
        return []


# end lesson


class DraftModel:
    """A small model of the same vocabulary writes ahead, with the random numbers that the large one is about to use.

    It keeps its own keys and values, in pages of the same numbers as the large model's. Where both draw alike from one
    random number they agree, so also sampled answers go faster; guessing uses no number up.
    """

    def __init__(self, model: LanguageModel, cache: PagedCache) -> None:
        self.model, self.cache = model.eval(), cache
        self._computed: dict[int, int] = {}
        self._choosers = Chooser()

    def forget(self, request: Request) -> None:
        self._computed.pop(request.number, None)

    @torch.inference_mode()
    def propose(self, requests: Sequence[Request], most: int) -> list[list[int]]:
        """Each `most` tokens, where the request's pages have room for them; none for a prompt still to be read."""
        late = [
            request for request in requests if len(request.ids) - self._computed.get(request.number, 0) > _READ_AT_ONCE
        ]
        if late:  # as the large model does: in pieces
            self._read(late[0])
            going = iter(self.propose([request for request in requests if request not in late], most))
            return [[] if request in late else next(going) for request in requests]
        if not requests:
            return []
        rows = [_ahead(request.row) for request in requests]
        starts = [min(self._computed.get(request.number, 0), len(request.ids) - 1) for request in requests]
        guesses: list[list[int]] = [[] for _ in requests]
        for _ in range(most):
            spans = [
                Span(start, len(row.ids) - start, request.pages)
                for start, row, request in zip(starts, rows, requests, strict=True)
            ]
            ids = [token for span, row in zip(spans, rows, strict=True) for token in row.ids[span.start :]]
            positions = self.cache.select(spans)
            batch = {"input_ids": torch.tensor([ids], device=positions.device), "position_ids": positions}
            last = torch.tensor([span.count for span in spans]).cumsum(0) - 1
            logits = self.model.logits(self.model.hidden(batch, self.cache)[0, last.to(positions.device)]).float()
            for row, guess, token in zip(
                rows, guesses, self._choosers.choose(logits, rows).tokens.tolist(), strict=True
            ):
                row.ids.append(token)
                guess.append(token)
            starts = [span.start + span.count for span in spans]
        for request in requests:
            self._computed[request.number] = len(request.ids)  # what guesses left behind is computed again
        return guesses

    def _read(self, request: Request) -> None:
        """The next piece of a long prompt."""
        start = self._computed.get(request.number, 0)
        end = start + _READ_AT_ONCE
        positions = self.cache.select([Span(start, end - start, request.pages)])
        ids = torch.tensor([request.ids[start:end]], device=positions.device)
        self.model.hidden({"input_ids": ids, "position_ids": positions}, self.cache)
        self._computed[request.number] = end


def _ahead(row: Row) -> Row:
    """A copy that may run ahead: its own ids, its own random numbers from here on."""
    generator = torch.Generator()
    generator.set_state(row.generator.get_state())
    return replace(row, ids=list(row.ids), generator=generator)
