import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from danlu import pipeline
from danlu.core.errors import ConfigError, DataError
from danlu.core.folder import ModelFolder
from danlu.pipeline import find_recipe, load_recipe, recipes, run_recipe
from danlu.stages import pretrain
from tests.commands import Result
from tests.conftest import couplets

NAMES = ["data", "tokenizer", "base", "int8"]
MODEL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TRAIN = {"steps": 4, "batch_size": 2, "seq_len": 32, "precision": "fp32", "checkpoint_every": 2}


class Kitchen:
    """A recipe file, its corpus and its folder, in the working folder."""

    def __init__(self) -> None:
        self.corpus, self.run, self.file = Path("texts"), Path("run"), Path("recipe.yaml")
        settings: list[dict[str, Any]] = [
            {"source": ["texts"], "out": "{run}/data", "valid": 0.2},
            {
                "data": "{run}/data",
                "out": "{run}/tokenizer",
                "kind": "char",
                "vocab_size": 300,
                "chat_template": "none",
            },
            {"data": "{run}/data", "tokenizer": "{run}/tokenizer", "out": "{run}/base", "model": MODEL, "train": TRAIN},
            {"base": "{run}/base/model", "out": "{run}/int8"},
        ]
        verbs = ["data prepare", "tokenizer train", "pretrain", "int8"]
        steps = zip(NAMES, verbs, settings, strict=True)
        self.recipe: dict[str, Any] = {
            "name": "mine",
            "run": "run",
            "steps": [{"name": name, "verb": verb, "settings": kept} for name, verb, kept in steps],
        }

    def write(self, number: int, seed: int) -> None:
        (self.corpus / f"{number}.txt").write_text("\n".join(couplets(8, seed=seed)), encoding="utf-8")

    def settings(self, name: str) -> dict[str, Any]:
        return self.recipe["steps"][NAMES.index(name)]["settings"]

    def cook(self) -> list[str]:
        """Run the recipe; the names of the steps that were not done before."""
        self.file.write_text(yaml.safe_dump(self.recipe, allow_unicode=True), encoding="utf-8")
        recipe, results = run_recipe(self.file)
        assert [result.name for result in results] == NAMES
        assert recipe.run == self.run
        self.results = dict(zip(NAMES, results, strict=True))
        return [result.name for result in results if not result.skipped]


