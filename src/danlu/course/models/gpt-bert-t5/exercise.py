"""Exercise: BERT's masking and T5's way back. 练习：BERT 的遮盖，以及 T5 的还原。"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Masked(NamedTuple):
    """What the model reads, and what it has to say where: both int64 [N]."""

    ids: np.ndarray
    labels: np.ndarray


def mask_words(
    ids: np.ndarray,
    starts: np.ndarray,
    maskable: np.ndarray,
    rate: float,
    mask_id: int,
    ordinary: np.ndarray,
    random: np.random.Generator,
) -> Masked:
    """Choose each word with probability `rate`; of its tokens hide 80 %, replace 10 % by any other, leave 10 %.

    Whether a word is chosen is decided once, what becomes of each of its tokens one by one.

    ids: int64 [N], one text after another; starts: bool [N], where a word begins; maskable: bool [N], what may be
    chosen at all; ordinary: int64, the ids to replace by. Labels are the ids that were there, and -100 where nothing
    is to be guessed. A start may be missing at the very beginning: what stands before the first is a word, too.
    """
    raise NotImplementedError


def restore(source: Sequence[int], target: Sequence[int], sentinels: Sequence[int]) -> list[int]:
    """T5's way back: the source with each sentinel replaced by what follows it in the target.

    source: a b <0> e <1>, target: <0> c d <1> f <2>, result: a b c d e f. A sentinel that the target does not name,
    or leaves empty, stays where it is.
    """
    raise NotImplementedError
