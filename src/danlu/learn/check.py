"""Grade your copy of a lesson's exercise, with hints.

检查你写的练习，并给出提示。

Example: danlu check attention --start
--start copies the exercise to exercises/TOPIC.py; write the missing part, then give the command without it.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from danlu.core.config import Config as BaseConfig
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError, DanluError
from danlu.core.files import atomic_path, write_json
from danlu.core.i18n import language, tr
from danlu.learn.grading import Check, Result, checks_of
from danlu.learn.lessons import find_lesson

__all__ = ["Config", "grade_apart", "run"]

_STARTUP_SECONDS = 60.0  # importing torch on a slow disk


class Config(BaseConfig):
    """Which exercise, and where the learner's copy lies."""

    id: str = doc(
        ..., "the row or lesson, such as attention or models/attention", "条目或课程，如 attention 或 models/attention"
    )
    start: bool = doc(False, "copy the exercise there (nothing is overwritten)", "把练习复制过去（不会覆盖已有文件）")
    solution: bool = doc(False, "grade danlu's own implementation instead", "改为检查 danlu 自己的实现")
    file: Input | None = doc(None, "your copy (default: exercises/TOPIC.py)", "你的练习文件（默认：exercises/课题.py）")
    json_: Output | None = doc(None, "write the results to this file", "把结果写入该文件")
    seconds: float = doc(20.0, "time for each check", "每项检查的限时（秒）", gt=0)


def run(config: Config) -> None:
    """Print what passes and hints for what does not. Raises DanluError when a check fails."""
    folder = find_lesson(config.id)
    for name in ("exercise.py", "check.py"):
        if not (folder / name).exists():
            raise ConfigError(tr(f"the lesson '{config.id}' has no exercise", f"“{config.id}”这一课没有练习"))
    file = config.file or Path("exercises") / f"{folder.name.replace('-', '_')}.py"
    if config.start:
        _start(folder / "exercise.py", file, config.id)
        return
    if not config.solution and not file.is_file():
        raise ConfigError(
            tr(f"no such file: {file}", f"没有这个文件：{file}"),
            tr(f"begin with: danlu check {config.id} --start", f"先执行：danlu check {config.id} --start"),
        )
    checks = checks_of(folder / "check.py")
    with Console(stderr=True).status(tr(f"{len(checks)} checks", f"{len(checks)} 项检查")):
        results = grade_apart(folder, None if config.solution else file, config.seconds)
    passed = sum(result.ok for result in results)
    if config.json_:
        counts = {"passed": passed, "total": len(results), "rate": passed / len(results)}
        write_json(config.json_, {"id": config.id, **counts, "checks": [result._asdict() for result in results]})
    Console().print(_table(checks, results))
    if passed < len(results):
        raise DanluError(
            tr(f"{passed} of {len(results)} checks pass", f"{len(results)} 项检查中通过 {passed} 项"),
            tr(f"read again: danlu lesson {config.id}", f"再读一遍：danlu lesson {config.id}"),
        )
    print(tr(f"all {passed} checks pass", f"{passed} 项检查全部通过"))


def _start(exercise: Path, file: Path, name: str) -> None:
    if file.exists():
        raise ConfigError(
            tr(f"{file} is there already, it was left as it is", f"{file} 已经存在，没有改动它"),
            tr(
                f"grade it: danlu check {name}; or choose another place with --file",
                f"检查它：danlu check {name}；或用 --file 换一个位置",
            ),
        )
    with atomic_path(file) as temporary:
        shutil.copyfile(exercise, temporary)
    print(
        tr(f"write the missing part of {file}, then: danlu check {name}", f"补全 {file}，然后执行：danlu check {name}")
    )


def grade_apart(folder: Path, file: Path | None, seconds: float) -> list[Result]:
    """Grade the learner's `file` (None: the real implementation) in a process of its own, one result a check.

    A check that does not end is failed: after `seconds`, or, where nothing in Python can stop it, with the
    process. Raises DanluError when the file cannot be imported.
    """
    checks = checks_of(folder / "check.py")
    limit = _STARTUP_SECONDS + seconds * (len(checks) + 3)
    with tempfile.TemporaryDirectory(prefix="danlu-check-") as scratch:
        written = Path(scratch) / "results.jsonl"
        target = str(file.absolute()) if file else "-"
        argv = [
            sys.executable,
            "-m",
            "danlu.learn.grading",
            str(folder / "check.py"),
            target,
            str(seconds),
            str(written),
        ]
        ended = _run(argv, limit)
        lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else []
    rows = [json.loads(line) for line in lines]
    if rows and "unloadable" in rows[0]:
        named = file or "SOLUTION"
        raise DanluError(tr(f"{named} cannot be imported: ", f"无法导入 {named}：") + rows[0]["unloadable"])
    results = [Result(**row) for row in rows]
    for check in checks[len(results) :]:
        results.append(Result(check.name, False, ended if len(results) == len(rows) else tr("not run", "没有运行")))
    return results


def _run(argv: list[str], limit: float) -> str:
    """Run the grader; returns what to say of the check that it did not finish."""
    try:
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False, timeout=limit).returncode
    except subprocess.TimeoutExpired:
        return tr(f"it did not end within {limit:g} s", f"{limit:g} 秒内没有结束")
    return tr(f"the process ended with code {code}", f"进程中途退出，退出码 {code}")


def _table(checks: list[Check], results: list[Result]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("", tr("check", "检查"), tr("hint", "提示"), tr("what happened", "发生了什么")):
        table.add_column(head, overflow="fold")
    for check, result in zip(checks, results, strict=True):
        mark = Text("✓", "green") if result.ok else Text("✗", "red")
        hint = "" if result.ok else check.hint[language() == "zh"]
        table.add_row(mark, check.name.removeprefix("check_").replace("_", " "), hint, Text(result.message))
    return table
