from pathlib import Path

import pytest

from danlu import run
from danlu.core.errors import ConfigError
from danlu.pipeline import StepResult, recipes


def test_list_names_the_packaged_recipes(capsys: pytest.CaptureFixture[str]):
    run.run(run.Config(recipe="list"))
    out = capsys.readouterr().out
    for name in recipes():
        assert name in out


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(ConfigError, match="quickstart"):
        run.run(run.Config(recipe="none"))


def test_a_recipe_runs_where_it_is_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "texts"
    source.mkdir()
    for number in range(40):
        (source / f"{number}.txt").write_text(f"text number {number}\n")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"name: mine\nrun: nowhere\nsteps:\n- {{name: data, verb: data prepare, settings: {{source: [{source}], out: '{{run}}/data'}}}}"
    )
    for told in ("", "done before"):
        run.run(run.Config(recipe=str(recipe), out=tmp_path / "out"))
        shown = capsys.readouterr()
        assert "data prepare" in shown.out
        assert told in shown.out
    assert (tmp_path / "out" / "data" / "train.jsonl").exists()
    assert not Path("nowhere").exists()


def test_steps_are_shown(capsys: pytest.CaptureFixture[str]):
    run.print_steps([StepResult(name="base", verb="pretrain", wall_seconds=12.34, skipped=True)])
    out = capsys.readouterr().out
    for part in ("base", "pretrain", "12.3", "done before"):
        assert part in out
