"""Sequences of one length that grow together, with a cache: what searches over answers to one prompt step with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from danlu.core.errors import ContextError
from danlu.core.i18n import tr
from danlu.models.base import LanguageModel
from danlu.models.seq2seq import EncoderDecoder, Source, SourceCache

__all__ = ["Lockstep", "room"]


def room(model: LanguageModel, ids: Sequence[int], max_tokens: int) -> int:
    """Tokens that may follow the prompt `ids`. Raises ContextError where there is no prompt, or no room for an answer."""
    if not ids or len(ids) >= model.context:
        raise ContextError(
            tr(
                f"the prompt has {len(ids)} tokens, the model's context {model.context}",
                f"提示词有 {len(ids)} 个 token,而模型的上下文为 {model.context}",
            ),
            tr(f"give from 1 to {model.context - 1}", f"请给出 1 到 {model.context - 1} 个"),
        )
    return min(max_tokens, model.context - len(ids))


class Lockstep:
    """At most `rows` sequences of at most `length` tokens. It begins as one, that of the prompt; `keep` makes it many.

    With an encoder-decoder all of them answer `source`, the ids that its encoder reads.
    """

    def __init__(self, model: LanguageModel, rows: int, length: int, source: Sequence[int] = ()) -> None:
        self.model, self.device = model, model.device
        self._cache = model.new_cache(rows, length)
        self.rows, self.length = 1, 0  # how many there are, and tokens that each holds
        self._reads, self._source = "input_ids", None
        if isinstance(model, EncoderDecoder):
            self._reads = "decoder_input_ids"
            self._source = model.read({"input_ids": torch.tensor([source], device=self.device)})
            self._begin(self._source)

    def feed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Append T tokens to each of the R rows; their hidden states [R, T, D]."""
        positions = torch.arange(self.length, self.length + len(ids[0]), device=self.device).expand(len(ids), -1)
        self._cache.select(0, positions)
        hidden = self.model.hidden(
            {self._reads: torch.tensor(ids, device=self.device), "position_ids": positions}, self._cache
        )
        self.length += len(ids[0])
        return hidden

    def keep(self, parents: Sequence[int], since: int = 0) -> None:
        """Row i becomes a copy of what was row `parents[i]`; since: up to that token all rows are alike already."""
        of, rows, new = torch.tensor(parents, device=self.device), len(parents), slice(since, self.length)
        for kept in (self._cache.keys, self._cache.values):
            kept[:, :rows, :, new] = kept[:, of, :, new]
        self.rows = rows
        if self._source is not None:
            self._begin(self._source)

    def _begin(self, source: Source) -> None:
        """Every row looks at the one source."""
        assert isinstance(self._cache, SourceCache)
        keys = [(k.expand(self.rows, -1, -1, -1), v.expand(self.rows, -1, -1, -1)) for k, v in source.keys]
        self._cache.begin(Source(keys, source.real.expand(self.rows, -1)))
