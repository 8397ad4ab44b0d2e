"""List the runs under a folder: what each was, how it ended, what was measured.

列出各次运行:做了什么、结果如何、测得什么。

Example: danlu runs
"""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.core.i18n import tr
from danlu.core.run import all_runs

__all__ = ["Config", "run"]

_SHOWN = ("val_loss", "tokens", "tokens_per_second", "size_ratio")


class Config(Base):
    """Where to look."""

    folder: Path = doc(Path("runs"), "folder that holds runs.sqlite", "含有 runs.sqlite 的文件夹")


def run(config: Config) -> None:
    """Print the table, newest first."""
    rows = all_runs(config.folder)
    if not rows:
        print(
            tr(
                f"no runs under {config.folder} yet; begin with: danlu quickstart",
                f"{config.folder} 下还没有运行;从 danlu quickstart 开始",
            )
        )
        return
    table = Table()
    for column in (
        tr("run", "运行"),
        tr("verb", "命令"),
        tr("status", "状态"),
        tr("started", "开始"),
        tr("seconds", "秒"),
        tr("measured", "测得"),
    ):
        table.add_column(column)
    for row in rows:
        measured = json.loads(row["measured"])
        told = "  ".join(f"{name} {measured[name]:.5g}" for name in _SHOWN if name in measured)
        place = Path(row["path"])
        shown = place.relative_to(config.folder.absolute()) if place.is_relative_to(config.folder.absolute()) else place
        table.add_row(str(shown), row["verb"], row["status"], row["started"][:19], f"{row['seconds']:.1f}", told)
    Console().print(table)
