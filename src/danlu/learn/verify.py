"""Run the proof of one row of the roadmap and compare its number with what is expected.

运行路线图中某一项的验证命令，并把结果与预期比较。

Example: danlu verify attention
`danlu verify all` runs every row that works. With --json the verdict is also written as
{"id", "metric", "value", "expect", "ok", "minutes"}; a list of those for `all`.
"""

import contextlib
import importlib.util
import json
import math
import operator
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import danlu
from danlu.core.config import Config as BaseConfig
from danlu.core.config import Output, doc
from danlu.core.errors import ConfigError, DanluError
from danlu.core.files import write_json
from danlu.core.i18n import language, tr
from danlu.learn.roadmap import EVERY, NEEDS, Row, Verify, load_roadmap

__all__ = ["Config", "look_up", "missing_needs", "prove", "run", "satisfies"]

_COMPARE = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}
_PATIENCE = 5.0  # a proof may take this many times its stated minutes, and two minutes more, before it is stopped
_TAIL_LINES = 20


class Config(BaseConfig):
    """Which row to prove."""

    id: str = doc(
        ..., f"the row (danlu roadmap lists them), or '{EVERY}'", f"条目编号（见 danlu roadmap），或“{EVERY}”"
    )
    json_: Output | None = doc(None, "write the verdict to this file", "把结果写入该文件")


def run(config: Config) -> None:
    """Prove one row or all; print and write the verdict. Raises DanluError when it is not met."""
    roadmap = load_roadmap()
    rows = [row for row in roadmap.rows if row.state == "works"] if config.id == EVERY else [roadmap.find(config.id)]
    if not rows:
        raise DanluError(
            tr("no row of the roadmap works yet", "路线图里还没有能跑的条目"),
            tr("see: danlu roadmap", "请看：danlu roadmap"),
        )
    if config.id == EVERY:
        lacking = {row.id: missing_needs(row) for row in rows}
        for row in (row for row in rows if lacking[row.id]):
            print(
                tr(f"{row.id}: left out, it needs ", f"{row.id}：跳过，需要") + _named(lacking[row.id]), file=sys.stderr
            )
        rows = [row for row in rows if not lacking[row.id]]
    else:
        _refuse(rows[0])
    verdicts, faults = [], []
    with _Proofs() as proofs:
        for row in rows:
            verdict, fault = proofs.verdict(row)
            verdicts.append(verdict)
            faults += [fault] if fault else []
    if config.json_:
        write_json(config.json_, verdicts if config.id == EVERY else verdicts[0])
    Console().print(_table(rows, verdicts))
    if faults:
        raise DanluError("\n".join(fault.what for fault in faults), faults[0].do)


def _refuse(row: Row) -> None:
    if row.state == "planned" or row.verify is None:
        raise DanluError(
            tr(f"'{row.id}' is planned: no code works yet", f"“{row.id}”还在计划中，没有可运行的代码"),
            tr("rows that work: danlu roadmap --state works", "能跑的条目：danlu roadmap --state works"),
        )
    if lacking := missing_needs(row):
        raise DanluError(
            tr(f"'{row.id}' cannot be verified on this machine", f"这台机器无法验证“{row.id}”"),
            tr("it needs ", "它需要") + _named(lacking),
        )


def _named(needs: list[str]) -> str:
    return tr(", ", "、").join(NEEDS[need][language() == "zh"] for need in needs)


def missing_needs(row: Row) -> list[str]:
    """Which of the row's needs this machine lacks."""
    return [need for need in row.needs if not _present(need)]


def _present(need: str) -> bool:
    if need == "cuda":
        import torch

        return torch.cuda.is_available()
    if need == "tensorrt":
        return importlib.util.find_spec("tensorrt") is not None
    program = {"docker": "docker", "kubernetes": "kubectl", "triton": "tritonserver"}[need]
    return shutil.which(program) is not None


class _Proofs:
    """Runs proofs one after another; rows that share a command share its run."""

    def __enter__(self) -> "_Proofs":
        self._folder = tempfile.TemporaryDirectory(prefix="danlu-verify-")
        self._done: dict[str, tuple[dict[str, Any] | DanluError, float]] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def verdict(self, row: Row) -> tuple[dict[str, Any], DanluError | None]:
        """What was found, and the fault if it is not what was expected."""
        wanted = row.verify
        assert wanted is not None
        if wanted.command not in self._done:
            self._done[wanted.command] = self._measure(row.id, wanted)
        report, minutes = self._done[wanted.command]
        value, fault = None, None
        try:
            if isinstance(report, DanluError):
                raise report
            value = look_up(report, wanted.metric, row.id)
        except DanluError as error:
            fault = error
        ok = value is not None and satisfies(value, wanted.expect)
        if not ok and not fault:
            got = tr("expected", "预期")
            what = f"{row.id}: {wanted.metric} = {value:.6g}, {got} {wanted.expect}"
            fault = DanluError(what, tr(f"run it yourself: {wanted.command}", f"自己运行看看：{wanted.command}"))
        return _plain(row.id, wanted, value, ok, minutes), fault

    def _measure(self, name: str, wanted: Verify) -> tuple[dict[str, Any] | DanluError, float]:
        start = time.monotonic()
        result: dict[str, Any] | DanluError
        try:
            result = prove(name, wanted, Path(self._folder.name) / f"{len(self._done)}.json")
        except DanluError as error:
            result = error
        return result, (time.monotonic() - start) / 60


