"""`danlu pull` as a person sees it, and once, for real, over the user's own npm."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from danlu.core.assets import catalogue
from danlu.core.errors import AssetError
from danlu.core.pull import Config, run
from tests.core.test_assets import tiny_asset


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return tiny_asset(tmp_path, monkeypatch)


@pytest.mark.parametrize("config", [Config(), Config(list=True), Config(name="tiny", list=True)])
def test_it_lists_all_assets(
    config: Config, archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    run(config)
    shown = capsys.readouterr().out
    assert all(name in shown for name in catalogue())
    assert shown.count("✓") == 0
    run(Config(name="tiny", source=f"file:{archive}"))
    capsys.readouterr()
    run(config)
    assert capsys.readouterr().out.count("✓") == 1


def test_stdout_is_the_folder_alone(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Config(name="tiny", source=f"file:{archive}"))
    folder = Path(capsys.readouterr().out.rstrip("\n"))
    assert (folder / "one.json").is_file()


def test_an_unknown_name_and_an_unknown_source(archive: Path) -> None:
    with pytest.raises(AssetError, match="tiny"):
        run(Config(name="tinny"))
    with pytest.raises(AssetError, match="file:"):
        run(Config(name="tiny", source="ftp"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_both_languages(language: str, archive: Path) -> None:
    code = "from danlu.core.pull import Config, run; run(Config())"
    environment = {"DANLU_LANG": language, "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment, check=True
    )
    shown = "全唐诗" if language == "zh" else "Chinese poems"
    assert shown in done.stdout


@pytest.mark.slow
def test_the_poems_really_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DANLU_CACHE", str(tmp_path))
    run(Config(name="chinese-poetry"))
    folder = Path(capsys.readouterr().out.rstrip("\n"))
    counts = dict.fromkeys(("tang", "song"), 0)
    for age in counts:
        for file in (folder / "quantangshi").glob(f"poet.{age}.*.json"):
            counts[age] += len(json.loads(file.read_text(encoding="utf-8")))
    assert counts == {"tang": 57_607, "song": 254_248}
    assert "MIT" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert (folder / "mengxue" / "tangshisanbaishou.json").is_file()
