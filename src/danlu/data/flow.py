"""The flow of a corpus through a recipe's steps: passes over part files, resumable at any point.

    read ──> 00/00000.jsonl 00001.jsonl ...   rows as the sources have them
             01/00000.jsonl ...               after row steps; beside them the keys of a corpus step
             decide                           once, over the keys of all parts
             02/00000.jsonl ...               its decision settled, further row steps, and so on

A pass is as long as it can be: a corpus step's decision, the row steps after it and the keys of the next corpus step
are one walk over each part. A part is done when its ledger stands, so a flow that was killed goes on with those that are
not. The parts of a pass are removed as soon as the next pass has all of them.
"""

import base64
import json
import shutil
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson
import xxhash

from danlu.core.errors import DataError
from danlu.core.files import read_json, storage_errors, write_json
from danlu.core.i18n import tr
from danlu.data.executor import EngineName, Executor
from danlu.data.parts import Parts, dump_row
from danlu.data.progress import track
from danlu.data.sources import Row
from danlu.data.step import CorpusStep, content, is_corpus_step, make_step, step_config
from danlu.data.work import DECISION, Named, Task, work_on

__all__ = ["PART_BYTES", "Flow", "Pass", "Reading", "compile_passes"]

PART_BYTES = 8_000_000
_EXAMPLES = 5  # shown of each step and reason


class Reading(Protocol):
    """What a flow reads: rows in a fixed order, and what there is to say of the files."""

    bad: list[tuple[str, str, bytes]]  # place, reason, bytes of what could not be read; the flow takes them out

    def files(self) -> dict[str, Any]:
        """What tells a changed source, by file: its size and time. JSON-ready."""
        ...

    def rows(self) -> Iterator[Row]: ...

    def summary(self) -> dict[str, Any]:
        """After the last row: what was read. JSON-ready."""
        ...


class Pass(NamedTuple):
    """One walk over the parts: a decision settled, row steps, keys for the next decision."""

    settle: Named | None
    rows: tuple[Named, ...]
    keys: Named | None


def compile_passes(steps: Sequence[Named]) -> list[Pass]:
    """The fewest walks in which `steps` can be done, in their order."""
    passes: list[Pass] = []
    settle: Named | None = None
    rows: list[Named] = []
    for named in steps:
        if is_corpus_step(named.name):
            passes.append(Pass(settle, tuple(rows), named))
            settle, rows = named, []
        else:
            rows.append(named)
    if settle is not None or rows:
        passes.append(Pass(settle, tuple(rows), None))
    return passes


