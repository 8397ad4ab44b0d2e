"""What an encoder-decoder offers beyond a language model: a source that is read once, and a cache that keeps it."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from danlu.models.base import Cache, KVCache, LanguageModel

__all__ = ["EncoderDecoder", "Source", "SourceCache"]


class Source(NamedTuple):
    """What a decoder sees of the sources it answers."""

    keys: list[tuple[Tensor, Tensor]]  # of each decoder layer: keys and values [B, H, S, d]
    real: Tensor  # bool [B, S]: False where padded


class SourceCache(KVCache):
    """Keys and values of the tokens already written, beside those of the source, computed once a sentence."""

    source: Source

    def begin(self, source: Source) -> None:
        """Answer `source` from here on; it has as many rows as the cache."""
        self.source = source

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from where row `rows[i]` stood: for beams, and, with fewer rows, to drop those that are done.

        rows: int64 [R]; the cache has R rows afterwards.
        """
        self.keys, self.values = self.keys.index_select(1, rows), self.values.index_select(1, rows)
        keys = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.source.keys]
        self.source = Source(keys, self.source.real.index_select(0, rows))


class EncoderDecoder(LanguageModel):
    """Reads a source with an encoder that looks both ways; writes with a decoder that also looks at the source.

    A batch has `input_ids` [B, S] and, where rows are padded, `attention_mask` [B, S] (0 = padding); and
    `decoder_input_ids` [B, T], or `labels` [B, T] to be shifted right into them. Packed rows have `segment_ids`
    [B, S] and `decoder_segment_ids` [B, T] instead (1, 2, ... in each row, 0 = padding): the decoder of a segment
    sees the source of that segment alone. Hidden states are the decoder's, [B, T, D], and stand where the labels do.
    """

    @property
    @abstractmethod
    def start_id(self) -> int:
        """The token that the decoder begins with."""

    @abstractmethod
    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The encoder's hidden states of `input_ids`, [B, S, D]."""

    @abstractmethod
    def read(self, batch: Mapping[str, Tensor]) -> Source:
        """Encode, and make every decoder layer's keys and values of it: what `SourceCache.begin` takes."""

    @abstractmethod
    def hidden(self, batch: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        """[B, T, D]. With a cache that has begun, `decoder_input_ids` are the new tokens alone, where it was told
        to `select` them, and the source is not looked at again."""

    @abstractmethod
    def new_cache(self, rows: int, length: int) -> SourceCache:
        """An empty cache for `rows` answers of at most `length` tokens."""

    def shift_right(self, labels: Tensor) -> Tensor:
        """What the decoder reads to predict `labels` [B, T]: the same, one place later, behind `start_id`."""
        shifted = torch.cat((labels.new_full((labels.shape[0], 1), self.start_id), labels[:, :-1]), dim=1)
        return shifted.masked_fill(shifted < 0, self.start_id)  # a label without loss stands for padding