def _plain(name: str, wanted: Verify, value: float | None, ok: bool, minutes: float) -> dict[str, Any]:
    finite = value if value is not None and math.isfinite(value) else None  # JSON knows no NaN
    return {
        "id": name,
        "metric": wanted.metric,
        "value": finite,
        "expect": wanted.expect,
        "ok": ok,
        "minutes": round(minutes, 3),
    }


def prove(name: str, wanted: Verify, report: Path) -> dict[str, Any]:
    """Run the command and read the JSON it wrote to `report`.

    Raises DanluError when the command fails, writes no JSON, or takes far longer than its stated minutes.
    """
    argv = _argv(wanted.command, report)
    limit = 60 * (_PATIENCE * wanted.minutes + 2)
    with tempfile.TemporaryFile() as log:
        code = _watch(name, argv, log, wanted.minutes, limit)
        log.seek(0)
        tail = b"\n".join(log.read().splitlines()[-_TAIL_LINES:]).decode(errors="replace")
    if code is None:
        raise DanluError(
            tr(
                f"{name}: stopped after {limit / 60:.0f} minutes, it should take {wanted.minutes:g}",
                f"{name}：运行 {limit / 60:.0f} 分钟后被停止，预计只需 {wanted.minutes:g} 分钟",
            ),
            tail,
        )
    if code:
        raise DanluError(
            tr(
                f"{name}: the command failed with exit code {code}: {wanted.command}",
                f"{name}：命令失败，退出码 {code}：{wanted.command}",
            ),
            tail,
        )
    try:
        return json.loads(report.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise DanluError(
            tr(f"{name}: the command wrote no JSON: {wanted.command}", f"{name}：命令没有写出 JSON：{wanted.command}"),
            f"{error}\n{tail}",
        ) from None


def _argv(command: str, report: Path) -> list[str]:
    program, *rest = (word.replace("{json}", str(report)) for word in shlex.split(command))
    if program == "danlu":  # the interpreter at hand, whatever PATH says
        return [sys.executable, "-c", "from danlu.cli import main; raise SystemExit(main())", *rest]
    script = Path(rest[0])
    if rest[0].endswith(".py") and not script.is_absolute() and not script.exists():
        checkout = Path(danlu.__file__).parents[2]
        if not (checkout / script).exists():
            raise ConfigError(
                tr(f"no such script: {script}", f"没有这个脚本：{script}"),
                tr(
                    "it is part of the source checkout: clone danlu and run from there",
                    "它只在源码仓库里：请克隆 danlu 后在仓库中运行",
                ),
            )
        rest[0] = str(checkout / script)
    return [sys.executable, *rest]


def _watch(name: str, argv: list[str], log: Any, minutes: float, limit: float) -> int | None:
    """Run with a bar that fills by the stated minutes. Returns the exit code; None when `limit` seconds passed."""
    start = time.monotonic()
    with _started(argv, log) as process, _bar() as progress:
        task = progress.add_task(name, total=60 * minutes)
        while (passed := time.monotonic() - start) < limit:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=0.2)
            progress.update(task, completed=min(passed, 59.9 * minutes))
    return None


@contextlib.contextmanager
def _started(argv: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, so that what it started ends with it however we leave."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("/"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def look_up(report: Any, metric: str, name: str = "") -> float:
    """The number at a dotted path: 'comparison.model=sft.form', 'stages.0.wall_seconds'; true counts as 1.

    An item of a list is named by its number or by `key=value`. Raises DanluError that names the missing part.
    """
    found = report
    for part in metric.split("."):
        found = _step(found, part)
        if found is None:
            break
    if isinstance(found, (int, float)):
        return float(found)
    known = ", ".join(report) if isinstance(report, dict) else type(report).__name__
    raise DanluError(
        tr(f"{name}: no number at '{metric}' in what the command wrote", f"{name}：命令的输出里没有“{metric}”这个数"),
        tr(f"it has: {known}", f"其中有：{known}"),
    )


def _step(found: Any, part: str) -> Any:
    if isinstance(found, dict):
        return found.get(part)
    if not isinstance(found, list):
        return None
    if part.isdigit():
        return found[int(part)] if int(part) < len(found) else None
    key, _, value = part.partition("=")
    return next((item for item in found if isinstance(item, dict) and str(item.get(key)) == value), None)


def satisfies(value: float, expect: str) -> bool:
    """Whether `value` meets '>= 0.95', '<= 1e-4', '== 1', '> 0' or '< 3'. NaN meets nothing."""
    sign, bound = expect.split()
    return bool(_COMPARE[sign](value, float(bound)))


def _table(rows: list[Row], verdicts: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("", "id", tr("metric", "指标"), tr("value", "实测"), tr("expected", "预期"), tr("minutes", "分钟")):
        table.add_column(head, overflow="fold")
    for row, verdict in zip(rows, verdicts, strict=True):
        mark = Text("✓", "green") if verdict["ok"] else Text("✗", "red")
        value = "-" if verdict["value"] is None else f"{verdict['value']:.6g}"
        table.add_row(mark, row.id, verdict["metric"], value, verdict["expect"], f"{verdict['minutes']:.1f}")
    return table
