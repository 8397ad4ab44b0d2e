"""Byte-pair encoding by hand: the learner's trainer, encoder and decoder, equal to the `tokenizers` library.

Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with Subword Units": start from
single symbols, and again and again join the pair that stands side by side most often. Here the symbols are the
256 bytes of UTF-8 (Radford et al., 2019, GPT-2), so that every text in every script can be written.

The practitioner's trainer is `danlu.tokenizer.training` (compiled code); this one learns the same
merges on the same corpus, ties included, and `tests/tokenizer/test_bpe.py` holds it to that.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.tokenizer.pretokenize import split_words

__all__ = ["BytePairEncoding", "byte_alphabet", "count_words", "learn_merges", "merge_pair"]

Pair = tuple[int, int]

# Bytes that are a visible character of Latin-1 stand for themselves.
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]


def byte_alphabet() -> dict[int, str]:
    """For each byte a visible character, in the order in which byte tokens are numbered.

    GPT-2's convention, which `tokenizer.json` files follow: a vocabulary is text, so the bytes which would
    print as nothing (controls, the space) borrow characters from U+0100 on; the space becomes 'Ġ'.
    """
    hidden = [byte for byte in range(256) if byte not in _VISIBLE]
    alphabet = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(0x100 + n) for n, byte in enumerate(hidden)}
    return dict(sorted(alphabet.items(), key=lambda item: item[1]))


def count_words(texts: Iterable[str]) -> Counter[bytes]:
    """How often each pre-token (see `pretokenize`) occurs: merges never cross the border of one."""
    counts: Counter[bytes] = Counter()
    for text in texts:
        counts.update(word.encode() for word in split_words(text))
    return counts


# lesson: bpe
def merge_pair(symbols: list[int], pair: Pair, new: int) -> Counter[Pair]:
    """Join every `pair` in `symbols` in place, from left to right; return by how much its neighbours' counts change."""
    changes: Counter[Pair] = Counter()
    at = 0
    while at < len(symbols) - 1:
        if (symbols[at], symbols[at + 1]) == pair:
            symbols[at : at + 2] = [new]
            if at > 0:
                changes[symbols[at - 1], pair[0]] -= 1
                changes[symbols[at - 1], new] += 1
            if at + 1 < len(symbols):
                changes[pair[1], symbols[at + 1]] -= 1
                changes[new, symbols[at + 1]] += 1
        at += 1
    return changes


def learn_merges(words: list[list[int]], counts: list[int], tokens: list[bytes], size: int, least: int) -> list[Pair]:
    """Join the most frequent pair of neighbours until there are `size` tokens or no pair occurs `least` times.

    `words` holds each distinct word as token ids (changed in place) and `counts` how often it occurs; `tokens[id]`
    is what an id stands for, and grows. Of two pairs that are equally frequent the one with smaller ids goes first.
    """
    frequency: Counter[Pair] = Counter()  # of each pair, over the corpus
    found_in: dict[Pair, set[int]] = defaultdict(set)  # the words that hold it
    for index, word in enumerate(words):
        for pair in pairwise(word):
            frequency[pair] += counts[index]
            found_in[pair].add(index)
    queue = [(-frequency[pair], pair, holders) for pair, holders in found_in.items()]
    heapq.heapify(queue)  # the smallest first: the highest frequency, then the smallest ids
    merges: list[Pair] = []

    while queue and len(tokens) < size:
        negative, pair, holders = heapq.heappop(queue)
        if -negative != frequency[pair]:  # other merges took some of its places: back into the queue it goes
            heapq.heappush(queue, (-frequency[pair], pair, holders))
            continue
        if frequency[pair] < max(least, 1):
            break
        new = len(tokens)
        tokens.append(tokens[pair[0]] + tokens[pair[1]])
        merges.append(pair)

        touched: dict[Pair, set[int]] = defaultdict(set)
        for index in holders:
            for neighbour, change in merge_pair(words[index], pair, new).items():
                frequency[neighbour] += change * counts[index]
                touched[neighbour].add(index)
        for neighbour, where in touched.items():
            if new in neighbour and frequency[neighbour] > 0:
                heapq.heappush(queue, (-frequency[neighbour], neighbour, where))
    return merges


# end lesson


class BytePairEncoding:
    """A trained byte-level BPE: text to ids and back.

    `tokens[id]` are the bytes of a token: ids count from 0, the 256 bytes in the order of `byte_alphabet` first.
    `merges` are pairs of tokens, the one learnt first at the front. Raises DataError when a merge uses or makes
    what is no token.
    """

    def __init__(self, tokens: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]]) -> None:
        self.tokens, self.merges = list(tokens), list(merges)
        self._id_of = {token: number for number, token in enumerate(tokens)}
        self._rank = {pair: rank for rank, pair in enumerate(merges)}
        for left, right in merges:
            for part in (left, right, left + right):
                if part not in self._id_of:
                    raise DataError(tr(f"{part!r} of a merge is no token", f"合并规则中的 {part!r} 不是词元"))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, min_frequency: int = 1) -> "BytePairEncoding":
        """Learn a vocabulary of at most `vocab_size` tokens, the 256 bytes included."""
        if vocab_size < 256:
            raise ConfigError(
                tr(
                    f"vocab_size {vocab_size} has no room for the 256 bytes",
                    f"vocab_size {vocab_size} 容不下 256 个字节",
                ),
                tr("give at least 256", "至少为 256"),
            )
        counts = count_words(texts)
        tokens = [bytes([byte]) for byte in byte_alphabet()]
        id_of_byte = {token[0]: number for number, token in enumerate(tokens)}
        words = [[id_of_byte[byte] for byte in word] for word in counts]
        merges = learn_merges(words, list(counts.values()), tokens, vocab_size, min_frequency)
        return cls(tokens, [(tokens[left], tokens[right]) for left, right in merges])

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`: in each word the merge learnt first is applied first."""
        return [self._id_of[part] for word in split_words(text) for part in self._split(word.encode())]

    def _split(self, word: bytes) -> list[bytes]:
        parts = [bytes([byte]) for byte in word]
        while len(parts) > 1:
            pairs = list(pairwise(parts))
            best = min(range(len(pairs)), key=lambda at: self._rank.get(pairs[at], len(self._rank)))
            if pairs[best] not in self._rank:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        return parts

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 (a character cut in two) become U+FFFD."""
        return b"".join(self.tokens[number] for number in ids).decode("utf-8", errors="replace")
