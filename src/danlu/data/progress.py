"""A progress bar that shows itself only when the work turns out to be long."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["PATIENCE", "track"]

Item = TypeVar("Item")
PATIENCE = 2.0  # seconds without a sign of life that nobody minds


def track(items: Iterable[Item], total: int | None, what: str) -> Iterator[Item]:
    """Yield `items`; after `PATIENCE` seconds a bar with the time left stands on standard error.

    `total` is the number of items, None when unknown; `what` is the line people read.
    """
    bar, task, done, start = None, None, 0, time.monotonic()
    try:
        for item in items:
            yield item
            done += 1
            if bar is None and time.monotonic() - start > PATIENCE:
                bar = _bar()
                bar.start()
                task = bar.add_task(what, total=total)
            if bar is not None and task is not None:
                bar.update(task, completed=done)
    finally:
        if bar is not None:
            bar.stop()


def _bar():
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
