import json
from pathlib import Path

import pytest

from danlu.core.errors import FolderError
from danlu.models.account import account
from danlu.models.anatomy import open_anatomy
from danlu.models.show import Config, run


def test_json_is_the_account(folder: Path, capsys: pytest.CaptureFixture[str]):
    told = run(Config(model=folder, context=32, batch=2, json=True))
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(told))
    on_disk = (folder / "model.safetensors").stat().st_size
    assert told == {**account(open_anatomy(folder), 32, 2), "on_disk": on_disk}
    assert run(Config(model=folder / "config.json", json=True))["on_disk"] == 0


def test_tables(folder: Path, capsys: pytest.CaptureFixture[str]):
    told = run(Config(model=folder))
    out = capsys.readouterr().out
    assert f"{told['parameters']['total']:,}" in out
    assert f"{told['on_disk'] / 1000:.1f} kB" in out


def test_no_model(tmp_path: Path):
    with pytest.raises(FolderError, match="no model folder|没有模型文件夹"):
        run(Config(model=tmp_path / "absent"))


def test_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    from danlu.cli import main

    with pytest.raises(SystemExit) as end:
        main(["model", "show", str(folder), "--json", "--batch", "2"])
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)["workload"]["batch"] == 2
