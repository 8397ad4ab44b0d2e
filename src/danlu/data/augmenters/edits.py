"""Easy data augmentation by edits: words swapped, deleted, inserted.

Wei & Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks" (§2).
A word is what stands between spaces and marks in English, a segmented word (or a character) in Chinese. Spaces and
marks stay where they are, but for those that a deleted or inserted word takes along.
"""

from collections.abc import Sequence
from random import Random
from typing import Literal

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.data.augmenters._words import how_many, is_han, pieces, word_places
from danlu.data.augmenters.synonyms import Synonyms

__all__ = ["Config", "Edits", "delete", "insert", "swap"]


class Config(Base):
    """EDA's alpha for each operation, and what a Chinese word is."""

    swap: float = doc(0.1, "n swaps for a text of l words: n = swap x l, at least 1", "交换次数 = swap × 词数，至少一次", gt=0, le=1)  # fmt: skip
    delete: float = doc(0.1, "probability that a word is deleted", "每个词被删除的概率", gt=0, lt=1)
    insert: float = doc(0.1, "n inserted synonyms for a text of l words: n = insert x l, at least 1", "插入的同义词数 = insert × 词数，至少一个", gt=0, le=1)  # fmt: skip
    unit: Literal["words", "characters"] = doc("words", "what is moved in Chinese", "中文以什么为单位")


class Edits:
    """One of EDA's operations; `insert` needs a source of synonyms."""

    kind: Literal["text"] = "text"
    tries = 3

    def __init__(
        self, method: Literal["swap", "delete", "insert"], config: Config, synonyms: Synonyms | None = None
    ) -> None:
        if method == "insert" and synonyms is None:
            raise ValueError("'insert' inserts synonyms: give a source of them")
        self._method, self._config, self._synonyms = method, config, synonyms

    def augment(self, contents: Sequence[str], randoms: Sequence[Random]) -> list[str]:
        """One text for each."""
        return [self._edit(text, random) for text, random in zip(contents, randoms, strict=True)]

    def _edit(self, text: str, random: Random) -> str:
        share, parts = getattr(self._config, self._method), pieces(text)
        if self._config.unit == "characters":
            parts = [unit for part in parts for unit in (part if is_han(part) else [part])]
        places = word_places(parts)
        if self._method == "swap":
            return "".join(swap(parts, places, how_many(share, len(places)), random))
        if self._method == "delete":
            return "".join(delete(parts, places, share, random))
        assert self._synonyms is not None
        words = self._synonyms.some(text, how_many(share, len(places)), random)
        return "".join(insert(parts, words, random))


# lesson: edits
def swap(parts: Sequence[str], places: Sequence[int], times: int, random: Random) -> list[str]:
    """EDA's RS: `times` times, two different words of those at `places` change places."""
    parts = list(parts)
    for _ in range(times if len(places) > 1 else 0):
        one, other = random.sample(places, 2)
        parts[one], parts[other] = parts[other], parts[one]
    return parts


def delete(parts: Sequence[str], places: Sequence[int], share: float, random: Random) -> list[str]:
    """EDA's RD: each word at `places` goes with probability `share`, and the space before it; one of them always stays."""
    gone = {place for place in places if random.random() < share}
    if gone and len(gone) == len(places):
        gone.remove(random.choice(places))
    for place in sorted(gone):
        around = place - 1 if place else place + 1
        if 0 <= around < len(parts) and parts[around].isspace():
            gone.add(around)
    return [part for place, part in enumerate(parts) if place not in gone]


def insert(parts: Sequence[str], words: Sequence[str], random: Random) -> list[str]:
    """EDA's RI: each of `words` (synonyms of words of the text) gets before some word of the text."""
    parts = list(parts)
    for word in words:
        place = random.choice(word_places(parts))
        parts[place:place] = [word] if is_han(word) else [word, " "]
    return parts


# end lesson
