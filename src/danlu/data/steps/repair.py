"""Step `repair`: undoes mojibake where the bytes can be read back for certain, and drops what is beyond repair.

The detectors are in `danlu.data.mojibake`. What was lost is U+FFFD in the text; with more of it than `max_lost` a row is
dropped as 'garbled'.
"""

from collections import Counter
from collections.abc import Callable

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.data.mojibake import repair_big5, repair_gbk, repair_utf8_as_gbk, repair_with_ftfy
from danlu.data.sources import Row
from danlu.data.step import Drop, content
from danlu.data.steps._text import rewrite

__all__ = ["Config", "Step"]


class Config(Base):
    """Which misreadings are looked for."""

    latin: bool = doc(
        True,
        "UTF-8 read as Latin-1, Windows-1252 and the like (ftfy)",
        "被当作 Latin-1 等单字节编码读取的 UTF-8（ftfy）",
    )
    chinese: bool = doc(
        True,
        "UTF-8 read as GBK, GBK read as Latin-1, Big5 read as GBK",
        "被当作 GBK 读取的 UTF-8、被当作 Latin-1 读取的 GBK、被当作 GBK 读取的 Big5",
    )
    max_lost: float = doc(
        0.05,
        "drop texts with a larger share of lost characters (U+FFFD)",
        "丢失字符（U+FFFD）占比更高的文本丢弃",
        ge=0,
        le=1,
    )


class Step:
    """Repairs the text or each message; `tally` counts the repairs by their kind."""

    def __init__(self, config: Config) -> None:
        self.max_lost = config.max_lost
        self.repairs: list[Callable[[str, Counter[str]], str]] = []
        if config.chinese:
            self.repairs += [repair_utf8_as_gbk, repair_gbk]
        if config.latin:
            self.repairs.append(repair_with_ftfy())
        if config.chinese:
            self.repairs.append(repair_big5)

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        def repaired(text: str) -> str:
            if not text.isascii():
                for repair in self.repairs:
                    text = repair(text, tally)
            return text

        row = rewrite(row, repaired)
        said = content(row)
        lost = said.count("\ufffd")
        if lost and lost > self.max_lost * len(said):
            return Drop("garbled", f"{lost} of {len(said)}")
        return row
