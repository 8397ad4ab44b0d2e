"""Make a data set ready for training: read, clean, remove duplicates, split without leakage.

把数据准备好：读取、清洗、去重、划分（不泄漏）。

Example: danlu data prepare --source my_texts --out data/mine
Writes train.jsonl, valid.jsonl, test.jsonl and data.json (what was done, counts and hashes) into the folder.
The source is one or more text, jsonl or parquet files, folders of them, '-' for standard input, or an asset
fetched by `danlu pull`. The same input and the same settings give the same bytes.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import field_validator

from danlu.core.assets import Asset, asset_path, catalogue
from danlu.core.config import Config as BaseConfig
from danlu.core.config import Input, Output, doc
from danlu.core.errors import DataError
from danlu.core.files import atomic_folder, sha256_file, write_json
from danlu.core.i18n import tr
from danlu.data.clean import CleanConfig
from danlu.data.dedup import content_hash
from danlu.data.load import FEW, clean_rows, cut_if_few, warn_undecodable
from danlu.data.poems import poem_rows, read_quatrains
from danlu.data.sources import ReadReport, Row, SplitBy, column_names, read_rows
from danlu.data.split import LEFT_OUT, SPLITS, Split, assign, split_size

__all__ = ["Config", "run"]

POEMS = "chinese-poetry"
_STEPS = {
    "poems": ("poems read", "读入的诗"),
    "quatrains": ("four equal lines of 5 or 7", "四句、每句五字或七字"),
    "legible": ("every character legible", "字字可辨"),
    "titled": ("with a short title", "题目简短"),
    "documents": ("documents read", "读入的文档"),
    "cleaned": ("not empty after cleaning", "清洗后非空"),
    "distinct": ("distinct", "去重之后"),
    "kept": ("kept (max_documents)", "取用（max_documents）"),
    "chunks": ("cut into chunks, being few", "文档太少，切成段落"),
    "left_out": ("left out: too near to test", "略去：与测试集过近"),
}


class Config(BaseConfig):
    """Settings of `danlu data prepare`."""

    out: Output = doc(..., "folder to write", "输出文件夹")
    source: list[Input] = doc(
        [Path(POEMS)],
        "files, folders, '-' for standard input, or an asset such as chinese-poetry",
        "文件、文件夹、表示标准输入的 '-'，或资料名，如 chinese-poetry",
    )
    kind: Literal["auto", "text", "poems"] = doc(
        "auto",
        "'poems' reads poet.*.json; auto: only the asset is poems",
        "poems 读取 poet.*.json；auto：仅该资源按诗处理",
    )
    columns: list[str] | None = doc(
        None,
        "columns to keep, as text or text=content; default: text and messages",
        "保留的列，如 text 或 text=content",
    )
    split_by: SplitBy = doc("file", "what of a text file is one document", "文本文件按什么切成文档")
    encoding: str = doc("utf-8", "encoding of the text, such as gb18030", "文本编码，如 gb18030")
    clean: CleanConfig = doc(CleanConfig(), "cleaning", "清洗")
    dedup: bool = doc(True, "drop exact duplicates", "去掉完全重复的文档")
    max_documents: int | None = doc(None, "take only the first so many", "只取前若干篇", ge=1)
    valid: float = doc(0.02, "held out to measure the loss: a fraction, or a count", "验证集：比例或篇数", ge=0)
    test: float = doc(0.02, "held out to the very end: a fraction, or a count", "测试集：比例或篇数", ge=0)
    seed: int = doc(0, "chooses the split and the wording of instructions", "决定划分与指令的措辞")

    @field_validator("source", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value

    @property
    def poems(self) -> bool:
        """Whether the source is read as poems."""
        return self.kind == "poems" or (self.kind == "auto" and [asset.name for asset in _assets(self)] == [POEMS])


def run(config: Config) -> dict[str, Any]:
    """Write the folder, print the funnel, return what data.json holds.

    Raises DataError for unusable input or when `out` holds something else, StorageError when the disk is full.
    """
    _refuse_foreign(config.out)
    funnel: Counter[str] = Counter()
    report = ReadReport()
    with atomic_folder(config.out) as folder:
        lengths, groups, titles = _write_scratch(folder, _documents(config, funnel, report))
        if 0 < len(lengths) < FEW and not config.poems:
            before = len(lengths)
            rows = [json.loads(line) for line in (folder / "rows").read_bytes().splitlines()]
            lengths, groups, titles = _write_scratch(folder, iter(cut_if_few(rows)))
            if len(lengths) != before:
                funnel["chunks"] = len(lengths)
        sizes = {name: split_size(getattr(config, name), len(lengths)) for name in ("valid", "test")}
        held_out = titles if config.poems else None
        split = assign(groups, valid=sizes["valid"], test=sizes["test"], seed=config.seed, held_out=held_out)
        if split.count(LEFT_OUT):
            funnel["left_out"] = split.count(LEFT_OUT)
        summary = _summary(config, funnel, report, split, _deal(folder, lengths, split))
        write_json(folder / "data.json", summary)
    warn_undecodable(report)
    _show(config, summary)
    return summary


def _refuse_foreign(out: Path) -> None:
    """`out` is replaced as a whole, so it must be absent, empty or an earlier result."""
    if out.exists() and not (out / "data.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            tr(f"{out} exists and is not a data set prepared earlier", f"{out} 已存在,且不是先前准备好的数据"),
            tr("choose another --out", "请换一个 --out"),
        )


def _documents(config: Config, funnel: Counter[str], report: ReadReport) -> Iterator[Row]:
    if config.poems:
        quatrains = [poem for path in _paths(config) for poem in read_quatrains(path, funnel)]
        funnel["distinct"] = len(quatrains)
        if config.max_documents is not None and config.max_documents < len(quatrains):
            quatrains = quatrains[: config.max_documents]
            funnel["kept"] = len(quatrains)
        report.rows = funnel["poems"]
        yield from poem_rows(quatrains, config.seed)
        return
    names = column_names(config.columns) or ("text", "messages")
    rows = read_rows(
        _paths(config), columns=config.columns, split=config.split_by, encoding=config.encoding, report=report
    )
    plain = ({name: row[name] for name in names if name in row} for row in rows)
    for number, row in enumerate(clean_rows(plain, config.clean, dedup=config.dedup, funnel=funnel), 1):
        yield row
        if number == config.max_documents:
            funnel["kept"] = number
            return


def _assets(config: Config) -> list[Asset]:
    """The sources that are names of the catalogue; a file or folder of that name goes before."""
    known = catalogue()
    return [known[str(path)] for path in config.source if str(path) in known and not path.exists()]


def _paths(config: Config) -> list[Path]:
    assets = {asset.name for asset in _assets(config)}
    return [asset_path(str(path)) if str(path) in assets else path for path in config.source]


def _write_scratch(folder: Path, rows: Iterator[Row]) -> tuple[np.ndarray, list[str], list[str]]:
    """Write all rows to one file, so that they need not fit into memory; return their lengths in bytes, groups, titles."""
    lengths, groups, titles = [], [], []
    with open(folder / "rows", "wb") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            file.write(line)
            lengths.append(len(line))
            groups.append(row.get("group") or content_hash(line.decode())[:16])
            titles.append(row.get("title", ""))
    return np.array(lengths, dtype=np.int64), groups, titles


def _deal(folder: Path, lengths: np.ndarray, split: Split) -> dict[str, dict[str, Any]]:
    """Deal the scratch file out to the split's files; return each one's rows, bytes and hash."""
    files: list[BinaryIO] = [open(folder / f"{name}.jsonl", "wb") for name in SPLITS]  # noqa: SIM115
    with open(folder / "rows", "rb") as rows:
        for length, side in zip(lengths.tolist(), split.side.tolist(), strict=True):
            line = rows.read(length)
            if side != LEFT_OUT:
                files[side].write(line)
    for file in files:
        file.close()
    (folder / "rows").unlink()
    described = {}
    for side, name in enumerate(SPLITS):
        path = folder / f"{name}.jsonl"
        described[name] = {"rows": split.count(side), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
    return described


def _summary(
    config: Config, funnel: Counter[str], report: ReadReport, split: Split, files: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    settings = config.plain()
    del settings["out"]  # the same data elsewhere is the same data
    return {
        "schema": 1,
        "source": [str(path) for path in config.source],
        "assets": [asset.model_dump(include={"name", "version", "licence", "content"}) for asset in _assets(config)],
        "config": settings,
        "funnel": {step: funnel[step] for step in _STEPS if step in funnel},
        "groups": split.groups,
        "splits": files,
        "read": asdict(report),
    }


def _show(config: Config, summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(tr("data set", "数据集"), str(config.out), markup=False, highlight=False, soft_wrap=True)
    table = Table()
    table.add_column(tr("step", "步骤"))
    table.add_column(tr("documents", "篇数"), justify="right")
    for step, count in summary["funnel"].items():
        table.add_row(tr(*_STEPS[step]), f"{count:,}")
    table.add_section()
    names = {"train": ("train", "训练"), "valid": ("validation", "验证"), "test": ("test", "测试")}
    for name, split in summary["splits"].items():
        table.add_row(tr(*names[name]), f"{split['rows']:,}")
    console.print(table)