@pytest.fixture(scope="module")
def cooked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose recipe has run."""
    folder = tmp_path_factory.mktemp("cooked")
    with contextlib.chdir(folder):
        kitchen = Kitchen()
        kitchen.corpus.mkdir()
        for number in range(30):
            kitchen.write(number, seed=number)
        assert kitchen.cook() == NAMES
    return folder


@pytest.fixture
def kitchen(tmp_path: Path, cooked: Path) -> Iterator[Kitchen]:
    """A copy of it: a project that was moved is still done."""
    folder = tmp_path / "kitchen"
    shutil.copytree(cooked, folder)
    with contextlib.chdir(folder):
        yield Kitchen()


def test_what_is_done_is_skipped_by_content(kitchen: Kitchen):
    for file in kitchen.corpus.iterdir():
        file.touch()
    assert kitchen.cook() == []
    assert kitchen.results["base"].metrics["steps"] == 4
    assert kitchen.results["base"].wall_seconds > 0
    assert kitchen.results["data"].metrics["splits"]["train"]["rows"] > 0


@pytest.mark.parametrize(
    ("step", "change", "again"),
    [
        ("int8", {"rest": "fp32"}, ["int8"]),
        ("base", {"train": {**TRAIN, "steps": 5}}, ["base", "int8"]),
        ("tokenizer", {"min_frequency": 200}, ["tokenizer", "base", "int8"]),
        ("data", {"valid": 0.3}, ["data", "tokenizer", "base", "int8"]),
    ],
)
def test_a_changed_setting_reruns_that_step_and_those_after(
    step: str, change: dict, again: list[str], kitchen: Kitchen
):
    before = ModelFolder.open(kitchen.run / "int8" / "model").hash
    kitchen.settings(step).update(change)
    assert kitchen.cook() == again
    assert ModelFolder.open(kitchen.run / "int8" / "model").hash != before
    assert kitchen.cook() == []


def test_a_step_whose_result_is_the_same_stops_the_rerun(kitchen: Kitchen):
    """Another way of saving checkpoints gives the same model: what reads it is still done."""
    kitchen.settings("base")["train"] = {**TRAIN, "checkpoint_every": 3}
    assert kitchen.cook() == ["base"]


def test_changed_input_reruns_what_reads_it(kitchen: Kitchen):
    kitchen.write(0, seed=99)
    assert kitchen.cook() == NAMES
    assert kitchen.cook() == []


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("data/train.jsonl", ["data"]),
        ("tokenizer/tokenizer.json", ["tokenizer"]),
        ("base/model/model.safetensors", ["base"]),
        ("base/model/config.json", ["base"]),
        ("int8/model/model.safetensors", ["int8"]),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_tampered_output_is_made_again(file: str, again: list[str], damage: str, kitchen: Kitchen):
    path = kitchen.run / file
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    if damage == "gone":
        path.unlink()
    assert kitchen.cook() == again, "what reads it needs no rerun: it comes out the same"
    assert path.read_bytes() == whole
    assert kitchen.cook() == []


def test_output_that_is_gone_is_made_again(kitchen: Kitchen):
    shutil.rmtree(kitchen.run / "base")
    assert kitchen.cook() == ["base"]


def test_measuring_a_model_later_changes_nothing(kitchen: Kitchen):
    ModelFolder.open(kitchen.run / "base" / "model").record(evaluation={"form": 0.9})
    assert kitchen.cook() == []


def test_a_step_that_fails_keeps_the_others(kitchen: Kitchen, capsys: pytest.CaptureFixture[str]):
    kitchen.settings("base")["train"] = {**TRAIN, "batch_size": 9999}
    with pytest.raises(DataError, match="less than one batch of 9999"):
        kitchen.cook()
    assert "stopped in step 'base'" in capsys.readouterr().err
    kitchen.settings("base")["train"] = TRAIN
    assert kitchen.cook() == ["base"]


class Killed(Exception):  # noqa: N818
    """Stands for a kill."""


def test_an_interrupted_step_resumes(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    whole = (kitchen.run / "base" / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(kitchen.run / "base")
    save = pretrain.Stage.save

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr(pretrain.Stage, "save", die)
    with pytest.raises(Killed):
        kitchen.cook()
    assert (kitchen.run / "base" / "checkpoints" / "step-00000004").is_dir()
    spent = json.loads((kitchen.run / "steps" / "base.seconds").read_text())
    monkeypatch.setattr(pretrain.Stage, "save", save)
    capsys.readouterr()
    assert kitchen.cook() == ["base"]
    assert "resuming at step 4" in capsys.readouterr().err
    assert (kitchen.run / "base" / "model" / "model.safetensors").read_bytes() == whole
    assert kitchen.results["base"].wall_seconds > spent
    assert not (kitchen.run / "steps" / "base.seconds").exists()


def test_an_interrupted_rerun_is_not_thrown_away(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    kitchen.settings("base")["train"] = {**TRAIN, "steps": 6}
    with monkeypatch.context() as patched:
        patched.setattr(pretrain.Stage, "save", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            kitchen.cook()
    capsys.readouterr()
    assert kitchen.cook() == ["base", "int8"]
    assert "resuming at step 6" in capsys.readouterr().err


# A run that stands in the way is removed only when the recipe made it.


def test_a_run_that_the_recipe_did_not_make_is_kept(kitchen: Kitchen):
    (kitchen.run / "steps" / "base.json").unlink()
    kitchen.settings("base")["train"] = {**TRAIN, "steps": 5}
    with pytest.raises(ConfigError, match="another run"):
        kitchen.cook()
    assert ModelFolder.open(kitchen.run / "base" / "model")


@pytest.mark.parametrize("how", ["named", "linked"])
def test_a_run_outside_the_recipes_folder_is_kept(how: str, kitchen: Kitchen, tmp_path: Path):
    outside = tmp_path / "outside"
    stamp = kitchen.run / "steps" / "base.json"
    if how == "named":
        kitchen.settings("base")["out"] = str(outside)
        kitchen.settings("int8")["base"] = str(outside / "model")
        assert kitchen.cook() == ["base", "int8"]
    else:
        (kitchen.run / "base").rename(outside)
        (kitchen.run / "base").symlink_to(outside)
        assert kitchen.cook() == ["base"], "not where the stamp says: the run itself finds that it is done"
    assert json.loads(stamp.read_text())["outputs"]["out"]["inside"] is None
    kitchen.settings("base")["train"] = {**TRAIN, "steps": 5}
    with pytest.raises(ConfigError, match="another run"):
        kitchen.cook()
    assert ModelFolder.open(outside / "model")


def test_a_run_at_another_place_than_the_stamp_says_is_kept(kitchen: Kitchen):
    (kitchen.run / "base").rename(kitchen.run / "elsewhere")
    kitchen.settings("base")["out"] = "{run}/elsewhere"
    kitchen.settings("int8")["base"] = "{run}/elsewhere/model"
    with pytest.raises(ConfigError, match="another run"):
        kitchen.cook()
    assert ModelFolder.open(kitchen.run / "elsewhere" / "model")


def test_the_whole_folder_is_never_removed(kitchen: Kitchen):
    """Even where a step is told to write into the recipe's folder itself."""
    kitchen.settings("base")["out"] = "{run}"
    kitchen.settings("int8")["base"] = "{run}/model"
    assert kitchen.cook() == ["base", "int8"]
    kitchen.settings("base")["train"] = {**TRAIN, "steps": 5}
    with pytest.raises(ConfigError, match="another run"):
        kitchen.cook()
    assert (kitchen.run / "data" / "train.jsonl").exists()


