"""Look at data: counts, lengths, languages, duplicates, frequent n-grams, samples; of a prepared set also each step.

查看数据：计数、长度、语言、重复、高频 n-gram 与样例；准备好的数据集还包括每一步的取舍。

Example: danlu data inspect data/poems --html poems.html
Without --html only the tables are printed. A prepared set has a page of its recipe already: data.html in its folder.
"""

from collections.abc import Iterator
from typing import Any

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError
from danlu.core.files import atomic_path, read_json, write_json
from danlu.core.i18n import tr
from danlu.data.load import is_prepared
from danlu.data.page import data_page
from danlu.data.progress import track
from danlu.data.reading import SourceOptions, Sources
from danlu.data.sources import Row, SplitBy, read_rows
from danlu.data.split import SPLITS
from danlu.data.statistics import Statistics

__all__ = ["Config", "run"]


class Config(Base):
    """What to look at."""

    data: Input = doc(..., "prepared folder, or files, a folder or an asset", "准备好的文件夹，或文件、文件夹、资料名")
    split: str = doc(
        "all", "train, valid, test or all of a prepared folder", "准备好的文件夹中的 train、valid、test 或 all"
    )
    columns: list[str] | None = doc(None, "columns of raw files, as text=content", "原始文件的列，如 text=content")
    split_by: SplitBy = doc("file", "what of a raw text file is one document", "原始文本文件按什么切成文档")
    max_documents: int | None = doc(None, "look at the first so many only", "只看前若干篇", ge=1)
    html: Output | None = doc(None, "page to write", "写出网页")
    json_: Output | None = doc(None, "file for the numbers", "数字写入此 JSON 文件")


def run(config: Config) -> dict[str, Any]:
    """Print, write what is asked for, return the numbers."""
    if config.split not in (*SPLITS, "all"):
        raise ConfigError(
            tr(f"no split is named '{config.split}'", f"没有名为“{config.split}”的划分"),
            tr(f"there are {', '.join(SPLITS)} and all", f"可用的有 {'、'.join(SPLITS)} 与 all"),
        )
    prepared = is_prepared(config.data)
    told = config.data / "data.json"
    summary = read_json(told) if prepared and told.is_file() else None
    found = Statistics()
    for row in track(_rows(config, prepared), config.max_documents, tr("looking", "查看")):
        found.add(row)
    numbers = _numbers(found)
    _show(numbers, found)
    if config.html is not None:
        page = data_page(config.data.name, summary or _raw(found), found)
        with atomic_path(config.html) as temporary:
            temporary.write_text(page, encoding="utf-8")
    if config.json_ is not None:
        write_json(config.json_, numbers)
    return numbers


def _rows(config: Config, prepared: bool) -> Iterator[Row]:
    if prepared:
        names = SPLITS if config.split == "all" else (config.split,)
        files = [config.data / f"{name}.jsonl" for name in names]
        rows: Iterator[Row] = read_rows([file for file in files if file.is_file() and file.stat().st_size])
    else:
        default = SourceOptions(columns=config.columns, split_by=config.split_by)
        rows = Sources([config.data], {}, default).rows()
    for number, row in enumerate(rows):
        if number == config.max_documents:
            return
        yield row


def _raw(found: Statistics) -> dict[str, Any]:
    """What a page needs of a corpus without a recipe."""
    read = {"step": "read", "rows": found.rows, "characters": found.characters}
    return {"funnel": [read], "sources": {}, "splits": {}}


def _numbers(found: Statistics) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "characters": found.characters,
        "characters_a_row": round(found.characters / max(1, found.rows), 1),
        "duplicates": found.duplicates,
        "repeated_lines": round(found.repeated_lines, 4),
        "sources": dict(found.sources.most_common()),
        "languages": dict(found.languages.most_common()),
        "scripts": dict(found.scripts.most_common()),
        "lengths": [list(line) for line in found.lengths()],
        "top": {str(size): [list(gram) for gram in grams] for size, grams in found.top_grams().items()},
    }


def _show(numbers: dict[str, Any], found: Statistics) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    table.add_row(tr("rows", "行"), f"{numbers['rows']:,}")
    table.add_row(tr("characters", "字符"), f"{numbers['characters']:,}")
    table.add_row(tr("characters a row", "每行字符"), f"{numbers['characters_a_row']:,}")
    table.add_row(tr("exact duplicates", "完全重复"), f"{numbers['duplicates']:,}")
    table.add_row(tr("characters in repeated lines", "重复行文占比"), f"{numbers['repeated_lines']:.1%}")
    for key, name in (
        ("sources", tr("sources", "来源")),
        ("languages", tr("languages", "语言")),
        ("scripts", tr("scripts", "文字")),
    ):
        if numbers[key]:
            table.add_row(name, ", ".join(f"{one} {count:,}" for one, count in list(numbers[key].items())[:10]))
    for size, grams in numbers["top"].items():
        table.add_row(f"{size}-grams", "  ".join(f"{gram!r} {count:,}" for gram, count in grams[:8]))
    console = Console()
    console.print(table)
    for sample in found.samples()[:3]:
        console.print(sample["id"], style="dim", markup=False, highlight=False)
        console.print(sample["text"][:200], markup=False, highlight=False)
