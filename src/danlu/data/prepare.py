"""Make a data set out of raw files: read, clean, deduplicate, split; every step counted, with examples.

把原始文件做成数据集：读取、清洗、去重、划分；每一步都有计数与例子。

Example: danlu data prepare --source my_texts --out data/mine
Without settings: white space and control characters cleaned, exact duplicates dropped. A recipe of many steps is a
YAML file: danlu data prepare --config recipe.yaml --out data/mine. After an interruption the same command goes on.

The output holds train.jsonl, valid.jsonl and test.jsonl; data.json (counts of every step, hashes, the recipe); README.md (the
data card) and data.html (the funnel, to look at); dropped.jsonl (every row that was left out, and why) and quarantine.jsonl (what could not be read). The
same input and settings give the same bytes, with any number of workers.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from filelock import FileLock, Timeout
from pydantic import PositiveInt, field_validator, model_validator

from danlu import __version__
from danlu.core.config import Config as BaseConfig
from danlu.core.config import Input, Output, doc, paths_of
from danlu.core.errors import DataError
from danlu.core.files import atomic_folder, hash_path, remove_folder, sha256_file, write_json
from danlu.core.i18n import tr
from danlu.data.card import data_card
from danlu.data.dedup import content_hash
from danlu.data.executor import EngineName
from danlu.data.flow import PART_BYTES, Flow
from danlu.data.load import FEW, cut_if_few, warn_undecodable
from danlu.data.page import data_page
from danlu.data.parts import dump_row, load_row
from danlu.data.progress import track
from danlu.data.reading import POEMS, SourceOptions, Sources
from danlu.data.sources import SplitBy
from danlu.data.split import LEFT_OUT, SPLITS, Split, assign, split_size
from danlu.data.step import content, step_config
from danlu.data.work import Named

__all__ = ["Config", "run"]


class Config(BaseConfig):
    """Settings of `danlu data prepare`."""

    out: Output = doc(..., "folder to write", "输出文件夹")
    source: list[Input] = doc(
        [Path(POEMS)],
        "files, folders, '-' for standard input, hf:org/name, or an asset such as chinese-poetry",
        "文件、文件夹、表示标准输入的 '-'、hf:org/name，或资料名，如 chinese-poetry",
    )
    about: dict[str, SourceOptions] = doc(
        {}, "by source, how it is read where that differs", "按来源：读法与其他来源不同之处"
    )
    kind: str = doc("auto", "what the sources are; 'poems' reads poet.*.json", "来源的类型；poems 读取 poet.*.json")
    columns: list[str] | None = doc(
        None,
        "columns to keep, as text or text=content; default: text and messages",
        "保留的列，如 text 或 text=content",
    )
    split_by: SplitBy = doc("file", "what of a text file is one document", "文本文件按什么切成文档")
    encoding: str = doc(
        "auto", "encoding of the text, such as gb18030; auto finds it", "文本编码，如 gb18030；auto 表示自动判断"
    )
    steps: list[dict[str, Any]] = doc(
        [{"clean": {}}, {"exact": {}}],
        "what is done, in order: NAME: {settings} (danlu data steps lists them)",
        "依次执行的步骤，写作 名称: {设置}（danlu data steps 列出全部）",
    )
    max_documents: int | None = doc(None, "read only the first so many", "只读取前若干篇", ge=1)
    valid: float = doc(0.02, "held out to measure the loss: a fraction, or a count", "验证集：比例或篇数", ge=0)
    test: float = doc(0.02, "held out to the very end: a fraction, or a count", "测试集：比例或篇数", ge=0)
    seed: int = doc(0, "chooses the split and the wording of instructions", "决定划分与指令的措辞")
    workers: PositiveInt | None = doc(None, "processes; default: one for each core", "进程数；默认每个核心一个")
    engine: EngineName = doc("pool", "who works: a pool of processes here, or Ray", "由谁执行：本机进程池，或 Ray")
    part_mb: float = doc(PART_BYTES / 1e6, "megabytes that a process holds at a time", "一个进程一次处理多少 MB", gt=0)

    @field_validator("source", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value

    @field_validator("steps", mode="before")
    @classmethod
    def _names_are_steps(cls, value: Any) -> Any:
        """A step without settings may be written as its name."""
        return [{one: {}} if isinstance(one, str) else one for one in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _steps_are_known(self) -> "Config":
        self.named()
        return self

    def named(self) -> list[Named]:
        """The steps with all their settings. Raises ConfigError for an unknown step or setting."""
        found = []
        for number, one in enumerate(self.steps, 1):
            if len(one) != 1:
                raise ValueError(
                    tr(
                        f"step {number} should be NAME: {{settings}}, not {one!r}",
                        f"第 {number} 步应写作 名称: {{设置}},而不是 {one!r}",
                    )
                )
            ((name, settings),) = one.items()
            config = step_config(name, settings, f"steps[{number}]")
            found.append(Named(name, orjson.dumps(config.plain()).decode()))
        return found

    def sources(self) -> Sources:
        default = SourceOptions(kind=self.kind, columns=self.columns, split_by=self.split_by, encoding=self.encoding)
        return Sources(self.source, self.about, default, self.seed, self.max_documents)


def run(config: Config) -> dict[str, Any]:
    """Write the folder, print the funnel, return what data.json holds.

    Raises DataError for unusable input or when `out` holds something else, StorageError when the disk is full;
    what was done stays beside `out`, and the same command goes on from there.
    """
    _refuse_foreign(config.out)
    _refuse_inside(config)
    sources = config.sources()
    poems = any(map(sources.poems, config.source))
    steps = [] if poems and "steps" not in config.model_fields_set else config.named()
    work = config.out.with_name(f"{config.out.name}.work")
    flow = Flow(
        work,
        steps,
        _recipe(config, steps),
        config.workers or os.cpu_count() or 1,
        config.engine,
        round(config.part_mb * 1e6),
    )
    try:
        lock = work.with_name(f".{work.name}.lock")
        work.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                summary = _prepare(config, sources, flow, by_title=poems and len(config.source) == 1)
                remove_folder(work)
            finally:
                lock.unlink(missing_ok=True)  # while it is held: nobody else's is taken away
    except Timeout:
        raise DataError(
            tr(f"another process is preparing {config.out}", f"另一个进程正在准备 {config.out}"),
            tr("wait for it, or choose another --out", "请等它结束,或换一个 --out"),
        ) from None
    for report in sources.reports.values():
        warn_undecodable(report)
    _show(config, summary, flow.seconds)
    return summary


def _recipe(config: Config, steps: list[Named]) -> dict[str, Any]:
    """All that decides the result: settings, and the content of files that steps read."""
    settings = config.plain()
    for key in ("out", "workers", "engine", "part_mb"):
        del settings[key]
    settings["steps"] = [{step.name: json.loads(step.settings)} for step in steps]
    inputs = {}
    for number, step in enumerate(steps, 1):
        for name, path in paths_of(step_config(step.name, json.loads(step.settings)), "input").items():
            if path.exists():  # else it is the name of an asset, whose version is pinned
                inputs[f"{number}.{step.name}.{name}"] = hash_path(path)
    return {"danlu": __version__, "part_bytes": round(config.part_mb * 1e6), "settings": settings, "inputs": inputs}


def _prepare(config: Config, sources: Sources, flow: Flow, *, by_title: bool) -> dict[str, Any]:
    parts = flow.run(sources)
    funnel = _masked(flow.funnel(), flow.steps)
    if not funnel or not funnel[-1]["rows"]:
        raise DataError(
            tr("nothing is left of the documents after cleaning", "清洗之后没有剩下任何文档"),
            tr(
                "are they text in the encoding named by --encoding? what was dropped, and why: ",
                "它们是文本吗?编码是否与 --encoding 一致?",
            )
            + _reasons(funnel),
        )
    with atomic_folder(config.out) as folder:
        lines = (line for number in range(flow.count) for line in parts.lines(number))
        if funnel[-1]["rows"] < FEW and not by_title:
            rows = [load_row(line) for line in lines]
            cut = cut_if_few(rows)
            if len(cut) != len(rows):
                funnel.append({"step": "chunks", "rows": len(cut), "characters": sum(len(content(row)) for row in cut)})
            lines = map(dump_row, cut)
        split, files = _split(config, folder, lines, by_title)
        if split.count(LEFT_OUT):
            funnel.append(
                {
                    "step": "split",
                    "rows": len(split.side) - split.count(LEFT_OUT),
                    "dropped": {"too_near_to_test": split.count(LEFT_OUT)},
                }
            )
        _write_lines(folder / "dropped.jsonl", (orjson.dumps(row) + b"\n" for row in flow.lost()))
        _write_lines(folder / "quarantine.jsonl", flow.bad())
        settings = flow.recipe["settings"]
        summary = {
            "schema": 2,
            "sources": flow.summary(),
            "assets": [
                asset.model_dump(include={"name", "version", "licence", "content"})
                for asset in sources.assets().values()
            ],
            "config": settings,
            "inputs": flow.recipe["inputs"],
            "funnel": funnel,
            "groups": split.groups,
            "splits": files,
        }
        write_json(folder / "data.json", summary)
        (folder / "data.html").write_text(data_page(_title(sources), summary), encoding="utf-8")
        (folder / "README.md").write_text(data_card(_title(sources), summary, config.about), encoding="utf-8")
    return summary


def _title(sources: Sources) -> str:
    """Not the folder's name: the same data elsewhere is the same data."""
    return " + ".join(sources.names())


