"""Exercise: more rows out of few. 练习：由少量数据生成更多数据。"""

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np


def swap(parts: Sequence[str], places: Sequence[int], times: int, random: Random) -> list[str]:
    """EDA's RS: `times` times, two different words of those at `places` change places.

    parts: words, spaces and marks in order; places: where the words stand. With fewer than two words, nothing changes.
    """
    raise NotImplementedError


def delete(parts: Sequence[str], places: Sequence[int], share: float, random: Random) -> list[str]:
    """EDA's RD: each word at `places` goes with probability `share`, and the space before it; one of them always stays.

    The first word takes the space behind it along.
    """
    raise NotImplementedError


def cutout(image: np.ndarray, y: int, x: int, side: int, fill: int = 0) -> np.ndarray:
    """A square of `side` pixels around (y, x), from y - side // 2 on, is covered; of one that leaves the image, the part within.

    image: uint8 [H, W, C], which stays as it is.
    """
    raise NotImplementedError


def variants(
    contents: Sequence[tuple[Any, ...]], ids: Sequence[str], augmenter: Any, method: str, copies: int, seed: int
) -> list[list[tuple[Any, ...]]]:
    """Up to `copies` results for each content, all different from it and from each other.

    contents: here tuples of one text. `augmenter.augment(texts, randoms)` gives one text for each, drawing chance from
    the text's own random.Random; what is no new one is asked for again, `augmenter.tries` rounds in all. What a row
    gets depends on (`seed`, `method`, id, content) alone, not on the other rows.
    """
    raise NotImplementedError
