"""Exercise: byte-pair encoding, learning and applying it. 练习：字节对编码的学习与使用。"""

from collections.abc import Iterable, Sequence

from danlu.tokenizer.pretokenize import split_words

Pair = tuple[int, int]


def merge_pair(symbols: list[int], pair: Pair, new: int) -> None:
    """Replace every `pair` of neighbours in `symbols` by `new`, in place, from left to right.

    [1, 1, 1] with the pair (1, 1) becomes [new, 1].
    """
    raise NotImplementedError


def learn_merges(words: list[list[int]], counts: list[int], tokens: list[bytes], size: int, least: int) -> list[Pair]:
    """Join the most frequent pair of neighbours until there are `size` tokens or no pair occurs `least` times.

    `words` holds each distinct word as token ids (change it in place) and `counts` how often it occurs; `tokens[id]`
    is what an id stands for: append to it. Of two pairs that are equally frequent the one with smaller ids goes
    first. Counting all pairs anew for each merge is slow and good enough here. Returns the pairs in order.
    """
    raise NotImplementedError


class BytePairEncoding:
    """A trained byte-level BPE: `tokens[id]` are the bytes of a token, `merges` pairs of tokens, the first learnt first."""

    def __init__(self, tokens: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]]) -> None:
        self.tokens = list(tokens)
        self._id_of = {token: number for number, token in enumerate(tokens)}
        self._rank = {pair: rank for rank, pair in enumerate(merges)}

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, word by word."""
        return [self._id_of[part] for word in split_words(text) for part in self._split(word.encode())]

    def _split(self, word: bytes) -> list[bytes]:
        """The tokens of one word: begin with single bytes; of the pairs that are merges, join the first learnt, again
        and again, until no pair of neighbours is a merge."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 (a character cut in two) become U+FFFD."""
        raise NotImplementedError
