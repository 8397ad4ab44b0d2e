"""Recipes: YAML that chains verbs, skips what is done and resumes what was interrupted.

A recipe is `{name, run, steps: [{name, verb, settings: {...}}]}`; `{run}` in a value stands for the run's folder. A step
is done when a stamp says that the same verb, with the same settings, read inputs of the same content, and that its
outputs are still what it wrote. Else it runs again; a run that it made before is replaced. An interrupted training
step goes on from its own checkpoint.
"""

import difflib
import importlib
import json
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from danlu import __version__
from danlu.cli import find_verb, verbs
from danlu.core.config import Config, doc, paths_of
from danlu.core.errors import ConfigError, FolderError
from danlu.core.files import hash_path, read_json, remove_folder, write_json
from danlu.core.folder import ModelFolder
from danlu.core.i18n import tr

__all__ = ["Recipe", "Step", "StepResult", "find_recipe", "load_recipe", "recipes", "run_recipe"]

console = Console(stderr=True)
RECIPES = Path(__file__).parent / "recipes"


class Step(Config):
    """One verb with its settings."""

    name: str = doc(..., "its own among the steps", "步骤名,不可重复", pattern=r"^[\w.-]+$")
    verb: str
    settings: dict[str, Any] = doc({}, "the verb's settings", "该命令的设置")


class Recipe(Config):
    """A chain of steps over one run folder."""

    name: str
    run: Path = Path("runs/recipe")
    steps: tuple[Step, ...]
    describe: str = ""


class StepResult(Config):
    """What a step took and measured."""

    name: str
    verb: str
    wall_seconds: float
    metrics: dict[str, Any] = {}
    skipped: bool = False


