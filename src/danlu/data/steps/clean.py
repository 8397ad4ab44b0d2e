"""Step `clean`: Unicode form, control characters, white space; a text with too little left is dropped as 'empty'."""

from collections import Counter

from danlu.data.clean import CleanConfig, clean_text
from danlu.data.sources import Row
from danlu.data.step import Drop, content
from danlu.data.steps._text import emptied, rewrite

__all__ = ["Config", "Step"]

Config = CleanConfig


class Step:
    """`clean_text` on the text or on each message; `min_characters` holds for the whole row."""

    def __init__(self, config: CleanConfig) -> None:
        self.least = config.min_characters
        self.config = config.model_copy(update={"min_characters": 0})

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        cleaned = rewrite(row, lambda text: clean_text(text, self.config))
        if emptied(row, cleaned) or len(content(cleaned)) < self.least:
            return Drop("empty")
        if cleaned is not row:
            tally["changed"] += 1
        return cleaned
