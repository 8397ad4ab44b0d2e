from pathlib import Path

import pytest

from danlu.core import runs
from danlu.core.config import Config
from danlu.core.run import Run


def test_nothing_yet_says_how_to_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs.run(runs.Config(folder=tmp_path))
    assert "danlu quickstart" in capsys.readouterr().out


def test_a_row_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "160")
    folder = tmp_path / "runs"
    with Run(folder / "mine" / "base", "pretrain", Config()) as run:
        run.measured |= {"val_loss": 3.51234567, "tokens": 1600, "layers": 4}
    with pytest.raises(KeyError), Run(folder / "other", "int8", Config()):
        raise KeyError
    runs.run(runs.Config(folder=folder))
    out = capsys.readouterr().out
    base, other = (next(line for line in out.splitlines() if name in line) for name in ("mine/base", "other"))
    assert "pretrain" in base
    assert "done" in base
    assert "val_loss 3.5123" in base
    assert "tokens 1600" in base
    assert "failed" in other
