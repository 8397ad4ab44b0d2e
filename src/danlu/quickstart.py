"""From raw text to a served poet in minutes, with a report of what each step gained.

几分钟内从原始文本炼出一位可以对话的诗人,并报告每一步带来了什么。

Example: danlu quickstart
Steps that are done are skipped; after an interruption the same command goes on.
"""

import time
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from rich.console import Console
from rich.table import Table

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.core.device import machine
from danlu.core.files import read_json, write_json
from danlu.core.i18n import tr
from danlu.core.report import Report
from danlu.core.run import read_metrics
from danlu.pipeline import StepResult, find_recipe, run_recipe
from danlu.run import print_steps

__all__ = ["Config", "run"]

_MODELS = ("base", "sft", "int8")
_TITLES = ("江南春", "秋夜", "山居", "送友人", "早梅", "登楼", "塞下曲", "渔父")
console = Console()


class Config(Base):
    """Where, and whether the server stays."""

    recipe: Path = doc(Path("quickstart"), "the recipe", "配方")
    out: Path | None = doc(None, "folder of the run; default: as the recipe says", "运行目录;默认按配方")
    keep_serving: bool = doc(False, "leave the server up at the end", "结束后保持服务运行")
    port: PositiveInt = doc(8000, "port of the server that stays", "保持运行的服务的端口", le=65535)


def run(config: Config) -> None:
    """Run the recipe, try the server, write report.json and report.html, say how to go on."""
    began = time.perf_counter()
    recipe, results = run_recipe(find_recipe(config.recipe), config.out)
    folder = recipe.run
    server = _try_server(folder / "int8" / "model")
    evaluations = {name: read_json(folder / "evaluate" / f"{name}.json") for name in _MODELS}
    record = {
        "schema": 1,
        "machine": machine(),
        "wall_seconds": round(sum(r.wall_seconds for r in results) + server["wall_seconds"], 1),
        "this_call_seconds": round(time.perf_counter() - began, 1),
        "stages": [_stage(result) for result in results],
        "comparison": [_compared(name, evaluations[name]) for name in _MODELS],
        "server": {key: server[key] for key in ("requests", "p50_ms", "p99_ms")},
    }
    write_json(folder / "report.json", record)
    _html(record, evaluations, server, folder).save(folder / "report.html")
    _tell(record, results, folder)
    if config.keep_serving:
        from danlu.serve.serve import Config as ServeConfig
        from danlu.serve.serve import run as serve

        serve(ServeConfig(folder=folder / "sft" / "model", port=config.port))


def _try_server(model: Path) -> dict[str, Any]:
    """Start the real server, ask it for poems, eight at a time."""
    from danlu.serve.probe import probe
    from danlu.serve.serve import start_in_background

    began = time.perf_counter()
    prompts = [f"写一首{'五' if i % 2 else '七'}言绝句，题为《{title}》。" for i, title in enumerate(_TITLES * 4)]
    server = start_in_background(model)
    try:
        answered = probe(server.url, prompts, concurrency=8, temperature=0.8)
    finally:
        server.stop()
    return {**answered, "prompts": prompts, "wall_seconds": time.perf_counter() - began}


def _stage(result: StepResult) -> dict[str, Any]:
    metrics = {key: value for key, value in result.metrics.items() if key != "samples"}
    return {"name": result.name, "wall_seconds": result.wall_seconds, "metrics": metrics}


