"""The work on one part of a corpus: settle what the corpus decided, go through the row steps, make the next keys.

Everything here is a function of the part's rows and the recipe alone, so any process, or machine that sees the
folder, may do it, and do it again after a crash.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.parts import Parts
from danlu.data.sources import Row
from danlu.data.step import CorpusStep, Drop, RowStep, Settled, content, make_step, step_config

__all__ = ["DECISION", "Named", "StepReport", "Task", "work_on"]

DECISION = "decision"
_SHOWN_DROPS, _SHOWN_CHANGES, _EXCERPT = 2, 2, 160


class Named(NamedTuple):
    """A step as a recipe has it: its name, and its settings as JSON text, so that it can be a key and be sent around."""

    name: str
    settings: str


@dataclass(frozen=True)
class Task:
    """One part through one pass: read from `source`, written to `target`."""

    number: int
    source: Path
    target: Path
    settle: Named | None
    rows: tuple[Named, ...]
    keys: Named | None
    token: str = ""  # of the recipe: what another one left behind is not this task's result


class StepReport(NamedTuple):
    """What one step did to some rows. `examples` are few; `seconds` are the processor's, all else is reproducible."""

    step: str
    rows: int  # after the step
    characters: int
    dropped: dict[str, int]
    tally: dict[str, int]
    examples: list[dict[str, Any]]
    seconds: float
    characters_in: int


def work_on(task: Task) -> dict[str, Any]:
    """Do the task unless it is done; return the ledger."""
    parts = Parts(task.target)
    if (done := parts.ledger(task.number)) is not None and done.get("token") == task.token:
        return done
    source = Parts(task.source)
    rows, reports = source.read(task.number), []
    lost: list[tuple[str, str, str, str]] = []
    if task.settle is not None:
        step = _step(task.settle)
        assert isinstance(step, CorpusStep)
        decision = source.keys(task.number, names=[DECISION])[DECISION]
        rows, report = _go(task.settle.name, rows, _Settling(step, decision), lost)
        reports.append(report)
    for named in task.rows:
        step = _step(named)
        assert isinstance(step, RowStep)
        rows, report = _go(named.name, rows, _Applying(step), lost)
        reports.append(report)
    keys: dict[str, np.ndarray] = {}
    if task.keys is not None:
        step = _step(task.keys)
        assert isinstance(step, CorpusStep)
        began = time.process_time()
        keys = dict(step.keys(rows))
        characters = sum(len(content(row)) for row in rows)
        reports.append(
            StepReport(
                f"{task.keys.name}:keys", len(rows), characters, {}, {}, [], time.process_time() - began, characters
            )
        )
    ledger: dict[str, Any] = {"reports": [report._asdict() for report in reports], "lost": lost, "token": task.token}
    if task.keys is not None:
        ledger["ids"] = [row["id"] for row in rows]  # so that "#17" in what the decision says can be told by its name
    parts.write(task.number, rows, ledger, keys)
    found = parts.ledger(task.number)
    assert found is not None
    return found


class _Applying:
    """A row step over many rows."""

    def __init__(self, step: RowStep) -> None:
        self.step = step

    def __call__(self, rows: Sequence[Row], tally: Counter[str]) -> list[Settled]:
        return [self.step.apply(row, tally) for row in rows]


class _Settling:
    """A corpus step's decision over many rows."""

    def __init__(self, step: CorpusStep, decision: np.ndarray) -> None:
        self.step, self.decision = step, decision

    def __call__(self, rows: Sequence[Row], tally: Counter[str]) -> list[Settled]:
        settled = self.step.settle(rows, self.decision, tally)
        if len(settled) != len(rows):
            raise DataError(
                tr(
                    f"a step settled {len(settled)} of {len(rows)} rows",
                    f"某步骤处理了 {len(rows)} 行中的 {len(settled)} 行",
                )
            )
        return settled


@lru_cache(maxsize=64)
def _step(named: Named) -> RowStep | CorpusStep:
    """Made once in each process: what a step reads may be large."""
    return make_step(named.name, step_config(named.name, json.loads(named.settings)))


def _go(
    name: str, rows: list[Row], step: _Applying | _Settling, lost: list[tuple[str, str, str, str]]
) -> tuple[list[Row], StepReport]:
    tally: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    changed = 0
    began = time.process_time()
    results = step(rows, tally)
    seconds = time.process_time() - began
    kept: list[Row] = []
    before = 0
    for row, result in zip(rows, results, strict=True):
        old = content(row)
        before += len(old)
        if isinstance(result, Drop):
            dropped[result.reason] += 1
            lost.append((row["id"], name, result.reason, result.detail))
            if dropped[result.reason] <= _SHOWN_DROPS:
                shown = old[: 2 * _EXCERPT]
                examples.append({"id": row["id"], "dropped": result.reason, "detail": result.detail, "text": shown})
            continue
        kept += result if isinstance(result, list) else [result]
        if (
            result is not row
            and changed < _SHOWN_CHANGES
            and isinstance(result, dict)
            and (new := content(result)) != old
        ):
            changed += 1
            examples.append({"id": row["id"], **_difference(old, new)})
    after = sum(len(content(row)) for row in kept)
    return kept, StepReport(name, len(kept), after, dict(dropped), dict(tally), examples, seconds, before)


def _difference(old: str, new: str) -> dict[str, str]:
    """Both texts around the first place where they differ."""
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - _EXCERPT // 4)
    return {"before": old[start : start + _EXCERPT], "after": new[start : start + _EXCERPT]}
