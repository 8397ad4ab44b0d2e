"""Exercise: how much of a text repeats itself. 练习：文本有多少是重复的。"""

from collections.abc import Iterable


def repeated_shares(units: str | list[str], sizes: Iterable[int]) -> dict[int, float]:
    """For each n, the share of all characters that lie within n-grams that come more than once.

    An n-gram is a run of n units: of the words of a list or, since Chinese does not part its words, of the characters of a
    string. A character within several such n-grams counts once; every occurrence counts, the first too. Blanks between
    words are not counted. 0 for a text without units.
    """
    raise NotImplementedError


def top_shares(units: str | list[str], limits: dict[int, float]) -> dict[int, float]:
    """For each n of `limits`, the share of all characters within the most frequent n-gram, where it is beyond the limit.

    Of n-grams equally frequent the one with most characters counts, then the first. A character counts once, also where
    occurrences overlap. An n-gram that comes only once is no repetition. An n within its limit may be left out.
    """
    raise NotImplementedError


def duplicate_share(parts: list[str]) -> tuple[float, float]:
    """Share of the parts (lines, paragraphs) that came before, and the share of characters within them; (0, 0) of none."""
    raise NotImplementedError