@dataclass
class Flow:
    """A recipe's steps over a corpus, in a work folder of its own.

    `recipe` is all that decides the result, JSON-ready; a folder of another recipe is begun anew.
    """

    folder: Path
    steps: Sequence[Named]
    recipe: Mapping[str, Any]
    workers: int = 1
    engine: EngineName = "pool"
    part_bytes: int = PART_BYTES
    token: str = ""  # of recipe and sources: whose work a part is
    seconds: dict[str, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # of the processor, by step; what this call did

    def run(self, reading: Reading) -> Parts:
        """Go through all passes; return the parts of the last one.

        Raises DataError when a source changed since the work began, when a part is damaged, or when nothing is left;
        StorageError when the disk is full. In any case the same command goes on where this one stopped.
        """
        self._plan(reading)
        self.passes = compile_passes(self.steps)
        numbers: Iterator[int] = self._read(reading)
        if not self.passes:
            for _ in numbers:
                pass
        with Executor(self.workers, self.engine) as executor:
            for at, walk in enumerate(self.passes):
                self._walk(at, walk, numbers, executor)
                numbers = iter(range(self.count))
        return self.parts(len(self.passes))

    def parts(self, at: int) -> Parts:
        return Parts(self.folder / f"{at:02}")

    @property
    def count(self) -> int:
        """How many parts there are, once all is read."""
        return read_json(self.folder / "read.json")["parts"]

    def summary(self) -> dict[str, Any]:
        """What the sources told when they were read."""
        return read_json(self.folder / "read.json")["summary"]

    def _plan(self, reading: Reading) -> None:
        plan = {"recipe": self.recipe, "files": reading.files()}
        self.token = xxhash.xxh3_128_hexdigest(orjson.dumps(plan, option=orjson.OPT_SORT_KEYS))
        file = self.folder / "plan.json"
        old = read_json(file) if file.is_file() else None
        ours = isinstance(old, dict) and {"recipe", "files"} <= old.keys()
        if self.folder.exists() and not ours and not _is_empty(self.folder):
            raise DataError(
                tr(f"{self.folder} exists and is not danlu's", f"{self.folder} 已存在,且不是 danlu 写的"),
                tr("move it away, or choose another --out", "请移走它,或换一个 --out"),
            )
        # What cannot be looked at again, such as standard input, is read anew.
        again = old is not None and None not in old["files"].values()
        if old is not None and again and old["recipe"] == orjson.loads(orjson.dumps(plan["recipe"])):
            changed = [
                name
                for name in sorted({*old["files"], *plan["files"]})
                if old["files"].get(name) != plan["files"].get(name)
            ]
            if changed:
                raise _changed(changed[0], len(changed), self.folder)
            return
        if self.folder.exists():
            shutil.rmtree(self.folder)
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True)
        write_json(file, plan)

    def _read(self, reading: Reading) -> Iterator[int]:
        """Write the rows as parts; yield each part's number when it is whole.

        After an interruption all is read again, but parts that stand are only compared: a source that changed
        without a change of size or time is found here.
        """
        if (self.folder / "read.json").is_file():
            yield from range(self.count)
            return
        parts, number = self.parts(0), 0
        for rows in _portions(reading, self.part_bytes):
            if (told := parts.ledger(number)) is None:
                _write_bad(parts, number, reading.bad)
                parts.write(number, rows, _read_ledger(rows, reading.bad), {})
            elif told["hash"] != xxhash.xxh3_64_hexdigest(b"".join(map(dump_row, rows))):
                raise _changed(tr(f"what was read as part {number}", f"第 {number} 部分的内容"), 1, self.folder)
            reading.bad.clear()
            yield number
            number += 1
        write_json(self.folder / "read.json", {"parts": number, "summary": reading.summary()})

    def _walk(self, at: int, walk: Pass, numbers: Iterator[int], executor: Executor) -> None:
        source, target = self.parts(at), self.parts(at + 1)
        if not (target.folder / "done").is_file():
            tasks = (
                Task(number, source.folder, target.folder, walk.settle, walk.rows, walk.keys, self.token)
                for number in numbers
            )
            names = [named.name for named in ([walk.settle] if walk.settle else []) + list(walk.rows)]
            if walk.keys:
                names.append(tr(f"keys of {walk.keys.name}", f"{walk.keys.name} 的键"))
            what = f"{at + 1}/{len(self.passes)} " + ", ".join(names)
            total = self.count if (self.folder / "read.json").is_file() else None
            for ledger in track(executor.run(work_on, tasks), total, what):
                for report in ledger["reports"]:
                    self.seconds[report["step"]] += report["seconds"]
            if walk.keys:
                self._decide(walk.keys, target)
            with storage_errors(target.folder):
                (target.folder / "done").touch()
        for number in range(self.count):
            source.drop(number)

    def _decide(self, named: Named, parts: Parts) -> None:
        began = time.process_time()
        _allow_files()
        step = make_step(named.name, step_config(named.name, json.loads(named.settings)))
        assert isinstance(step, CorpusStep)
        # On a cluster a step may have a way of its own to the same decision.
        decide = getattr(step, "decide_on_ray", step.decide) if self.engine == "ray" else step.decide
        decisions = decide([parts.keys(number) for number in range(self.count)])
        for number, decision in enumerate(decisions):
            parts.write_array(number, DECISION, decision)
        self.seconds[f"{named.name}:decide"] += time.process_time() - began

    def funnel(self) -> list[dict[str, Any]]:
        """What each step made of the corpus, in order, 'read' first; the same for the same input and recipe.

        Each entry: step, rows, characters, dropped {reason: rows}, tally {what: times}, examples.
        """
        found: list[dict[str, Any]] = []
        for at in range(len(self.passes) + 1):
            ledgers = [self.parts(at).ledger(number) or {} for number in range(self.count)]
            named = self._names(at - 1)
            for reports in zip(*(ledger["reports"] for ledger in ledgers), strict=True):
                if not reports[0]["step"].endswith(":keys"):
                    found.append(_sum(reports))
                    for example in found[-1]["examples"]:
                        if "detail" in example:
                            example["detail"] = named(example["detail"])
        return found

    def lost(self) -> Iterator[dict[str, str]]:
        """Every row that was dropped, in the order of the steps: id, step, reason and, where there is one, detail."""
        for at in range(1, len(self.passes) + 1):
            named = self._names(at - 1)
            for number in range(self.count):
                for row, step, reason, detail in (self.parts(at).ledger(number) or {})["lost"]:
                    yield {"id": row, "step": step, "reason": reason} | ({"detail": named(detail)} if detail else {})

    def _names(self, at: int) -> Callable[[str], str]:
        """What makes of '#17' the id of row 17 of the corpus as pass `at` left it."""
        parts, starts = self.parts(max(at, 0)), [0]
        for number in range(self.count):
            starts.append(starts[-1] + (parts.ledger(number) or {})["rows"])

        @lru_cache(maxsize=64)
        def ids(number: int) -> list[str]:
            return (parts.ledger(number) or {}).get("ids", [])

        def named(detail: str) -> str:
            if not detail.startswith("#") or not detail[1:].isdigit() or int(detail[1:]) >= starts[-1]:
                return detail
            number = bisect_right(starts, int(detail[1:])) - 1
            return ids(number)[int(detail[1:]) - starts[number]] if ids(number) else detail

        return named

    def bad(self) -> Iterator[bytes]:
        """Lines of the quarantine: what could not be read, with place, reason and bytes."""
        for number in range(self.count):
            file = self.parts(0).folder / f"{number:05}.bad.jsonl"
            if file.is_file():
                yield from file.read_bytes().splitlines(keepends=True)


