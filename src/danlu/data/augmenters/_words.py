"""Texts as pieces whose concatenation is the text again; which of them are words, and how common those are.

Each run of a script is treated by its own rules, so a text may mix Chinese and English.
"""

import re
from functools import cache
from typing import Any

from danlu.core.errors import MissingExtraError

HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_RUNS = re.compile(rf"[{HAN}]+|[^\W\d_{HAN}]+(?:['’-][^\W\d_{HAN}]+)*|\s+|.", re.DOTALL)
_HAN_RUN = re.compile(rf"[{HAN}]+")


def pieces(text: str) -> list[str]:
    """Words, spaces and marks in order; Chinese is segmented. Joined they are the text."""
    parts: list[str] = []
    for run in _RUNS.findall(text):
        parts += jieba().cut(run) if is_han(run) else [run]
    return parts


def tagged(text: str) -> list[tuple[str, str]]:
    """`pieces` with a part of speech for the Chinese ones ('n', 'v', 'a', ...), '' for the others."""
    parts: list[tuple[str, str]] = []
    for run in _RUNS.findall(text):
        parts += jieba().tag(run) if is_han(run) else [(run, "")]
    return parts


def word_places(parts: list[str]) -> list[int]:
    """Where in `parts` the words stand."""
    return [place for place, part in enumerate(parts) if is_word(part)]


def is_han(part: str) -> bool:
    """Whether it consists of Chinese characters."""
    return _HAN_RUN.fullmatch(part) is not None


def is_word(part: str) -> bool:
    """Whether it consists of letters or Chinese characters rather than spaces, digits and marks."""
    return part[:1].isalpha()


def frequency(word: str) -> int:
    """How often a Chinese word (or character) stands in the corpus behind the segmenter's dictionary; 0 if unknown."""
    return jieba().suggest_freq(word) if jieba().has_word(word) else 0


def how_many(share: float, size: int) -> int:
    """EDA's n = max(1, alpha l): how many of `size` units to change."""
    return min(size, max(1, round(share * size)))


@cache
def jieba() -> Any:
    try:
        from rjieba import Jieba
    except ImportError:
        raise MissingExtraError("rjieba", "data") from None
    return Jieba()