def _masked(funnel: list[dict[str, Any]], steps: Sequence[Named]) -> list[dict[str, Any]]:
    """Where a step takes personal data out of the rows, no text of before it is shown: an excerpt may hold what is not
    recognisable any more, or not yet (cut in half, written in entities)."""
    names = [entry["step"] for entry in funnel]
    if any(named.name == "personal" for named in steps):
        last = len(names) - names[::-1].index("personal")
        for example in (one for entry in funnel[:last] for one in entry["examples"]):
            for field in ("text", "before", "after"):
                if field in example:
                    example[field] = ""
    return funnel


def _reasons(funnel: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{step['step']}: {reason} {count}" for step in funnel for reason, count in step["dropped"].items()
    )


def _refuse_foreign(out: Path) -> None:
    """`out` is replaced as a whole, so it must be absent, empty or an earlier result."""
    if out.exists() and not (out / "data.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            tr(f"{out} exists and is not a data set prepared earlier", f"{out} 已存在,且不是先前准备好的数据"),
            tr("choose another --out", "请换一个 --out"),
        )


def _refuse_inside(config: Config) -> None:
    """A set written into its own source would be read the next time."""
    out = config.out.resolve()
    for source in config.source:
        if source.is_dir() and source.resolve() in out.parents:
            raise DataError(
                tr(f"{config.out} lies inside the source {source}", f"{config.out} 在来源 {source} 之中"),
                tr("choose an --out outside of it", "请把 --out 放到它外面"),
            )


