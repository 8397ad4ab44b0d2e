"""Run a recipe: chain stages, skip what is done, go on with what was interrupted.

执行一份配方:串联各阶段,跳过已完成的,继续被中断的。

Example: danlu run quickstart
A recipe is a YAML file; `danlu run list` names the packaged ones.
"""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from danlu.core.config import Config as Base
from danlu.core.config import doc, load_yaml
from danlu.core.i18n import tr
from danlu.pipeline import StepResult, find_recipe, recipes, run_recipe

__all__ = ["Config", "print_steps", "run"]


class Config(Base):
    """Which recipe, and where."""

    recipe: str = doc(..., "a YAML file, a packaged recipe's name, or 'list'", "YAML 文件、自带配方的名字,或 list")
    out: Path | None = doc(None, "folder of the run; default: as the recipe says", "运行目录;默认按配方")


def run(config: Config) -> None:
    """Run it and print what each step took."""
    if config.recipe == "list":
        for name, path in recipes().items():
            print(f"{name:<14} {load_yaml(path).get('describe', '')}")
        return
    _, results = run_recipe(find_recipe(config.recipe), config.out)
    print_steps(results)


def print_steps(results: list[StepResult]) -> None:
    """A row a step."""
    table = Table()
    for column in (tr("step", "步骤"), tr("verb", "命令"), tr("seconds", "秒"), ""):
        table.add_column(column)
    for result in results:
        table.add_row(
            result.name,
            result.verb,
            f"{result.wall_seconds:.1f}",
            tr("done before", "此前已完成") if result.skipped else "",
        )
    Console().print(table)
