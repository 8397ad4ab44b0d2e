"""Penalties for what was said already: kept from step to step, and touching only the logits that change."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from danlu.ops.sampling import penalise_frequency, penalise_repetition

if TYPE_CHECKING:
    from danlu.generate.choose import Row

__all__ = ["History"]


class _Past:
    """How often a row generated each token; what only its prompt has counts 0. It is kept while rows come and go."""

    def __init__(self, row: "Row") -> None:
        self.row, self.counted = row, 0
        self.times = dict.fromkeys(row.ids[: row.prompt_tokens], 0)

    def set_back(self) -> bool:
        """Tokens that were counted are gone."""
        return self.row.generated < self.counted

    def news(self) -> list[int]:
        """Count the tokens since the last call, and tell which they are."""
        new = self.row.ids[self.row.prompt_tokens + self.counted :]
        self.counted += len(new)
        for token in new:
            self.times[token] = self.times.get(token, 0) + 1
        return new


class History:
    """What the rows that penalise have said, as pairs (row, token): the few logits that change. It grows by the step."""

    def __init__(self, rows: "Sequence[Row]", device: torch.device, before: "History | None") -> None:
        self.device = device
        known = {id(past.row): past for past in before.pasts if past and not past.set_back()} if before else {}
        self.pasts = [known.get(id(row)) or _Past(row) if row.penalised else None for row in rows]
        pairs = [(at, token) for at, past in enumerate(self.pasts) if past for token in past.times]
        self.places = {pair: place for place, pair in enumerate(pairs)}
        self.at, self.token = torch.tensor(pairs, dtype=torch.long, device=device).view(-1, 2).unbind(1)
        self.times = torch.tensor([float(self._times(pair)) for pair in pairs], device=device)
        self.penalties = [
            torch.tensor([float(getattr(row.params, f"{kind}_penalty")) for row in rows], device=device)
            for kind in ("repetition", "presence", "frequency")
        ]

    def _times(self, pair: tuple[int, int]) -> int:
        past = self.pasts[pair[0]]
        assert past is not None
        return past.times[pair[1]]

    def set_back(self) -> bool:
        """Some row was: what is counted is to be made anew."""
        return any(past is not None and past.set_back() for past in self.pasts)

    def penalise(self, logits: Tensor) -> None:
        """Change [R, V] in place."""
        self._catch_up()
        repetition, presence, frequency = (penalty[self.at] for penalty in self.penalties)
        said = logits[self.at, self.token][:, None]
        said = penalise_repetition(said, torch.ones_like(said, dtype=torch.bool), repetition)
        logits[self.at, self.token] = penalise_frequency(said, self.times[:, None], presence, frequency)[:, 0]

    def _catch_up(self) -> None:
        """Count what was generated since."""
        told = {(at, token) for at, past in enumerate(self.pasts) if past for token in past.news()}
        new = [pair for pair in told if pair not in self.places]
        if new:
            self.places.update(zip(new, range(len(self.places), len(self.places) + len(new)), strict=True))
            at, token = torch.tensor(new, device=self.device).unbind(1)
            self.at, self.token = torch.cat([self.at, at]), torch.cat([self.token, token])
            self.times = torch.cat([self.times, torch.zeros(len(new), device=self.device)])
        if told:
            places = torch.tensor([self.places[pair] for pair in told], device=self.device)
            self.times[places] = torch.tensor([float(self._times(pair)) for pair in told], device=self.device)
