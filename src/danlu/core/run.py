"""A run: one stage's folder, with its settings, metrics, report and model."""

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from danlu import __version__
from danlu.core.config import Config
from danlu.core.device import machine
from danlu.core.errors import ConfigError, Interrupted, StorageError
from danlu.core.files import atomic_path, read_json, storage_errors, write_json
from danlu.core.i18n import tr

__all__ = ["Run", "all_runs", "read_metrics"]

_TABLE = """create table if not exists runs (
  path text primary key, verb text, status text, started text, seconds real, config text, measured text, parent text)"""


class Run:
    """Context manager over a run's folder. Entering one that was interrupted goes on with it.

    `run.json`: settings, versions, machine, parent, status; `metrics.jsonl`: a line a log; `tensorboard/`: the same
    for TensorBoard, where that package is installed; `model/`: what it made. All runs are rows of `runs.sqlite`.
    Raises ConfigError when the folder holds a run with other settings.
    """

    def __init__(self, path: Path | str, verb: str, config: Config, *, parent: str | None = None) -> None:
        self.path, self.verb, self.config, self.parent = Path(path), verb, config, parent
        self.measured: dict[str, Any] = {}
        self._board: Any = None
        self._board_from = 0  # TensorBoard forgets what it was told of this step and later ones
        self._seconds_before = 0.0

    @property
    def model_path(self) -> Path:
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def done(self) -> bool:
        """The same run is there already, finished, and so is the model it made."""
        found = self._found()
        return found is not None and found["status"] == "done" and self.model_path.exists()

    def _found(self) -> dict[str, Any] | None:
        if not (self.path / "run.json").exists():
            return None
        found = read_json(self.path / "run.json")
        mine = {"verb": self.verb, "config": self.config.plain(), "parent": self.parent}
        if {key: found.get(key) for key in mine} == mine:
            return found
        if found.get("status") in ("failed", "interrupted") and not self._has_work():
            return None  # such as after a mistyped path: nothing is lost by another attempt
        changed = ", ".join(_differences(found, mine)) or "?"
        raise ConfigError(
            tr(
                f"{self.path} holds another run; it differs in {changed}",
                f"{self.path} 中是另一次运行;不同之处:{changed}",
            ),
            tr("choose another --out, or delete that folder", "请换一个 --out,或删除该文件夹"),
        )

    def _has_work(self) -> bool:
        """There is something that took time: a checkpoint or a model."""
        return self.model_path.exists() or any(self.checkpoints.glob("step-*"))

    def __enter__(self) -> Self:
        found = self._found()
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if found:
            self._seconds_before = found.get("seconds", 0.0)
            self.measured = found.get("measured", {})
        self._started = time.monotonic()
        self._born = found["started"] if found else datetime.now(UTC).isoformat(timespec="seconds")
        self._write("running")
        self._metrics = open(self.path / "metrics.jsonl", "a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.close()
        if self._board is not None:
            self._board.close()
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        self._write("done" if error is None else "interrupted" if stopped else "failed")

    @property
    def seconds(self) -> float:
        """Seconds spent, earlier attempts included."""
        return self._seconds_before + time.monotonic() - self._started

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one line of metrics, readable at once by whoever watches; what is not finite is null, as JSON has it."""
        finite = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in metrics.items()}
        line = {"step": step, "seconds": round(self.seconds, 3), **finite}
        with storage_errors(self.path):
            self._metrics.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._metrics.flush()
        if self._board is None and find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=self._board_from)
        if self._board is not None:
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: it is about to be computed again."""
        self._metrics.close()
        path = self.path / "metrics.jsonl"
        kept = [json.dumps(line, ensure_ascii=False) + "\n" for line in read_metrics(self.path) if line["step"] <= step]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
        self._board_from = step + 1
        self._metrics = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def _write(self, status: str) -> None:
        record = {
            "schema": 1,
            "verb": self.verb,
            "status": status,
            "started": self._born,
            "seconds": round(self.seconds, 3),
            "danlu": __version__,
            "machine": machine(),
            "config": self.config.plain(),
            "parent": self.parent,
            "measured": self.measured,
        }
        write_json(self.path / "run.json", record)
        row = (str(self.path.absolute()), self.verb, status, self._born, record["seconds"])
        texts = (json.dumps(record["config"]), json.dumps(self.measured), self.parent)
        with _database(self.path) as database:
            database.execute("insert or replace into runs values (?,?,?,?,?,?,?,?)", row + texts)


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    """The table of the runs beside, or above, the run at `path`. Raises StorageError."""
    root = next((p for p in path.absolute().parents if p.name == "runs"), path.absolute().parent)
    file = root / "runs.sqlite"
    try:
        with closing(sqlite3.connect(file, timeout=30)) as database, database:
            database.execute(_TABLE)
            yield database
    except sqlite3.Error as error:
        raise StorageError(
            tr(f"cannot use {file}: {error}", f"无法使用 {file}:{error}"),
            tr(
                "is the disk full? the file is only a list of runs: if it is damaged, delete it",
                "磁盘是否已满?该文件只是运行的清单;若已损坏,删除即可",
            ),
        ) from None


def all_runs(root: Path) -> list[dict[str, Any]]:
    """The rows of `root`/runs.sqlite, newest first."""
    if not (root / "runs.sqlite").exists():
        return []
    with _database(root / "any") as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("select * from runs order by started desc, rowid desc")]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line cut off by a kill is dropped."""
    lines = []
    file = path / "metrics.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break  # written by halves when the process was killed; what follows is computed again
    return lines


def _differences(found: Any, mine: Any, place: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(mine, dict):
        keys = [key for key in mine if found.get(key) != mine[key]]
        return [
            text for key in keys for text in _differences(found.get(key), mine[key], f"{place}.{key}" if place else key)
        ]
    return [f"{place.removeprefix('config.')} ({found} -> {mine})"]
