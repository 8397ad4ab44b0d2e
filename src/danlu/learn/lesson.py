"""Read a lesson here in the terminal, with the code it quotes.

在终端里阅读一课，连同它引用的代码。

Example: danlu lesson attention
The exercise that goes with it: danlu check attention --start
"""

from typing import Literal

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from danlu.core.config import Config as BaseConfig
from danlu.core.config import doc
from danlu.core.i18n import language
from danlu.learn.lessons import find_lesson, render

__all__ = ["Config", "run"]


class Config(BaseConfig):
    """Which lesson, in which language."""

    id: str = doc(
        ..., "the row or lesson, such as attention or models/attention", "条目或课程，如 attention 或 models/attention"
    )
    lang: Literal["en", "zh"] | None = doc(None, "language (default: yours)", "语言（默认：你的语言）")
    raw: bool = doc(False, "print Markdown as it is", "原样输出 Markdown")


def run(config: Config) -> None:
    """Print the lesson. Raises ConfigError when there is none of that name."""
    folder = find_lesson(config.id)
    lang = config.lang or language()
    text = render(folder, lang)
    if config.raw:
        print(text)
        return
    console = Console()
    console.print(Markdown(text))
    if (folder / "exercise.py").exists():
        words = "轮到你了：" if lang == "zh" else "your turn: "
        console.print(Text(f"\n{words}danlu check {config.id} --start", "bold cyan"))
