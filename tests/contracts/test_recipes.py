"""Every packaged recipe is valid: its verbs exist, their settings parse, its steps hand on what the next ones read."""

from pathlib import Path

import pytest
import yaml

from danlu.core.config import paths_of
from danlu.pipeline import load_recipe, recipes


def chain_faults(recipe: Path, run: Path) -> list[str]:
    """What a step reads out of the run and no step before it wrote; what is written twice, or outside the run."""
    _, prepared = load_recipe(recipe, run)
    written: list[Path] = []
    faults = []
    for step, _, config in prepared:
        for path in paths_of(config, "input").values():
            if run in path.parents and not any(path == made or made in path.parents for made in written):
                faults.append(f"{step.name} reads {path.name}, which nothing made")
        for path in paths_of(config, "output").values():
            if path in written:
                faults.append(f"{step.name} writes {path.name} again")
            if run not in path.parents:
                faults.append(f"{step.name} writes {path.name} outside the run")
            written.append(path)
    return faults


@pytest.mark.parametrize("name", recipes())
def test_every_step_parses_against_its_verb(name: str):
    recipe, prepared = load_recipe(recipes()[name])
    assert recipe.name == name
    assert recipe.describe
    assert len(prepared) == len(recipe.steps) > 0


@pytest.mark.parametrize("name", recipes())
def test_steps_hand_on_what_the_next_ones_read(name: str, tmp_path: Path):
    assert not chain_faults(recipes()[name], tmp_path / "run")


def test_catches_a_broken_chain(tmp_path: Path):
    steps = [
        {"name": "a", "verb": "data prepare", "settings": {"source": ["x"], "out": "{run}/data"}},
        {"name": "b", "verb": "pretrain", "settings": {"data": "{run}/dtaa", "out": "{run}/data"}},
        {"name": "c", "verb": "int8", "settings": {"base": "{run}/data/model"}},
    ]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "steps": steps}))
    assert chain_faults(file, tmp_path / "run") == [
        "b reads dtaa, which nothing made",
        "b writes data again",
        "c writes int8 outside the run",
    ]
