"""Run the graded checks of an exercise in this process: `python -m danlu.learn.grading` is started by `danlu check`."""

import ast
import importlib
import importlib.util
import json
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from danlu.core.i18n import tr
from danlu.learn.roadmap import resolve

__all__ = ["Check", "Result", "checks_of", "grade", "load_module", "solution_of"]


class Check(NamedTuple):
    """A graded check: `check_NAME(exercise)` in check.py, its docstring's two lines the hint."""

    name: str
    hint: tuple[str, str]  # English, Chinese


class Result(NamedTuple):
    """What one check found; `message` is empty when it passed."""

    name: str
    ok: bool
    message: str


class _Overtime(BaseException):
    """Not an Exception, so that the learner's own `except Exception` cannot keep it."""


def checks_of(file: Path) -> list[Check]:
    """The checks in `file`, in order, read without running anything."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_"):
            lines = [line.strip() for line in (ast.get_docstring(node) or "").splitlines() if line.strip()]
            if len(lines) != 2:
                raise ValueError(
                    f"{file}: the docstring of {node.name} is the hint: one line English, one line Chinese"
                )
            found.append(Check(node.name, (lines[0], lines[1])))
    return found


def load_module(file: Path, name: str) -> ModuleType:
    """Import a file by its path, whatever its folder is called."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def solution_of(check: ModuleType) -> Any:
    """The real implementation that check.py names in SOLUTION.

    A string is a module ('danlu.ops.attention') or an object with the exercise's names as attributes
    ('danlu.tokenizer.bpe:BPE'); a dict gives for each name of the exercise the symbol that stands for it.
    """
    named = check.SOLUTION
    if isinstance(named, dict):
        return SimpleNamespace(**{name: resolve(code) for name, code in named.items()})
    return resolve(named) if ":" in named else importlib.import_module(named)


def grade(
    check: ModuleType, exercise: Any, names: list[str], seconds: float, file: Path | None = None
) -> Iterator[Result]:
    """Run the checks called `names`, each for at most `seconds`; `file` is where the learner's lines stand."""
    for name in names:
        try:
            with _limit(seconds):
                getattr(check, name)(exercise)
        except _Overtime:
            yield Result(name, False, f"TimeoutError: {seconds:g} s{_place(file)}")
        except NotImplementedError:
            yield Result(name, False, tr("not written yet", "还没写"))
        except Exception as error:
            yield Result(name, False, f"{type(error).__name__}: {error}{_place(file)}".strip(": "))
        else:
            yield Result(name, True, "")


class _limit:  # noqa: N801  (reads as a statement)
    """Raise _Overtime in the block after `seconds`. Needs the main thread; native loops are ended by the parent."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self._old = signal.signal(signal.SIGALRM, self._ring)
        self._running = signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._old)
        signal.setitimer(signal.ITIMER_REAL, *self._running)  # a timer that a test runner had set goes on

    @staticmethod
    def _ring(_number: int, _frame: FrameType | None) -> None:
        raise _Overtime


def _place(file: Path | None) -> str:
    """The learner's line that was running, such as ' (line 12)'."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    lines = [frame.lineno for frame in frames if file and frame.filename == str(file)]
    return tr(f" (line {lines[-1]})", f"（第 {lines[-1]} 行）") if lines else ""


def _main(check_file: str, exercise_file: str, seconds: str, results: str) -> None:
    """Append one JSON line for each result, so that those before a crash are kept; '-' grades the solution."""
    with open(results, "a", encoding="utf-8", buffering=1) as out:
        file = None if exercise_file == "-" else Path(exercise_file)
        check = load_module(Path(check_file), "danlu_check")
        try:
            with _limit(3 * float(seconds)):
                exercise = load_module(file, "exercise") if file else solution_of(check)
        except (Exception, SystemExit, _Overtime) as error:
            said = f"{type(error).__name__}: {error}".replace("_Overtime: ", "TimeoutError")
            out.write(json.dumps({"unloadable": said + _place(file)}) + "\n")
            return
        names = [name.name for name in checks_of(Path(check_file))]
        for result in grade(check, exercise, names, float(seconds), file):
            out.write(json.dumps(result._asdict(), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
