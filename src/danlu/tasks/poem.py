"""Write a quatrain to a title. The form of the answer is checked, not its beauty.

A quatrain (绝句) has four lines of five or seven characters; the second and the fourth rhyme; no line is
repeated.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.dedup import content_hash
from danlu.data.load import load_split
from danlu.data.sources import Row
from danlu.tasks.base import Messages
from danlu.tasks.rhyme import rhymes

__all__ = ["PoemCheck", "PoemTask", "check_poem", "summary"]

_TITLE = re.compile(r"\s*《[^》\n]*》\s*")
_MARKS = re.compile(r"[，。！？；、,.!?;\s]+")
_CHINESE = re.compile("[\u4e00-\u9fff]+")
# In form, but without rhyme and with a repeated line: a quarter. Rhyme is the harder half.
_FORM, _RHYME, _NO_REPEAT = 0.25, 0.5, 0.25


class PoemCheck(NamedTuple):
    """What was found in an answer.

    form: exactly four lines, all of the asked length, of Chinese characters only; rhyme: lines 2 and 4 end on
    characters that rhyme, by `rhyme_by` 'pingshui' or 'pinyin' (the same character is no rhyme); no_repeat: no
    line occurs twice. rhyme and no_repeat are told of any answer that has the lines for it, in form or not.
    """

    form: bool
    rhyme: bool
    rhyme_by: str | None
    no_repeat: bool
    lines: tuple[str, ...]

    @property
    def score(self) -> float:
        """0 out of form; else 0.25, 0.5 more for the rhyme and 0.25 more when no line is repeated."""
        return self.form * (_FORM + _RHYME * self.rhyme + _NO_REPEAT * self.no_repeat)


class PoemTask:
    """One prompt for each title of prepared rows (see `danlu.data.poems`), `count` of them at most.

    Of several poems with one title one is taken; which, and the order of the titles, depends on their
    hashes, so that `count` titles are a fair sample. Raises DataError when rows are no poems.
    """

    def __init__(self, rows: Sequence[Row], count: int | None = None) -> None:
        for number, row in enumerate(rows, 1):
            if any(not row.get(name) for name in ("title", "form", "messages")):
                raise DataError(
                    tr(f"row {number} is no poem: it needs title, form and messages",
                       f"第 {number} 行不是诗:需要 title、form 与 messages"),
                    tr("prepare poems: danlu data prepare --source chinese-poetry --out ...",
                       "请准备诗歌数据:danlu data prepare --source chinese-poetry --out ..."),
                )  # fmt: skip
        by_title: dict[str, Row] = {}
        for row in sorted(rows, key=lambda row: content_hash(str(row["messages"]), 1)):
            by_title.setdefault(row["title"], row)
        titles = sorted(by_title, key=content_hash)
        self._rows = [by_title[title] for title in titles[:count]]

    @classmethod
    def open(cls, folder: Path | str, count: int | None = None) -> "PoemTask":
        """The task of the test split of a prepared folder. Raises DataError."""
        return cls(load_split(folder, "test", columns=["title", "form", "messages"]), count)

    def __len__(self) -> int:
        return len(self._rows)

    def prompt(self, i: int) -> Messages:
        """The instruction, such as 写一首七言绝句，题为《江南春》。"""
        return self._rows[i]["messages"][:-1]

    def completion(self, i: int) -> str:
        """What a model that only continues text is given: '《title》\\n'."""
        return f"《{self.title(i)}》\n"

    def title(self, i: int) -> str:
        return self._rows[i]["title"]

    def form(self, i: int) -> int:
        """The asked number of characters a line: 5 or 7."""
        return self._rows[i]["form"]

    def check(self, i: int, text: str, *, asked: bool = True) -> PoemCheck:
        """Look at an answer to prompt i. After `completion(i)`, which asks for no form, pass `asked=False`:
        then five as well as seven characters a line are in form."""
        return check_poem(text, (self.form(i),) if asked else (5, 7))

    def score(self, i: int, text: str) -> float:
        """`PoemCheck.score` of an answer to prompt i, from 0 to 1."""
        return self.check(i, text).score


def check_poem(text: str, forms: Sequence[int] = (5, 7)) -> PoemCheck:
    """Check a poem whose lines may have any of the lengths `forms`, the same for all four.

    Lines end at punctuation or white space; a title in 《》 before them is passed over.
    """
    lines = tuple(line for line in _MARKS.split(_TITLE.sub("", text, count=1) if _TITLE.match(text) else text) if line)
    lengths = {len(line) for line in lines}
    form = len(lines) == 4 and len(lengths) == 1 and lengths <= set(forms) and all(map(_CHINESE.fullmatch, lines))
    by = rhymes(lines[1][-1], lines[3][-1]) if len(lines) >= 4 else None
    return PoemCheck(form, by is not None, by, bool(lines) and len(set(lines)) == len(lines), lines)


def summary(results: Iterable[PoemCheck]) -> dict[str, float]:
    """Rates from 0 to 1 over all answers.

    form: in form; rhyme: in form and rhyming; no_repeat: in form and without a repeated line; distinct: different
    lines among all lines of all answers, in form or not (copies of one poem, or of a favourite line, lower
    it); score: the mean score. All are 0 when there is no answer or no line.
    """
    results = list(results)
    lines = [line for result in results for line in result.lines]
    count = max(1, len(results))
    return {
        "form": sum(result.form for result in results) / count,
        "rhyme": sum(result.form and result.rhyme for result in results) / count,
        "no_repeat": sum(result.form and result.no_repeat for result in results) / count,
        "distinct": len(set(lines)) / max(1, len(lines)),
        "score": sum(result.score for result in results) / count,
    }