def _split(
    config: Config, folder: Path, lines: Iterable[bytes], by_title: bool
) -> tuple[Split, dict[str, dict[str, Any]]]:
    """Write all rows to one file, decide on the sides, deal them out."""
    groups, titles, lengths = [], [], []
    with open(folder / "rows", "wb") as file:
        for line in track(lines, None, tr("splitting", "划分")):
            file.write(line)
            row = load_row(line)
            lengths.append(len(line))
            groups.append(row.get("group") or content_hash(content(row))[:16])
            if by_title:
                titles.append(row.get("title", ""))
    sizes = {name: split_size(getattr(config, name), len(groups)) for name in ("valid", "test")}
    held_out = titles if by_title else None
    split = assign(groups, valid=sizes["valid"], test=sizes["test"], seed=config.seed, held_out=held_out)
    return split, _deal(folder, np.array(lengths, dtype=np.int64), split)


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


def _write_lines(path: Path, lines: Iterator[bytes]) -> None:
    """A file of `lines`, when there are any."""
    first = next(lines, None)
    if first is not None:
        with open(path, "wb") as file:
            file.write(first)
            file.writelines(lines)


def _show(config: Config, summary: dict[str, Any], seconds: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(tr("data set", "数据集"), str(config.out), markup=False, highlight=False, soft_wrap=True)
    table = Table()
    table.add_column(tr("step", "步骤"))
    for name in (tr("documents", "篇数"), tr("characters", "字符"), tr("seconds", "秒")):
        table.add_column(name, justify="right")
    table.add_column(tr("dropped", "丢弃"))
    for step in summary["funnel"]:
        name = step["step"]
        spent = sum(value for key, value in seconds.items() if key.partition(":")[0] == name)
        why = ", ".join(f"{reason} {count:,}" for reason, count in step.get("dropped", {}).items())
        characters = f"{step['characters']:,}" if "characters" in step else ""
        table.add_row(name, f"{step['rows']:,}", characters, f"{spent:.1f}" if spent >= 0.05 else "", why)
    table.add_section()
    names = {"train": ("train", "训练"), "valid": ("validation", "验证"), "test": ("test", "测试")}
    for name, split in summary["splits"].items():
        table.add_row(tr(*names[name]), f"{split['rows']:,}", "", "", "")
    console.print(table)
    if bad := summary["funnel"][0]["dropped"]:
        why = ", ".join(f"{reason} {count:,}" for reason, count in bad.items())
        told = tr(f"set aside, see quarantine.jsonl: {why}", f"无法读取、已放入 quarantine.jsonl:{why}")
        console.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(
        tr(f"look at it: danlu data inspect {config.out}", f"查看:danlu data inspect {config.out}"),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
