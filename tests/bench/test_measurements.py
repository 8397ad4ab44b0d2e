"""The measurements' own tools: what a ratio means, how runs take turns, what is written and gathered."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def common() -> ModuleType:
    return load("_common")


@pytest.fixture
def report() -> ModuleType:
    return load("report")


def test_a_ratio_above_one_means_that_ours_took_less(common: ModuleType):
    raw = {"ours": [1.0, 2.0, 4.0], "theirs": [3.0, 4.0, 4.0]}
    assert common.ratio(raw, "ours", "theirs") == {"median": 2.0, "min": 1.0, "max": 3.0, "runs": 3}


def test_all_run_once_a_round_and_take_turns_at_beginning(common: ModuleType):
    order: list[str] = []
    raw = common.interleave({name: lambda name=name: order.append(name) for name in "abc"}, repeats=3)
    assert ["".join(order[at : at + 3]) for at in range(0, 12, 3)] == ["abc", "bca", "cab", "abc"]
    assert {name: len(times) for name, times in raw.items()} == {"a": 3, "b": 3, "c": 3}  # the first does not count


def test_a_run_may_measure_itself(common: ModuleType):
    sizes = iter([100, 7, 8])
    assert common.interleave({"bytes": lambda: next(sizes)}, repeats=2) == {"bytes": [7.0, 8.0]}


def test_processor_time_leaves_waiting_out(common: ModuleType):
    import time

    common.arguments("words", 3).parse_args(["--clock", "cpu"])
    assert max(common.interleave({"sleep": lambda: time.sleep(0.1)}, repeats=2)["sleep"]) < 0.05
    assert common.machine()["clock"] == "cpu"


def test_an_unknown_clock_is_refused(common: ModuleType, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        common.arguments("words", 3).parse_args(["--clock", "sun"])
    assert "wall, cpu" in capsys.readouterr().err


def measured(common: ModuleType, path: Path) -> None:
    raw = {"danlu": [1.0, 1.0], "peer": [2.0, 4.0]}
    common.write(path, "a work", {"danlu_vs_peer": common.ratio(raw, "danlu", "peer")}, raw, difference=1e-7)


def test_what_is_written_has_the_one_shape(common: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    measured(common, tmp_path / "x.json")
    found = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert list(found) == ["machine", "work", "ratios", "difference", "raw"]
    assert found["ratios"]["danlu_vs_peer"] == {"median": 3.0, "min": 2.0, "max": 4.0, "runs": 2}
    assert {"cpu", "cores", "torch", "threads", "clock"} <= set(found["machine"])
    assert "| danlu_vs_peer | 3 | 2 | 4 | 2 |" in capsys.readouterr().out


def test_the_report_gathers_all_of_them(common: ModuleType, report: ModuleType, tmp_path: Path):
    (tmp_path / "results").mkdir()
    for name in ("two", "one"):
        measured(common, tmp_path / "results" / f"{name}.json")
    report.main(tmp_path / "results", tmp_path / "RESULTS.md")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert text.index("## one") < text.index("## two")
    assert text.count("| danlu_vs_peer | 3 | 2 | 4 | 2 |") == 2
    assert "python bench/one.py" in text


def test_nothing_measured_is_told(report: ModuleType, tmp_path: Path):
    with pytest.raises(SystemExit, match="make bench"):
        report.main(tmp_path, tmp_path / "RESULTS.md")


@pytest.fixture
def on_path() -> Iterator[None]:
    """As when a script of bench/ runs: its folder comes first."""
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("script", sorted(file.stem for file in BENCH.glob("[!_]*.py") if file.stem != "report"))
def test_every_script_tells_how_to_use_it(script: str, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended:
        load(script).main()
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out