# Recipes as such


def test_a_folder_of_the_same_name_does_not_hide_a_packaged_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    assert find_recipe("quickstart") == recipes()["quickstart"]
    (tmp_path / "mine.yaml").write_text("name: mine\nsteps: []")
    assert find_recipe("mine.yaml") == Path("mine.yaml")
    with pytest.raises(ConfigError, match="packaged ones: .*quickstart"):
        find_recipe("none")


def test_run_stands_for_the_folder_everywhere(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nrun: runs/mine\nsteps:\n"
        "- {name: a, verb: data prepare, settings: {source: ['{run}/a', b], out: '{run}/c', steps: [{clean: {control: false}}]}}"
    )
    recipe, ((_, _, config),) = load_recipe(file)
    assert (recipe.run, config.source, config.out) == (
        Path("runs/mine"),
        [Path("runs/mine/a"), Path("b")],
        Path("runs/mine/c"),
    )
    recipe, ((_, _, config),) = load_recipe(file, tmp_path / "x")
    assert (recipe.run, config.out) == (tmp_path / "x", tmp_path / "x" / "c")


def test_through_the_command_line(kitchen: Kitchen, danlu: Callable[..., Result]):
    result = danlu("run", kitchen.file, cwd=Path.cwd())
    assert result.code == 0, result.err
    assert result.err.count("done before") == 4
    for name in NAMES:
        assert name in result.out
    kitchen.settings("int8")["base"] = "{run}/nowhere"
    kitchen.file.write_text(yaml.safe_dump(kitchen.recipe), encoding="utf-8")
    result = danlu("run", kitchen.file, cwd=Path.cwd())
    assert result.code == 1
    assert "stopped in step 'int8'" in result.err
    assert f"no model folder at {kitchen.run}/nowhere" in result.err
    assert "Traceback" not in result.err


def test_a_stamp_is_written_last(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch):
    """Killed between the end of a step and its stamp: the step is looked at again, and finds itself done."""
    began = time.time()
    shutil.rmtree(kitchen.run / "int8")
    write = pipeline.write_json

    def die_at_the_stamp(path: Path, value: Any) -> None:
        if path.name == "int8.json":
            raise Killed
        write(path, value)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "write_json", die_at_the_stamp)
        with pytest.raises(Killed):
            kitchen.cook()
    weights = kitchen.run / "int8" / "model" / "model.safetensors"
    made = weights.stat().st_mtime
    assert made >= began - 1
    assert kitchen.cook() == ["int8"]
    assert weights.stat().st_mtime == made
