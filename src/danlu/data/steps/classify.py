"""Step `classify`: keeps the rows that a classifier of `danlu data classifier` scores high enough.

As a quality filter (good books against machine-made noise) or for any other pair of labels.
"""

from collections import Counter

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.data.classifier import Classifier
from danlu.data.sources import Row
from danlu.data.step import Drop, content

__all__ = ["Config", "Step"]


class Config(Base):
    """Which classifier, and how high is enough."""

    model: Input = doc(..., "folder that `danlu data classifier` wrote", "`danlu data classifier` 写出的目录")
    threshold: float | None = doc(
        None, "lowest score to keep; default: the folder's own", "保留的最低得分；默认用目录里的", ge=0, le=1
    )
    reason: str = doc("low_quality", "what a dropped row is said to be", "丢弃原因", pattern=r"^[a-z][a-z0-9_]*$")
    column: str | None = doc(None, "also write the score into this column", "并把得分写入这一列", min_length=1)


class Step:
    """Scores the text; drops what is below the threshold."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.classifier = Classifier.load(config.model)
        self.threshold = self.classifier.threshold if config.threshold is None else config.threshold

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        score = float(self.classifier.scores([content(row)])[0])
        if score < self.threshold:
            return Drop(self.config.reason, f"{score:.3f}")
        return row if self.config.column is None else {**row, self.config.column: round(score, 4)}
