"""Watch the engine work: what each step computed for each request, as a file and as a picture.

观察推理引擎：每一步为每个请求算了什么，写成文件并画成图。

Example: danlu engine trace runs/quickstart/sft/model --out trace.svg
Without --prompt and --prompts, a small mix arrives: short and long prompts, and three that begin alike. Little memory
makes it more lively: --engine.cache-tokens 160. Guesses are drawn too: --engine.guesses 3.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import NonNegativeInt
from rich.console import Console

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError, DataError
from danlu.core.files import atomic_path
from danlu.core.i18n import tr
from danlu.core.picture import check_kind, save_picture
from danlu.generate.engine import Engine, EngineConfig, Prompt, Step
from danlu.generate.params import SamplingParams

__all__ = ["Arrival", "Config", "Record", "drawing", "mix", "run", "trace"]

_MOST = 40_000  # cells; beyond, the picture takes minutes and a cell is smaller than a pixel
_WIDTHS = {60: 24, 150: 10, 400: 4}  # pixels of a step, by how many steps there are at most
_LABELLED = 20  # pixels that a cell's label needs

# What the built-in mix is made of; any tokenizer takes it.
_TEXT = "炉火一夜不曾熄，炼丹的人守在旁边，看火色由红转青。The fire burned all night, and someone kept watch. "


class Arrival(NamedTuple):
    """A request: before which step it comes (from 1), and what it asks."""

    step: int
    prompt: Prompt
    params: SamplingParams


@dataclass
class Record:
    """One step, as a line of the file."""

    step: int
    seconds: float
    arrived: list[dict[str, int]]  # request, prompt_tokens
    cells: list[dict[str, Any]]  # request, did, start, read, said (an end token too), right, wrong, found
    waiting: int
    running: int
    pages_held: int
    pages_remembered: int
    pages: int
    ended: list[int] = field(default_factory=list)


class Config(Base):
    """Which model, which requests, and where to write what was seen."""

    model: Input = doc(..., "model folder or GGUF file", "模型文件夹或 GGUF 文件")
    prompt: tuple[str, ...] = doc((), "a prompt; give it again for more", "提示词；可多次给出")
    prompts: Input | None = doc(None, "text file, a prompt on each line", "文本文件，每行一个提示词")
    every: NonNegativeInt = doc(2, "steps between two arrivals; 0: all at once", "相邻请求间隔的步数；0 表示同时到达")
    out: Output = doc(Path("trace.svg"), "picture: .png, .svg or .html", "图片：.png、.svg 或 .html")
    record: Output | None = doc(
        None, "what each step held, jsonl; default: beside the picture", "每步的记录（jsonl），默认与图片同名"
    )
    sampling: SamplingParams = doc(
        SamplingParams(max_tokens=16, temperature=0, ignore_eos=True), "how tokens are chosen", "采样设置"
    )
    engine: EngineConfig = doc(EngineConfig(max_rows=4, step_tokens=32), "how the engine runs", "推理引擎设置")


def run(config: Config) -> Path:
    """Write the record and the picture; return the picture's path."""
    check_kind(config.out)
    if config.sampling.n > 1 or config.sampling.best_of:
        raise ConfigError(
            tr("a trace draws one answer to each prompt", "每个提示词只画一份回答"),
            tr(
                "leave out sampling.n and sampling.best_of, or give the prompt again",
                "请去掉 sampling.n 与 sampling.best_of，或重复给出提示词",
            ),
        )
    texts = [*config.prompt, *(_lines(config.prompts) if config.prompts else [])]
    engine = Engine.open(config.model, config.engine)
    if texts:
        arrivals = [Arrival(1 + at * config.every, text, config.sampling) for at, text in enumerate(texts)]
    else:
        arrivals = mix(engine, config.sampling)
    records = trace(engine, arrivals)
    file = config.record or config.out.with_suffix(".jsonl")
    with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(vars(record), ensure_ascii=False) + "\n" for record in records)
    save_picture(drawing(records), config.out)
    said = sum(cell["said"] for record in records for cell in record.cells)
    Console().print(
        tr(
            f"{len(arrivals)} requests, {len(records)} steps, {said} tokens written:",
            f"{len(arrivals)} 个请求，{len(records)} 步，写出 {said} 个词元：",
        ),
        f"{config.out} {file}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return config.out


def _lines(path: Path) -> list[str]:
    """The lines that say something. Raises DataError when the file is not UTF-8, or says nothing."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(
            tr(f"{path} is not UTF-8: byte {error.start}", f"{path} 不是 UTF-8：第 {error.start} 个字节"),
            tr("convert it first, for instance with iconv", "请先转换编码，例如用 iconv"),
        ) from None
    if not lines:
        raise DataError(
            tr(f"{path} holds no prompt", f"{path} 里没有提示词"), tr("a prompt on each line", "每行一个提示词")
        )
    return lines


def mix(engine: Engine, params: SamplingParams) -> list[Arrival]:
    """Seven requests for any model: two short ones, a long one, three that begin alike, and a late one.

    Prompts are cut to the model's context. The three follow each other closely, so that two of them wait for pages that
    the first is about to fill.
    """
    text = engine.tokenizer.encode(_TEXT)
    most = max(1, engine.longest - params.max_tokens)
    long = (text * (1 + 96 // len(text)))[: min(96, most)]
    alike = [*text[len(text) // 2 :], *text][: min(40, most - 1)] if most > 1 else []
    ends = text[:3]
    asked: list[tuple[int, list[int], int]] = [
        (1, text[:5][:most], params.max_tokens),
        (2, long, max(1, params.max_tokens // 2)),
        (4, text[5:9][:most], max(1, params.max_tokens // 4)),
        *((6 + at, [*alike, end], max(1, params.max_tokens // 2)) for at, end in enumerate(ends)),
        (14, long[: len(long) // 2 + 1], max(1, params.max_tokens // 2)),
    ]
    return [Arrival(step, ids, params.model_copy(update={"max_tokens": tokens})) for step, ids, tokens in asked]


def trace(engine: Engine, arrivals: Sequence[Arrival]) -> list[Record]:
    """Run the engine until all requests have ended; what each step did with each of them.

    A step without anything to compute is skipped: whoever comes next comes at once.
    """
    coming = sorted(arrivals, key=lambda arrival: arrival.step)
    seen: list[Step] = []
    before, engine.watch = engine.watch, seen.append
    records: list[Record] = []
    lengths: dict[int, int] = {}  # prompt and answer so far, of those who have not ended
    try:
        while coming or lengths:
            arrived = []
            while coming and (coming[0].step <= len(records) + 1 or not lengths):
                arrival = coming.pop(0)
                number = engine.add(arrival.prompt, arrival.params)
                lengths[number] = len(engine.fitting(arrival.prompt))
                arrived.append({"request": number, "prompt_tokens": lengths[number]})
            engine.step()
            records.append(_record(seen.pop(), len(records) + 1, arrived, lengths))
    finally:
        engine.watch = before
        for number in lengths:
            engine.cancel(number)
    return records


def _record(step: Step, number: int, arrived: list[dict[str, int]], lengths: dict[int, int]) -> Record:
    """What became of each request in this step; `lengths` are brought up to date."""
    parts, found = {part[0]: part for part in step.parts}, dict(step.admitted)
    cells = []
    for request, length in sorted(lengths.items()):
        cell = {"request": request, "did": "waits", "start": 0, "read": 0, "said": 0, "right": 0, "wrong": 0}
        cell["found"] = found.get(request, 0)
        if request in step.preempted:
            cell["did"] = "preempted"
        elif request in parts:
            _, start, count, right = parts[request]
            reads = length - start > 1
            cell |= {"did": "reads" if reads else "answers", "start": start, "read": min(count, length - start)}
            if start + count >= length:
                cell |= {"said": 1 + right, "right": right, "wrong": start + count - length - right}
                lengths[request] += 1 + right
            if right:
                cell["did"] = "guessed right"
        if cell["found"]:
            cell["did"] = "finds a prefix"
        cells.append(cell)
    for request in step.ended:
        del lengths[request]
    return Record(
        number, step.seconds, arrived, cells, step.waiting, step.running,
        step.pages_held, step.pages_remembered, step.pages, list(step.ended),
    )  # fmt: skip


def drawing(records: Sequence[Record]) -> dict[str, Any]:
    """A Vega-Lite specification: above, a row for each request and a column for each step; below, the pages.

    Raises ConfigError when there are more cells than can be drawn.
    """
    cells = [{"step": record.step, **cell, "label": _label(cell)} for record in records for cell in record.cells]
    if len(cells) > _MOST:
        raise ConfigError(
            tr(f"{len(cells):,} cells are too many to draw", f"共 {len(cells):,} 格，太多，无法绘制"),
            tr("give fewer prompts, or a smaller sampling.max_tokens", "请减少提示词，或减小 sampling.max_tokens"),
        )
    width = next((width for most, width in _WIDTHS.items() if len(records) <= most), 2)
    axis = {"labelAngle": 0, "labelOverlap": True, "domain": False, "ticks": False}
    steps = {
        "field": "step",
        "type": "ordinal",
        "title": tr("step", "步"),
        "axis": axis,
        "scale": {"domain": [record.step for record in records]},
    }
    return {
        "vconcat": [_requests(cells, steps, width), _pages(records, steps, width)],
        "spacing": 12,
        "resolve": {"scale": {"color": "independent"}},
    }


def _label(cell: dict[str, Any]) -> str:
    """What stands in a cell: tokens found and read, or written with guesses; one written token needs no number."""
    if cell["found"]:
        return f"{cell['found']}+{cell['read']}" if cell["read"] else str(cell["found"])
    if cell["did"] == "reads":
        return str(cell["read"])
    return str(cell["said"]) if cell["right"] else ""


def _requests(cells: list[dict[str, Any]], steps: dict[str, Any], width: int) -> dict[str, Any]:
    """What each request did at each step."""
    kinds = {
        "waits": (tr("waits", "等待"), "#e5e7eb"),
        "reads": (tr("reads so many tokens", "读入若干词元"), "#8fb8e3"),
        "finds a prefix": (tr("finds a prefix (found+read)", "命中前缀（命中+读入）"), "#5fb39a"),
        "answers": (tr("writes one token", "写出一个词元"), "#f2b27c"),
        "guessed right": (tr("guessed right: writes several", "猜中：写出多个"), "#e07b28"),
        "preempted": (tr("preempted", "被抢占"), "#c0504d"),
    }
    values = [cell | {"what": kinds[cell["did"]][0]} for cell in cells]
    used = [kind for kind in kinds if any(cell["did"] == kind for cell in cells)]
    colour = {
        "field": "what",
        "type": "nominal",
        "title": None,
        "scale": {"domain": [kinds[kind][0] for kind in used], "range": [kinds[kind][1] for kind in used]},
        "legend": {"orient": "top", "columns": 3, "labelLimit": 260, "symbolType": "square"},
    }
    names = {"start": tr("from position", "起始位置"), "read": tr("tokens read", "读入"), "said": tr("written", "写出")}
    names |= {"right": tr("guesses right", "猜中"), "wrong": tr("guesses wrong", "猜错"), "found": tr("found", "命中")}
    shown = [{"field": name, "title": title} for name, title in {"request": tr("request", "请求"), **names}.items()]
    rows = {
        "field": "request",
        "type": "ordinal",
        "title": tr("request", "请求"),
        "axis": {"domain": False, "ticks": False},
    }
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rect", "stroke": "white", "strokeWidth": 1},
            "encoding": {"color": colour, "tooltip": [{"field": "what", "title": tr("did", "动作")}, *shown]},
        }
    ]
    if width >= _LABELLED:
        layers.append({"mark": {"type": "text", "fontSize": 8}, "encoding": {"text": {"field": "label"}}})
    return {
        "data": {"values": values},
        "width": {"step": width},
        "height": {"step": 22},
        "encoding": {"x": {**steps, "title": None}, "y": rows},
        "layer": layers,
    }


def _pages(records: Sequence[Record], steps: dict[str, Any], width: int) -> dict[str, Any]:
    """The pages held after each step, and those whose content can be found again."""
    held, known = tr("held", "占用"), tr("remembered", "记得内容")
    values = [
        {"step": record.step, "kind": kind, "pages": number}
        for record in records
        for kind, number in ((held, record.pages_held), (known, record.pages_remembered))
    ]
    total = records[-1].pages if records else 0
    colour = {
        "field": "kind",
        "type": "nominal",
        "title": tr(f"of {total} pages", f"共 {total} 页"),
        "scale": {"domain": [held, known], "range": ["#b9c6d6", "#5fb39a"]},
        "legend": {"orient": "top", "symbolType": "square", "titleOrient": "left"},
    }
    y = {
        "field": "pages",
        "type": "quantitative",
        "title": tr("pages", "页"),
        "stack": None,
        "axis": {"tickMinStep": 1},
    }
    one = {"x": steps, "y": y, "color": colour}
    return {
        "data": {"values": values},
        "width": {"step": width},
        "height": 90,
        "layer": [
            {"transform": [{"filter": {"field": "kind", "equal": held}}], "mark": "bar", "encoding": one},
            {
                "transform": [{"filter": {"field": "kind", "equal": known}}],
                "mark": {"type": "line", "interpolate": "step", "strokeWidth": 2},
                "encoding": one,
            },
        ],
    }
