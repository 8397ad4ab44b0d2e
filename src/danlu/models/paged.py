"""Keys and values in pages: memory is given out 16 tokens at a time, and sequences can share pages."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from danlu.ops.attention import additive, attention, cache_mask
from danlu.ops.packing import large_pages

__all__ = ["PAGE", "PagedCache", "Span"]

PAGE = 16  # tokens of a page


class Span(NamedTuple):
    """The tokens of one sequence in a pass: positions `start` to `start + count`, and the pages that hold all up to there."""

    start: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  (tuple's count() is not missed)
    pages: Sequence[int]


# lesson: paged-cache
class PagedCache:
    """A `Cache` (danlu.models.base) of `pages` pages of 16 tokens (Kwon et al. 2023, PagedAttention).

    A sequence has a table: page number i of it holds its tokens 16 i to 16 i + 15. Which pages belong to whom is not
    known here (see danlu.generate.pages). `select` names the sequences of the next pass, whose tokens then come end to
    end in one row: a pass has no padding, whatever the lengths.

    keys: [layers, pages, heads, head_dim, 16]; values: [layers, pages, heads, 16, head_dim]. The 16 keys of a page lie
    side by side for each dimension, which is how the kernels compare one query with 16 of them at once.
    """

    def __init__(
        self, layers: int, pages: int, heads: int, head_dim: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        shapes = (layers, pages, heads, head_dim, PAGE), (layers, pages, heads, PAGE, head_dim)
        self.keys, self.values = (_zeros(shape, dtype, torch.device(device)) for shape in shapes)
        self.spans: list[Span] = []

    @property
    def bytes(self) -> int:
        return 2 * self.keys.numel() * self.keys.element_size()

    def select(self, spans: Sequence[Span]) -> Tensor:
        """The next pass holds these. Returns its `position_ids` [1, sum of counts]."""
        self.spans = list(spans)
        positions = [place for span in spans for place in range(span.start, span.start + span.count)]
        self.positions = torch.tensor(positions, device=self.keys.device)
        self._places: tuple[Tensor, Tensor] | None = None
        return self.positions[None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
        """See `Cache`. q: [1, H, N, d], k and v: [1, G, N, d] of the selected tokens, end to end."""
        if self._places is None:  # the same for all layers
            pages = [span.pages[at // PAGE] for span in self.spans for at in range(span.start, span.start + span.count)]
            self._places = torch.tensor(pages, device=self.keys.device), self.positions % PAGE
            self._groups = self._grouped()
        pages, slots = self._places
        most = torch.finfo(self.keys.dtype).max  # infinity would outlive its request in a reused page
        self.keys[layer][pages, :, :, slots] = k[0].transpose(0, 1).clamp(-most, most).to(self.keys.dtype)
        self.values[layer][pages, :, slots] = v[0].transpose(0, 1).clamp(-most, most).to(self.values.dtype)
        mixed = torch.empty_like(q)
        for rows, tables in self._groups:
            keys = self.keys[layer][tables].permute(0, 2, 1, 4, 3).flatten(2, 3)  # [n, G, pages · 16, d]
            values = self.values[layer][tables].transpose(1, 2).flatten(2, 3)
            mask = additive(cache_mask(self.positions[rows], keys.shape[2], window), q.dtype)
            own = q[0].transpose(0, 1)[rows].transpose(1, 2)  # [n, H, t, d]
            told = attention(own, keys.to(q.dtype), values.to(q.dtype), mask)
            mixed[0, :, rows.flatten()] = told.transpose(1, 2).flatten(0, 1).transpose(0, 1)
        return mixed

    def _grouped(self) -> list[tuple[Tensor, Tensor]]:
        """Spans that are computed together: which rows of the pass, int64 [n, t], and their tables [n, pages].

        Single tokens go together when their tables are of like length (the next power of two); a longer span goes alone.
        """
        groups: dict[tuple[int, int], list[tuple[int, Sequence[int]]]] = {}
        at = 0
        for number, span in enumerate(self.spans):
            used = -(-(span.start + span.count) // PAGE)
            key = (0, (used - 1).bit_length()) if span.count == 1 else (1, number)
            groups.setdefault(key, []).append((at, span.pages[:used]))
            at += span.count
        found = []
        for (several, number), members in groups.items():
            count = self.spans[number].count if several else 1
            width = max(len(pages) for _, pages in members)
            rows = torch.tensor([[first + t for t in range(count)] for first, _ in members])
            tables = torch.tensor([[*pages, *[0] * (width - len(pages))] for _, pages in members])
            found.append((rows.to(self.keys.device), tables.to(self.keys.device)))
        return found


# end lesson


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """On a CPU in large pages: a sequence's pages lie apart, and each would be an address to look up."""
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or not size:
        return torch.zeros(shape, dtype=dtype, device=device)
    return large_pages(size).view(dtype).view(shape)