def _is_empty(folder: Path) -> bool:
    """But for what a process left that was killed as it began."""
    return folder.is_dir() and all(file.name.startswith(".plan.json") for file in folder.iterdir())


def _allow_files() -> None:
    """As many open files as the system grants: a mapped part is one, and a corpus has many."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _portions(reading: Reading, size: int) -> Iterator[list[Row]]:
    rows: list[Row] = []
    held = seen = 0
    for row in reading.rows():
        rows.append(row)
        held += 2 * len(content(row)) + 100 + sum(len(raw) for _, _, raw in reading.bad[seen:])
        seen = len(reading.bad)
        if held >= size:
            yield rows
            rows, held, seen = [], 0, 0
    if rows or reading.bad:
        yield rows


def _read_ledger(rows: list[Row], bad: list[tuple[str, str, bytes]]) -> dict[str, Any]:
    characters = sum(len(content(row)) for row in rows)
    dropped = Counter(reason for _, reason, _ in bad)
    sources = Counter(row["source"] for row in rows)
    report = {"step": "read", "rows": len(rows), "characters": characters, "dropped": dropped, "tally": sources}
    return {"reports": [{**report, "examples": [], "seconds": 0.0}], "lost": []}


def _write_bad(parts: Parts, number: int, bad: list[tuple[str, str, bytes]]) -> None:
    lines = []
    for place, reason, raw in bad:
        try:
            shown = {"text": raw.decode()}
        except UnicodeDecodeError:
            shown = {"base64": base64.b64encode(raw).decode()}
        lines.append(orjson.dumps({"place": place, "reason": reason, **shown}) + b"\n")
    if lines:
        with storage_errors(parts.folder):
            parts.folder.mkdir(parents=True, exist_ok=True)
            (parts.folder / f"{number:05}.bad.jsonl").write_bytes(b"".join(lines))


def _sum(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    dropped: Counter[str] = Counter()
    tally: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    examples = []
    for report in reports:
        dropped.update(report["dropped"])
        tally.update(report["tally"])
        for example in report["examples"]:
            kind = example.get("dropped", "")
            shown[kind] += 1
            if shown[kind] <= _EXAMPLES:
                examples.append(example)
    return {
        "step": reports[0]["step"],
        "rows": sum(report["rows"] for report in reports),
        "characters": sum(report["characters"] for report in reports),
        "dropped": dict(sorted(dropped.items())),
        "tally": dict(sorted(tally.items())),
        "examples": examples,
    }


def _changed(name: str, count: int, folder: Path) -> DataError:
    more = tr(f" and {count - 1} more", f" 等 {count} 处") if count > 1 else ""
    return DataError(
        tr(f"a source changed since the work began: {name}{more}", f"工作开始之后,源数据有变:{name}{more}"),
        tr(f"put it back and go on, or begin anew: delete {folder}", f"请恢复原样后继续;若要重新开始,请删除 {folder}"),
    )
