import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from danlu.core.config import Config
from danlu.core.errors import ConfigError, Interrupted, StorageError
from danlu.core.run import Run, all_runs, read_metrics


class Inner(Config):
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)


class Settings(Config):
    out: Path = Path("x")
    train: Inner = Inner()


def make(path: Path, lr: float = 0.1, **options) -> Run:
    return Run(path, "pretrain", Settings(train=Inner(lr=lr)), **options)


def record(path: Path) -> dict:
    return json.loads((path / "run.json").read_text(encoding="utf-8"))


def finish(path: Path, **options) -> None:
    with make(path, **options) as run:
        run.measured["val_loss"] = 3.5
        run.model_path.mkdir()


def test_a_run_tells_its_story(tmp_path: Path):
    path = tmp_path / "runs" / "a" / "b"
    run = make(path, parent="abc")
    assert not run.done
    with run:
        assert record(path)["status"] == "running"
        run.log(1, {"loss": 4.0})
        assert read_metrics(path)[0]["loss"] == 4.0, "readable at once"
        run.measured["val_loss"] = 3.5
        run.model_path.mkdir()
    told = record(path)
    assert (told["status"], told["verb"], told["parent"], told["measured"]) == (
        "done",
        "pretrain",
        "abc",
        {"val_loss": 3.5},
    )
    assert told["config"]["train"] == {"lr": 0.1, "betas": [0.9, 0.95]}
    assert told["machine"]
    assert make(path, parent="abc").done
    (row,) = all_runs(tmp_path / "runs")
    assert (row["path"], row["status"], json.loads(row["measured"])) == (str(path), "done", {"val_loss": 3.5})


@pytest.mark.parametrize(
    ("error", "status"),
    [(Interrupted("x"), "interrupted"), (KeyboardInterrupt(), "interrupted"), (ValueError("x"), "failed")],
)
def test_how_it_ended_is_kept(error: BaseException, status: str, tmp_path: Path):
    with pytest.raises(type(error)), make(tmp_path / "a"):
        raise error
    assert record(tmp_path / "a")["status"] == status
    assert not make(tmp_path / "a").done


def test_another_run_is_refused_and_the_difference_named(tmp_path: Path):
    finish(tmp_path / "a")
    other = make(tmp_path / "a", lr=0.2)
    with pytest.raises(ConfigError, match=r"train\.lr \(0\.1 -> 0\.2\)"):
        assert other.done
    with pytest.raises(ConfigError, match="another run"):
        other.__enter__()
    with pytest.raises(ConfigError, match="parent"):
        make(tmp_path / "a", parent="abc").__enter__()
    assert record(tmp_path / "a")["config"]["train"]["lr"] == 0.1


def test_an_attempt_that_came_to_nothing_is_no_obstacle(tmp_path: Path):
    """A mistyped path must not block the folder."""
    with pytest.raises(ValueError, match="typo"), make(tmp_path / "a"):
        raise ValueError("typo")
    finish(tmp_path / "a", lr=0.2)
    assert record(tmp_path / "a")["config"]["train"]["lr"] == 0.2


@pytest.mark.parametrize("work", ["checkpoints/step-00000010", "model"])
def test_an_attempt_that_took_time_is_kept(work: str, tmp_path: Path):
    with pytest.raises(ValueError, match="x"), make(tmp_path / "a"):
        (tmp_path / "a" / work).mkdir(parents=True)
        raise ValueError("x")
    with pytest.raises(ConfigError, match="another run"):
        make(tmp_path / "a", lr=0.2).__enter__()


def test_a_run_whose_model_is_gone_is_not_done(tmp_path: Path):
    finish(tmp_path / "a")
    (tmp_path / "a" / "model").rmdir()
    assert not make(tmp_path / "a").done


def test_time_and_measurements_of_earlier_attempts_count(tmp_path: Path):
    with pytest.raises(Interrupted), make(tmp_path / "a") as run:
        run.measured["fill"] = 0.9
        run._started -= 100
        raise Interrupted("x")
    with make(tmp_path / "a") as run:
        assert run.seconds > 100
        assert run.measured == {"fill": 0.9}
    assert record(tmp_path / "a")["seconds"] > 100


def test_rewind_forgets_what_is_computed_again(tmp_path: Path):
    with make(tmp_path / "a") as run:
        for step in range(1, 6):
            run.log(step, {"loss": float(step)})
        run.rewind(3)
        run.log(4, {"loss": 40.0})
        run.rewind(4)
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path / "a")] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_a_line_cut_off_by_a_kill_does_not_spoil_those_after(tmp_path: Path):
    with make(tmp_path / "a") as run:
        run.log(1, {"loss": 1.0})
        run.log(2, {"loss": 2.0})
    file = tmp_path / "a" / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert [line["step"] for line in read_metrics(tmp_path / "a")] == [1]
    with make(tmp_path / "a") as run:
        run.rewind(1)
        run.log(2, {"loss": 2.5})
    assert [line["step"] for line in read_metrics(tmp_path / "a")] == [1, 2]
    assert read_metrics(tmp_path) == []


def test_metrics_are_json_for_every_reader(tmp_path: Path):
    with make(tmp_path / "a") as run:
        run.log(1, {"loss": 2.0, "grad_norm": float("inf"), "samples": ["春"]})
    text = (tmp_path / "a" / "metrics.jsonl").read_text(encoding="utf-8")
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (line["grad_norm"], line["samples"]) == (None, ["春"])


def test_tensorboard_keeps_the_steps_before_a_resume(tmp_path: Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for first, last, factor in ((1, 4, 1), (3, 5, 10)):  # killed after 4, resumed from the checkpoint at 2
        with make(tmp_path / "a") as run:
            run.rewind(first - 1)
            for step in range(first, last + 1):
                run.log(step, {"loss": float(factor * step)})
    events = accumulator.EventAccumulator(str(tmp_path / "a" / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(1, 1), (2, 2), (3, 30), (4, 40), (5, 50)]


def test_all_runs_newest_first(tmp_path: Path):
    assert all_runs(tmp_path) == []
    for name in ("one", "two"):
        finish(tmp_path / "runs" / name)
    assert [Path(row["path"]).name for row in all_runs(tmp_path / "runs")] == ["two", "one"]


def test_a_broken_table_of_runs_is_told(tmp_path: Path):
    (tmp_path / "runs.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match=r"runs\.sqlite"):
        make(tmp_path / "a").__enter__()
    with pytest.raises(StorageError, match=r"runs\.sqlite"):
        all_runs(tmp_path)


def test_a_table_that_another_process_writes_is_waited_for(tmp_path: Path):
    finish(tmp_path / "a")
    with sqlite3.connect(tmp_path / "runs.sqlite") as reader:
        assert reader.execute("select count(*) from runs").fetchone() == (1,)
        finish(tmp_path / "b")
        assert reader.execute("select count(*) from runs").fetchone() == (2,)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(StorageError, match="cannot write"):
            make(place).__enter__()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_while_logging_is_told(small_disk: Callable[[str], Path]):
    disk = small_disk("128k")
    with pytest.raises(StorageError, match="full"), make(disk / "a") as run:
        (disk / "filler").write_bytes(b"x" * shutil.disk_usage(disk).free)
        run.log(1, {"samples": ["x" * 10_000]})
