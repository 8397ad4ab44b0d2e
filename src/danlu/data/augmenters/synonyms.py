"""Synonym replacement: Chinese words out of Cilin, English ones out of WordNet, the common ones first.

Zhang, Zhao & LeCun 2015, "Character-level convolutional networks for text classification" (§2.4, a thesaurus by
frequency); Wei & Zou 2019, "EDA" (SR: n = max(1, alpha l) words). Cilin is 梅家驹 1983, 《同义词词林》, in its extended
form: groups that end in '=' are synonyms; those with '#' are only of a kind, those with '@' stand alone.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import Literal

from danlu.core.assets import asset_path
from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.augmenters._wordnet import WordNet
from danlu.data.augmenters._words import frequency, how_many, is_han, is_word, tagged

__all__ = ["Cilin", "Config", "Synonyms"]

Weighted = list[tuple[str, int]]  # synonyms and how common they are

_CILIN = "同义词.txt"
# Cilin's classes of things, qualities and deeds, by the first letter of jieba's part of speech.
_CLASSES = {"n": "ABCD", "a": "E", "v": "FGHIJ", "d": "EK", "t": "C", "s": "C", "f": "C", "l": "EFGHIJ", "i": "EFGHIJ"}


class Config(Base):
    """How much is replaced, and by what."""

    share: float = doc(0.1, "share of the words to replace", "替换多大比例的词", gt=0, le=1)
    rarity: float = doc(
        0.05, "a synonym is at least so often used as its word", "同义词的词频至少是原词的多少倍", ge=0, le=1
    )
    senses: int = doc(3, "words of more meanings are left alone", "义项多于此数的词不替换", ge=1)
    cilin: Input | None = doc(None, "folder or file of Cilin; default: the asset", "词林所在位置；默认用资料 cilin")
    wordnet: Input | None = doc(
        None, "folder of WordNet's index and data files; default: the asset", "WordNet 所在文件夹；默认用资料 wordnet"
    )
    corpus: Input | None = doc(
        None,
        "folder of English texts with Brown's tags, to count words; default: the asset brown",
        "用于统计英文词频的标注语料（布朗语料格式）；默认用资料 brown",
    )


class Cilin:
    """Synonyms of Chinese words."""

    def __init__(self, path: Path, rarity: float = 0.05, senses: int = 3) -> None:
        """Read `path`, the file or the folder that holds it. Raises DataError for anything else."""
        file = path / _CILIN if path.is_dir() else path
        self._rarity, self._senses = rarity, senses
        self._groups: dict[str, list[tuple[str, list[str]]]] = {}
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                tr(f"cannot read Cilin at {file}: {error}", f"无法读取词林 {file}：{error}"), "danlu pull cilin"
            ) from None
        for line in lines:
            code, *words = line.split()
            if code.endswith("="):
                for word in words:
                    self._groups.setdefault(word, []).append((code[0], words))

    # lesson: synonyms
    def of(self, word: str, tag: str = "") -> Weighted:
        """Synonyms of `word` as the part of speech `tag` (any, if unknown), and how common they are.

        A character alone means too many things, and so does a word of many groups: they have none. An idiom of
        four characters does not stand well where a word of two stood.
        """
        kinds = _CLASSES.get(tag[:1])
        groups = [words for letter, words in self._groups.get(word, []) if kinds is None or letter in kinds]
        if len(word) < 2 or len(groups) > self._senses:
            return []
        least = max(1, self._rarity * frequency(word))
        others = dict.fromkeys(other for group in groups for other in group if other != word)
        others = [other for other in others if len(other) > 1 and abs(len(other) - len(word)) <= 1]
        return [(other, count) for other in others if (count := frequency(other)) >= least]

    # end lesson


class Synonyms:
    """Replaces a share of the words that have synonyms; common synonyms are drawn more often."""

    kind: Literal["text"] = "text"
    tries = 3

    def __init__(self, config: Config) -> None:
        self._config = config

    @cached_property
    def _cilin(self) -> Cilin:
        return Cilin(self._config.cilin or asset_path("cilin"), self._config.rarity, self._config.senses)

    @cached_property
    def _wordnet(self) -> WordNet:
        return WordNet(
            self._config.wordnet or asset_path("wordnet"),
            self._config.corpus or asset_path("brown"),
            self._config.rarity,
        )

    @lru_cache(maxsize=65536)  # noqa: B019  (lives as long as the one augmenter of a process)
    def of(self, word: str, tag: str = "") -> Weighted:
        """Synonyms of one word of either language."""
        return self._cilin.of(word, tag) if is_han(word) else self._wordnet.of(word)

    def augment(self, contents: Sequence[str], randoms: Sequence[Random]) -> list[str]:
        """One text for each."""
        return [self.replace(text, random) for text, random in zip(contents, randoms, strict=True)]

    def replace(self, text: str, random: Random) -> str:
        """The text with max(1, share x its words) words replaced, fewer if fewer have a synonym."""
        parts = tagged(text)
        places = [place for place, (part, _) in enumerate(parts) if is_word(part)]
        words = [part for part, _ in parts]
        wanted = how_many(self._config.share, len(places))
        for place in random.sample(places, len(places)):
            if not wanted:
                break
            if place and words[place][:1].isupper():
                continue  # a name
            if found := self.of(*parts[place]):
                words[place] = draw(found, random)
                wanted -= 1
                _agree(words, place)
        return "".join(words)

    def some(self, text: str, times: int, random: Random) -> list[str]:
        """`times` synonyms of words of the text, of different words as far as there are; none when no word has any."""
        parts, found = [part for part in tagged(text) if is_word(part[0])], []
        for part in random.sample(parts, len(parts)):
            if len(found) == times:
                break
            if synonyms := self.of(*part):
                found.append(synonyms)
        return [draw(found[number % len(found)], random) for number in range(times)] if found else []


def draw(found: Weighted, random: Random) -> str:
    """One of them, by the square root of how common it is: the common ones more often, not always."""
    return random.choices([word for word, _ in found], [count**0.5 for _, count in found])[0]


def _agree(words: list[str], place: int) -> None:
    """'a' or 'an' before the word at `place`, if one stands there."""
    if place >= 2 and words[place - 1].isspace() and words[place - 2].lower() in ("a", "an"):
        article = "an" if words[place][0].lower() in "aeiou" else "a"
        words[place - 2] = article.capitalize() if words[place - 2][0].isupper() else article