def recipes() -> dict[str, Path]:
    """The recipes that come with danlu."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}


def find_recipe(name: str | Path) -> Path:
    """A path, or the name of a packaged recipe. Raises ConfigError."""
    path = Path(name)
    if path.is_file():
        return path
    if str(name) in recipes():
        return recipes()[str(name)]
    raise ConfigError(
        tr(f"no such recipe: {name}", f"没有这个配方:{name}"),
        tr(f"packaged ones: {', '.join(recipes())}", f"自带的有:{'、'.join(recipes())}"),
    )


def load_recipe(path: Path, run: Path | None = None) -> tuple[Recipe, list[tuple[Step, Any, Config]]]:
    """The recipe, and for each step its module and its checked settings; faults are told before anything runs."""
    recipe = Recipe.from_yaml(path)
    twice = [name for name, count in Counter(step.name for step in recipe.steps).items() if count > 1]
    if twice:
        raise ConfigError(tr(f"{path}: two steps are called '{twice[0]}'", f"{path}:有两个步骤都叫“{twice[0]}”"))
    folder = run or recipe.run
    prepared = []
    for step in recipe.steps:
        verb, rest = find_verb(step.verb.split())
        if verb is None or rest:
            near = difflib.get_close_matches(step.verb, [known.name for known in verbs()], n=1)
            raise ConfigError(
                tr(
                    f"{path}: step '{step.name}' has no verb '{step.verb}'",
                    f"{path}:步骤“{step.name}”的命令“{step.verb}”不存在",
                ),
                tr(f"did you mean '{near[0]}'?", f"是不是想写“{near[0]}”?")
                if near
                else tr("danlu --help lists all", "全部命令:danlu --help"),
            )
        module = importlib.import_module(verb.module)
        prepared.append((step, module, module.Config.parse(_fill(step.settings, folder), f"{path}: {step.name}")))
    return recipe.model_copy(update={"run": folder}), prepared


def _fill(value: Any, run: Path) -> Any:
    if isinstance(value, str):
        return value.replace("{run}", str(run))
    if isinstance(value, dict):
        return {key: _fill(inner, run) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, run) for inner in value]
    return value


def run_recipe(path: Path, run: Path | None = None) -> tuple[Recipe, list[StepResult]]:
    """Run every step that is not done; return what each took and measured."""
    recipe, prepared = load_recipe(path, run)
    results = []
    for number, (step, module, config) in enumerate(prepared, 1):
        told = f"[{number}/{len(prepared)}] {step.name}"
        stamp = recipe.run / "steps" / f"{step.name}.json"
        fingerprint = _fingerprint(step, config)
        done = _finished(stamp, fingerprint, config, recipe.run)
        if done:
            console.print(f"[dim]{told}: {tr('done before', '此前已完成')}[/dim]")
            results.append(done)
            continue
        console.rule(f"{told}  (danlu {step.verb})")
        _clear(stamp, config, recipe.run)
        result = _run_step(step, module, config, stamp)
        write_json(
            stamp, {"fingerprint": fingerprint, "outputs": _outputs(config, recipe.run), "result": result.plain()}
        )
        results.append(result)
    return recipe, results


def _run_step(step: Step, module: Any, config: Config, stamp: Path) -> StepResult:
    """Run it; the time of attempts that were cut short counts."""
    spent = stamp.with_suffix(".seconds")
    before = read_json(spent) if spent.exists() else 0.0
    began = time.perf_counter()
    try:
        returned = module.run(config)
    except BaseException:
        console.print(
            tr(
                f"stopped in step '{step.name}'; the steps before it stay done, the same command goes on from there",
                f"停在步骤“{step.name}”;之前的步骤不会重做,再次执行同一命令即从此处继续",
            )
        )
        write_json(spent, before + time.perf_counter() - began)
        raise
    seconds = round(before + time.perf_counter() - began, 2)
    spent.unlink(missing_ok=True)
    metrics = json.loads(json.dumps(returned if isinstance(returned, dict) else _measured(config)))
    return StepResult(name=step.name, verb=step.verb, wall_seconds=seconds, metrics=metrics)


def _clear(stamp: Path, config: Config, folder: Path) -> None:
    """Remove the runs that this step made before, with other settings or inputs: a run never overwrites another.

    Only what the step's own stamp says that it wrote, and only inside the recipe's folder; what is not a run is
    replaced by the verb itself.
    """
    if not stamp.exists():
        return
    made = {entry["inside"] for entry in read_json(stamp)["outputs"].values()} - {None}
    for output in paths_of(config, "output").values():
        if _inside(output, folder) in made and (output / "run.json").exists():
            console.print(tr(f"replacing {output}, which this step made before", f"替换该步骤此前生成的 {output}"))
            remove_folder(output.resolve())
    stamp.unlink()


def _fingerprint(step: Step, config: Config) -> str:
    """Of the verb, its settings, the content of what it reads, and danlu's version."""
    inputs = {name: _content(path) for name, path in paths_of(config, "input").items()}
    text = json.dumps([__version__, step.verb, config.plain(), inputs], sort_keys=True, ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def _finished(stamp: Path, fingerprint: str, config: Config, folder: Path) -> StepResult | None:
    if not stamp.exists():
        return None
    record = read_json(stamp)
    try:
        same = record["fingerprint"] == fingerprint and record["outputs"] == _outputs(config, folder)
    except FolderError:  # an output was cut short or changed
        same = False
    if not same:
        return None
    return StepResult.parse(record["result"] | {"skipped": True}, str(stamp))


def _outputs(config: Config, folder: Path) -> dict[str, dict[str, str | None]]:
    """Of every output, where it is inside the recipe's folder (None: outside), and its content."""
    outputs = paths_of(config, "output")
    return {name: {"inside": _inside(path, folder), "content": _content(path)} for name, path in outputs.items()}


def _inside(path: Path, folder: Path) -> str | None:
    place, root = path.resolve(), folder.resolve()
    return place.relative_to(root).as_posix() if root in place.parents else None


def _content(path: Path) -> str | None:
    """Content hash of a file, a data folder, a model folder, or of the model in a run's folder.

    Raises FolderError for a model folder that is not as danlu wrote it.
    """
    for folder in (path, path / "model"):
        if (folder / "danlu.json").exists():  # what was measured of a model later does not change its hash
            return ModelFolder.open(folder).hash
    return hash_path(path) if path.exists() else None


def _measured(config: Config) -> dict[str, Any]:
    """What a run wrote about itself."""
    for output in paths_of(config, "output").values():
        if (output / "run.json").exists():
            return read_json(output / "run.json")["measured"]
    return {}
