"""List the steps that a data recipe can have, with their settings.

列出数据配方可用的步骤及其设置。

Example: danlu data steps
A recipe names them in its `steps`, in the order in which they are done: `steps: [html, {near: {threshold: 0.8}}]`.
"""

import importlib
from typing import Any

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.core.errors import ConfigError
from danlu.core.i18n import language, tr
from danlu.data.step import step_names

__all__ = ["Config", "run"]


class Config(Base):
    """Which step."""

    step: str | None = doc(None, "only this one", "只看这一个")


def run(config: Config) -> dict[str, Any]:
    """Print each step's sentence and settings with defaults; return the defaults by step."""
    from rich.console import Console

    names = step_names()
    if config.step is not None and config.step not in names:
        raise ConfigError(
            tr(f"no step is named '{config.step}'", f"没有名为“{config.step}”的步骤"),
            tr(f"known: {', '.join(names)}", f"可用的有:{'、'.join(names)}"),
        )
    console = Console()
    found = {}
    for name in [config.step] if config.step else names:
        module = importlib.import_module(f"danlu.data.steps.{name}")
        fields = module.Config.model_fields
        found[name] = {field: None if told.is_required() else told.default for field, told in fields.items()}
        console.print(f"[bold]{name}[/bold]  {_sentence(module.__doc__ or '')}", highlight=False, soft_wrap=True)
        for field, told in fields.items():
            shown = tr("(needed)", "(必填)") if told.is_required() else str(told.default)
            line = f"    {field} = {shown if len(shown) <= 60 else shown[:57] + '...'}  {told.description or ''}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return found


def _sentence(text: str) -> str:
    """The first paragraph of a docstring, or the second when it is the Chinese one and Chinese is read."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")] + [""]
    chinese = any("\u4e00" <= character <= "\u9fff" for character in paragraphs[1])
    return paragraphs[1] if chinese and language() == "zh" else paragraphs[0]
