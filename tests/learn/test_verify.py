"""A proof is run for real, in a process of its own; the verdict is what its JSON says."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.errors import ConfigError, DanluError
from danlu.learn import verify
from danlu.learn.roadmap import load_roadmap
from danlu.learn.verify import Config, look_up, missing_needs, run, satisfies
from tests.learn.course import row, working

REPORT = {
    "comparison": [{"model": "base", "form": 0.5}, {"model": "sft", "form": 0.97}],
    "ok": True,
    "word": "x",
    "deep": {"a": 1},
}


@pytest.mark.parametrize(
    ("metric", "value"),
    [("comparison.0.form", 0.5), ("comparison.model=sft.form", 0.97), ("ok", 1.0), ("deep.a", 1.0)],
)
def test_look_up(metric: str, value: float):
    assert look_up(REPORT, metric) == value


@pytest.mark.parametrize(
    "metric", ["word", "deep", "nothing", "comparison.2.form", "comparison.model=int8.form", "deep.a.b"]
)
def test_look_up_says_what_is_there(metric: str):
    with pytest.raises(DanluError, match="comparison") as caught:
        look_up(REPORT, metric, "some-row")
    assert "some-row" in caught.value.what
    assert metric in caught.value.what


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e6, 1e6))
def test_satisfies_orders_as_numbers_do(value: float, bound: float):
    text = f"{bound:f}"
    for sign, holds in ((">=", value >= float(text)), ("<", value < float(text)), ("==", value == float(text))):
        assert satisfies(value, f"{sign} {text}") is holds


def test_nan_satisfies_nothing():
    assert not any(satisfies(math.nan, f"{sign} 1e-4") for sign in (">=", "<=", "==", ">", "<"))
    assert satisfies(9e-5, "<= 1e-4")
    assert not satisfies(2e-4, "<= 1e-4")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Writes {"score": N} to the path given, and counts its runs."""
    path = tmp_path / "prove.py"
    path.write_text(
        "import json, pathlib, sys\n"
        "pathlib.Path('runs.txt').open('a').write('x')\n"
        "print('a line of the log')\n"
        "json.dump({'score': float(sys.argv[1])}, open(sys.argv[2], 'w'))\n"
    )
    return path


def test_met(use_course: Callable[..., Path], script: Path, capsys: pytest.CaptureFixture[str]):
    use_course(working("good", f"python {script} 0.97 {{json}}", "score", ">= 0.95"))
    run(Config(id="good", json_=Path("verdict.json")))
    verdict = json.loads(Path("verdict.json").read_text())
    assert verdict.pop("minutes") >= 0
    assert verdict == {"id": "good", "metric": "score", "value": 0.97, "expect": ">= 0.95", "ok": True}
    assert "0.97" in capsys.readouterr().out


def test_not_met_is_an_error_and_still_written(use_course: Callable[..., Path], script: Path):
    use_course(working("poor", f"python {script} 0.9 {{json}}", "score", ">= 0.95"))
    with pytest.raises(DanluError, match=r"poor: score = 0\.9") as caught:
        run(Config(id="poor", json_=Path("verdict.json")))
    assert caught.value.exit_code != 0
    verdict = json.loads(Path("verdict.json").read_text())
    assert (verdict["ok"], verdict["value"]) == (False, 0.9)


def test_nan_is_not_met_and_leaves_valid_json(use_course: Callable[..., Path], script: Path):
    use_course(working("nan", f"python {script} nan {{json}}", "score", ">= 0"))
    with pytest.raises(DanluError, match="nan"):
        run(Config(id="nan", json_=Path("verdict.json")))
    assert json.loads(Path("verdict.json").read_text())["value"] is None


def test_all_runs_each_command_once(use_course: Callable[..., Path], script: Path):
    command = f"python {script} 0.5 {{json}}"
    use_course(row("later"), working("low", command, "score", ">= 0.1"), working("high", command, "score", ">= 0.9"))
    with pytest.raises(DanluError, match="high"):
        run(Config(id="all", json_=Path("all.json")))
    verdicts = json.loads(Path("all.json").read_text())
    assert [(verdict["id"], verdict["ok"]) for verdict in verdicts] == [("low", True), ("high", False)]
    assert Path("runs.txt").read_text() == "x"


def test_failing_command_shows_its_last_lines(use_course: Callable[..., Path], tmp_path: Path):
    (tmp_path / "fail.py").write_text("import sys; print('the reason'); sys.exit(3)")
    use_course(working("bad", f"python {tmp_path}/fail.py {{json}}", "score", ">= 0"))
    with pytest.raises(DanluError, match="3") as caught:
        run(Config(id="bad", json_=Path("verdict.json")))
    assert "the reason" in caught.value.do
    assert json.loads(Path("verdict.json").read_text())["ok"] is False


@pytest.mark.parametrize("body", ["pass", "import sys; open(sys.argv[1], 'w').write('not json')"])
def test_command_that_writes_no_json(use_course: Callable[..., Path], tmp_path: Path, body: str):
    (tmp_path / "silent.py").write_text(body)
    use_course(working("silent", f"python {tmp_path}/silent.py {{json}}", "score", ">= 0"))
    with pytest.raises(DanluError, match="JSON"):
        run(Config(id="silent"))


def test_overtime_ends_the_command_and_what_it_started(
    use_course: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verify, "_PATIENCE", -39.0)  # 60 * (-39 * 0.05 + 2) = 3 seconds
    (tmp_path / "hang.py").write_text(
        "import os, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('pid').write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    use_course(working("slow", f"python {tmp_path}/hang.py {{json}}", "score", ">= 0"))
    with pytest.raises(DanluError, match="slow"):
        run(Config(id="slow"))
    assert _gone(int(Path("pid").read_text()))


def _gone(pid: int) -> bool:
    for _ in range(50):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_script_outside_the_checkout_is_refused(use_course: Callable[..., Path]):
    use_course(working("lost", "python bench/no_such_script.py {json}", "score", ">= 0"))
    with pytest.raises(DanluError, match="no_such_script") as caught:
        run(Config(id="lost"))
    assert "clone" in caught.value.do or "克隆" in caught.value.do


def test_unknown_id_names_the_nearest(use_course: Callable[..., Path]):
    use_course(row("attention"))
    with pytest.raises(ConfigError) as caught:
        run(Config(id="attentoin"))
    assert "attention" in caught.value.do


def test_planned_row_says_so(use_course: Callable[..., Path]):
    use_course(row("later"))
    with pytest.raises(DanluError, match=r"planned|计划"):
        run(Config(id="later"))
    with pytest.raises(DanluError, match=r"no row|没有能跑"):
        run(Config(id="all"))


def test_what_the_machine_lacks_is_named_and_left_out(
    use_course: Callable[..., Path], script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", "")
    command = f"python {script} 1 {{json}}"
    course = use_course(
        working("packed", command, "score", "== 1", needs=["docker"]), working("plain", command, "score", "== 1")
    )
    assert missing_needs(load_roadmap(course / "roadmap.yaml").rows[0]) == ["docker"]
    with pytest.raises(DanluError, match="packed") as caught:
        run(Config(id="packed"))
    assert "Docker" in caught.value.do
    run(Config(id="all", json_=Path("all.json")))
    assert [verdict["id"] for verdict in json.loads(Path("all.json").read_text())] == ["plain"]
    assert "packed" in capsys.readouterr().err
