"""Mixing: how much of each source the corpus gets, by weights or by size, with temperature.

A source gets a share in proportion to w^(1/T), w its weight or else its size: T = 1 leaves the proportions, a higher
temperature raises small sources (mT5 used T = 3.3), an infinite one makes all equal. Rows of a source that is to be
smaller are chosen by the hash of their id; those of one that is to be larger are repeated, up to four times by default:
beyond four epochs repeated data are worth less and less (Muennighoff et al. 2023, "Scaling data-constrained language
models").
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.data.dedup import corpus_rows
from danlu.data.sources import Row
from danlu.data.step import Drop, Keys, Settled, content

__all__ = ["Config", "Step", "shares"]


class Config(Base):
    """How large each source is to be."""

    weights: dict[str, float] = doc({}, "weight of each source; default: its size", "各来源的权重；默认按其大小")
    temperature: float = doc(1.0, "above 1 raises small sources, below 1 large ones", "大于 1 抬高小来源，小于 1 抬高大来源", gt=0)  # fmt: skip
    rows: PositiveInt | None = doc(None, "size of the mixture in rows; default: as many as there are", "混合后的行数；默认与原有行数相同")  # fmt: skip
    characters: PositiveInt | None = doc(None, "size of the mixture in characters, in place of rows", "混合后的字符数，用以代替行数")  # fmt: skip
    max_repeats: PositiveInt = doc(4, "times that a row may stand in the mixture", "同一行最多出现几次")
    seed: NonNegativeInt = doc(0, "which rows are chosen", "决定选中哪些行的随机种子")


# lesson: mixing
def shares(sizes: NDArray[np.float64], weights: NDArray[np.float64], temperature: float, total: float, most: float) -> NDArray[np.float64]:  # fmt: skip
    """What each source contributes to a mixture of `total`, float64 [K], in proportion to weights^(1/T).

    No source gives more than `most` times its size; what it cannot give, the others do, in their proportions. If all
    are exhausted the mixture stays smaller than `total`.
    """
    wanted = (weights / weights.max()) ** (1 / temperature)
    given = np.zeros_like(sizes)
    free = (sizes > 0) & (wanted > 0)
    while free.any():
        left = total - given[~free].sum()
        given[free] = left * wanted[free] / wanted[free].sum()
        beyond = free & (given > most * sizes)
        if not beyond.any():
            break
        given[beyond] = most * sizes[beyond]
        free &= ~beyond
    return given


# end lesson


class Step:
    """Keys of N rows: size int64 [N], hash uint64 [N] of the id, source int64 [N], names of the sources [K]."""

    def __init__(self, config: Config) -> None:
        if config.rows and config.characters:
            raise ConfigError(tr("mix: rows and characters are both given", "mix：同时给出了 rows 与 characters"), tr("give one of them", "请只给其中一个"))  # fmt: skip
        if any(not 0 <= weight < np.inf for weight in config.weights.values()):
            raise ConfigError(tr("mix: a weight must be 0 or above, and finite", "mix：权重应为不小于 0 的有限数"))
        if config.weights and not any(config.weights.values()):
            raise ConfigError(tr("mix: all weights are 0", "mix：权重全为 0"))
        self.config = config

    def keys(self, rows: Sequence[Row]) -> Keys:
        names, source = np.unique(np.array([row["source"] for row in rows], str), return_inverse=True)
        sizes = [len(content(row)) if self.config.characters else 1 for row in rows]
        seed = self.config.seed
        hashes = [xxhash.xxh3_64_intdigest(str(row["id"]).encode("utf-8", "surrogatepass"), seed) for row in rows]
        return {
            "size": np.array(sizes, np.int64),
            "hash": np.array(hashes, np.uint64),
            "source": source.astype(np.int64),
            "names": names,
        }

    def decide(self, parts: Sequence[Keys]) -> list[np.ndarray]:
        """How often each row stands in the mixture, int64; 0 for rows not chosen."""
        if not len(parts):
            return []
        names = np.unique(np.concatenate([part["names"] for part in parts]))
        source = np.concatenate([np.searchsorted(names, part["names"])[part["source"]] for part in parts])
        size = np.concatenate([part["size"] for part in parts])
        order = np.argsort(np.concatenate([part["hash"] for part in parts]), kind="stable")
        sizes = np.bincount(source, size, len(names)).astype(np.float64)
        total = self.config.characters or self.config.rows or len(source)
        given = shares(sizes, self._weights(names.tolist(), sizes), self.config.temperature, total, self.config.max_repeats) if len(names) else sizes  # fmt: skip
        if not self.config.characters:
            given = np.minimum(np.diff(np.rint(np.cumsum(given)), prepend=0), self.config.max_repeats * sizes)
        copies = np.zeros(len(source), np.int64)
        for number in range(len(names)):
            rows = order[source[order] == number]
            whole, rest = divmod(given[number], max(sizes[number], 1))
            copies[rows] = int(whole) + (np.cumsum(size[rows]) <= rest + 1e-6)
        return np.split(copies, corpus_rows([len(part["size"]) for part in parts])[1:-1])

    def _weights(self, names: list[str], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.config.weights:
            return np.maximum(sizes, 1e-9)
        for some, others, en, zh in (
            (names, self.config.weights, "has no weight", "没有权重"),
            (self.config.weights, names, "has a weight, but no row", "有权重，却没有任何行"),
        ):
            if odd := [name for name in some if name not in others]:
                raise ConfigError(tr(f"mix: source '{odd[0]}' {en}", f"mix：来源“{odd[0]}”{zh}"), tr(f"sources: {', '.join(names)}", f"来源有：{'、'.join(names)}"))  # fmt: skip
        return np.array([self.config.weights[name] for name in names], np.float64)

    def settle(self, rows: Sequence[Row], decision: np.ndarray, tally: Counter[str]) -> list[Settled]:
        settled: list[Settled] = []
        for row, times in zip(rows, decision.tolist(), strict=True):
            more = [{**row, "id": f"{row['id']}~{number}"} for number in range(2, times + 1)]
            tally["copies_added"] += len(more)
            settled.append(Drop("not_sampled") if not times else [row, *more] if more else row)
        return settled
