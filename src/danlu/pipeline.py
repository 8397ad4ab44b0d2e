"""Recipes: YAML that chains verbs, skips what is done and resumes what was interrupted.

A recipe is `{name, run, steps: [{name, verb, with: {...}}]}`; `{run}` in a value stands for the run's folder. A step
is done when a stamp says that the same verb, with the same settings, read inputs of the same content, and that its
outputs are still what it wrote. An interrupted training step goes on from its own checkpoint.
"""

import importlib
import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from danlu import __version__
from danlu.cli import find_verb
from danlu.core.config import Config, doc, load_yaml, paths_of
from danlu.core.errors import ConfigError
from danlu.core.files import hash_path, read_json, write_json
from danlu.core.folder import ModelFolder
from danlu.core.i18n import tr

__all__ = ["Recipe", "Step", "StepResult", "find_recipe", "recipes", "run_recipe"]

console = Console(stderr=True)
RECIPES = Path(__file__).parent / "recipes"


class Step(Config):
    """One verb with its settings."""

    name: str
    verb: str
    with_: dict[str, Any] = doc({}, "the verb's settings", "该命令的设置", alias="with")


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
    if path.exists():
        return path
    if str(name) in recipes():
        return recipes()[str(name)]
    raise ConfigError(
        tr(f"no such recipe: {name}", f"没有这个配方:{name}"),
        tr(f"packaged ones: {', '.join(recipes())}", f"自带的有:{'、'.join(recipes())}"),
    )


def load_recipe(path: Path, run: Path | None = None) -> tuple[Recipe, list[tuple[Step, Any, Config]]]:
    """The recipe, and for each step its module and its checked settings; faults are told before anything runs."""
    values = load_yaml(path)
    for step in values.get("steps") or []:
        if isinstance(step, dict) and "with" in step:
            step["with_"] = step.pop("with")
    recipe = Recipe.parse(values, str(path))
    folder = run or recipe.run
    prepared = []
    for step in recipe.steps:
        verb, rest = find_verb(step.verb.split())
        if verb is None or rest:
            raise ConfigError(tr(f"{path}: step '{step.name}' has no verb '{step.verb}'", f"{path}:步骤“{step.name}”的命令“{step.verb}”不存在"))
        module = importlib.import_module(verb.module)
        prepared.append((step, module, module.Config.parse(_fill(step.with_, folder), f"{path}: {step.name}")))
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
        done = _finished(stamp, fingerprint, config)
        if done:
            console.print(f"[dim]{told}: {tr('done before', '此前已完成')}[/dim]")
            results.append(done)
            continue
        console.rule(f"{told}  (danlu {step.verb})")
        began = time.perf_counter()
        before = read_json(stamp.with_suffix(".seconds")) if stamp.with_suffix(".seconds").exists() else 0.0
        try:
            returned = module.run(config)
        except BaseException:
            write_json(stamp.with_suffix(".seconds"), before + time.perf_counter() - began)
            raise
        seconds = round(before + time.perf_counter() - began, 2)
        stamp.with_suffix(".seconds").unlink(missing_ok=True)
        metrics = returned if isinstance(returned, dict) else _measured(config)
        result = StepResult(name=step.name, verb=step.verb, wall_seconds=seconds, metrics=json.loads(json.dumps(metrics)))
        outputs = {name: _content(output) for name, output in paths_of(config, "output").items()}
        write_json(stamp, {"fingerprint": fingerprint, "outputs": outputs, "result": result.plain()})
        results.append(result)
    return recipe, results


def _fingerprint(step: Step, config: Config) -> str:
    """Of the verb, its settings, the content of what it reads, and danlu's version."""
    inputs = {name: _content(path) for name, path in paths_of(config, "input").items()}
    text = json.dumps([__version__, step.verb, config.plain(), inputs], sort_keys=True, ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def _finished(stamp: Path, fingerprint: str, config: Config) -> StepResult | None:
    if not stamp.exists():
        return None
    record = read_json(stamp)
    outputs = {name: _content(path) for name, path in paths_of(config, "output").items()}
    if record["fingerprint"] != fingerprint or record["outputs"] != outputs:
        return None
    return StepResult.parse(record["result"] | {"skipped": True}, str(stamp))


def _content(path: Path) -> str | None:
    """Content hash of a file, a data folder, a model folder, or of the model in a run's folder."""
    for folder in (path, path / "model"):
        if (folder / "config.json").exists():
            return ModelFolder.open(folder).hash
    return hash_path(path) if path.exists() else None


def _measured(config: Config) -> dict[str, Any]:
    """What a run wrote about itself."""
    for output in paths_of(config, "output").values():
        if (output / "run.json").exists():
            return read_json(output / "run.json")["measured"]
    return {}