def _compared(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    keys = ("val_loss", "form", "rhyme", "distinct", "size_mb", "tokens_per_second")
    more = ("form_any", "answer_loss", "bits_per_byte", "nats_per_character")
    return {"model": name} | {key: figures[key] for key in (*keys, *more) if key in figures}


def _columns() -> list[tuple[str, str]]:
    return [
        ("model", tr("model", "模型")),
        ("val_loss", tr("val. loss", "验证损失")),
        ("answer_loss", tr("answer loss", "回答损失")),
        ("form", tr("form", "合乎体裁")),
        ("rhyme", tr("rhyme", "押韵")),
        ("distinct", tr("distinct lines", "不重复的句子")),
        ("size_mb", tr("MB", "体积 MB")),
        ("tokens_per_second", tr("tokens/s", "token/秒")),
    ]


def _cell(key: str, row: dict[str, Any]) -> str:
    value = row.get(key)
    if value is None:
        return "–"
    if key in ("form", "rhyme", "distinct"):
        return f"{value:.1%}"
    return value if isinstance(value, str) else f"{value:,.3f}" if key.endswith("_loss") else f"{value:,.1f}"


def _html(record: dict[str, Any], evaluations: dict[str, Any], server: dict[str, Any], folder: Path) -> Report:
    report = Report(
        tr("A poet, from raw text to a served model", "一位诗人:从原始文本到可以对话的模型"),
        tr(
            f"{record['wall_seconds'] / 60:.1f} minutes on {record['machine'].get('cpu', '?')}, "
            f"{record['machine'].get('cores', '?')} cores. Every figure comes from this run.",
            f"在 {record['machine'].get('cpu', '?')}({record['machine'].get('cores', '?')} 核)上共 {record['wall_seconds'] / 60:.1f} 分钟。每个数字都来自这次运行。",
        ),
    )
    report.heading(tr("What each step gained", "每一步带来了什么"))
    asked = evaluations["sft"]["answers"]
    report.text(
        tr(
            f"{asked} titles that training never saw, temperature 0.8, fixed seed. Form: four lines of the asked length; the base model "
            "is given the title only, so it cannot know whether five or seven characters are asked "
            f"(counting both, {record['comparison'][0]['form_any']:.1%} of its poems are in form). Validation loss: nats a token of held-out poems as plain text, "
            "which tuning trades for the answer loss: nats a token of answers to held-out instructions.",
            f"题目 {asked} 个,训练中从未出现;温度 0.8,固定种子。合乎体裁:四句,每句字数合要求;基座模型只看到题目,无从得知要五言还是七言"
            f"(两种都算,它有 {record['comparison'][0]['form_any']:.1%} 合乎体裁)。验证损失:留出诗歌(纯文本)上每个 token 的奈特数;微调以它换取回答损失:对留出指令作答时每个 token 的奈特数。",
        )
    )
    columns = _columns()
    report.table(
        [title for _, title in columns], [[_cell(key, row) for key, _ in columns] for row in record["comparison"]]
    )
    report.heading(tr("Learning", "学习过程"))
    pictures = []
    for name, title in (("base", tr("pre-training", "预训练")), ("sft", tr("instruction tuning", "指令微调"))):
        lines = read_metrics(folder / name)
        series = {
            label: [(line["step"], line[key]) for line in lines if key in line]
            for key, label in (("loss", tr("training", "训练")), ("val_loss", tr("validation", "验证")))
        }
        pictures.append((f"{title}: {tr('loss', '损失')}", series, tr("step", "步"), tr("nats a token", "奈特/token")))
    report.curves(pictures)
    report.heading(tr("The same title as training went on", "训练过程中写同一个题目"))
    report.poems(
        (tr(f"step {line['step']}", f"第 {line['step']} 步"), line["samples"][0].strip(), "base 《江南春》")
        for line in read_metrics(folder / "base")
        if "samples" in line
    )
    report.heading(tr("Poems of the tuned model, unseen titles", "微调后模型的诗(训练未见过的题目)"))
    report.poems((sample["title"], sample["text"], sample["prompt"]) for sample in evaluations["sft"]["samples"][:12])
    report.heading(tr("Answers of the server (int8)", "服务的回答(int8)"))
    report.text(
        tr(
            f"{server['requests']} requests, eight at a time: median {server['p50_ms']:.0f} ms, P99 {server['p99_ms']:.0f} ms.",
            f"{server['requests']} 个请求,8 个并发:中位数 {server['p50_ms']:.0f} 毫秒,P99 {server['p99_ms']:.0f} 毫秒。",
        )
    )
    report.poems((title, text, "") for title, text in zip(_TITLES, server["texts"], strict=False))
    report.heading(tr("Time of each step", "各步用时"))
    report.table(
        [tr("step", "步骤"), tr("seconds", "秒")],
        [[stage["name"], f"{stage['wall_seconds']:.1f}"] for stage in record["stages"]],
    )
    report.heading(tr("Go on", "继续"))
    report.commands(_next(folder))
    return report


def _next(folder: Path) -> str:
    return (
        f"danlu serve {folder}/sft/model\n"
        f"danlu chat {folder}/sft/model\n"
        f'danlu generate {folder}/sft/model "写一首七言绝句，题为《江南春》。" --chat\n'
        "danlu pretrain --data my_texts --out runs/mine"
    )


def _tell(record: dict[str, Any], results: list[StepResult], folder: Path) -> None:
    print_steps(results)
    table = Table(title=tr("what each step gained", "每一步带来了什么"))
    for _, title in _columns():
        table.add_column(title, justify="right")
    for row in record["comparison"]:
        table.add_row(*(_cell(key, row) for key, _ in _columns()))
    console.print(table)
    server = record["server"]
    console.print(
        tr(
            f"server: {server['requests']} requests, median {server['p50_ms']:.0f} ms, P99 {server['p99_ms']:.0f} ms; all steps {record['wall_seconds'] / 60:.1f} minutes",
            f"服务:{server['requests']} 个请求,中位数 {server['p50_ms']:.0f} 毫秒,P99 {server['p99_ms']:.0f} 毫秒;全部步骤 {record['wall_seconds'] / 60:.1f} 分钟",
        )
    )
    console.print(tr(f"\nreport: {folder}/report.html\ntalk to it:", f"\n报告:{folder}/report.html\n与它对话:"))
    console.print(_next(folder), markup=False, highlight=False)
