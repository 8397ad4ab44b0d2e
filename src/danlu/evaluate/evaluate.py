"""Measure a model: loss and bits per byte on held-out text, and a task's score on its answers.

评测模型:留出文本上的损失与每字节比特数,以及在任务上的得分。

Example: danlu evaluate runs/quickstart/sft/model --data data/poems --task poem
"""

import json
import math
import time
from typing import Any, Literal

from pydantic import PositiveInt
from rich.console import Console
from rich.table import Table

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.files import write_json
from danlu.core.folder import ModelFolder
from danlu.core.i18n import tr
from danlu.data.batches import render_chats, tokenise_texts, valid_batches
from danlu.data.load import load_split
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import SamplingParams
from danlu.tasks.poem import PoemTask, summary
from danlu.train.hooks import mean_loss
from danlu.train.objective import cross_entropy

__all__ = ["Config", "evaluate", "run"]


class Config(Base):
    """What to measure, on what."""

    model: Input = doc(..., "model folder", "模型文件夹")
    data: Input = doc(..., "prepared data folder", "准备好的数据文件夹")
    task: Literal["none", "poem"] = doc("none", "task to answer and score", "要作答并评分的任务")
    style: Literal["auto", "chat", "plain"] = doc(
        "auto",
        "ask by chat, or continue plain text; auto: chat if the model was tuned for it",
        "以对话提问,或续写纯文本;auto:经过对话微调的模型用对话",
    )
    limit: PositiveInt = doc(200, "questions asked", "提问数")
    split: Literal["valid", "test"] = doc("test", "which held-out rows the task asks about", "任务使用的留出数据")
    sampling: SamplingParams = doc(SamplingParams(max_tokens=80, seed=0), "how answers are drawn", "作答时的采样设置")
    engine: EngineConfig = doc(EngineConfig(), "how the engine runs", "推理引擎设置")
    json_: Output | None = doc(None, "write the figures to this file", "把结果写入该文件")


def run(config: Config) -> dict[str, Any]:
    """Measure, print, record in the model's `danlu.json`; return the figures."""
    figures = evaluate(config)
    table = Table(title=str(config.model))
    table.add_column(tr("measure", "指标"))
    table.add_column(tr("value", "值"), justify="right")
    for name, value in figures.items():
        if not isinstance(value, list | dict):
            table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    console = Console()
    console.print(table)
    for sample in figures.get("samples", [])[:3]:
        console.print(f"\n{sample['prompt']}\n{sample['text']}", markup=False)
    if config.json_:
        write_json(config.json_, figures)
    return figures


def evaluate(config: Config) -> dict[str, Any]:
    """The figures alone: losses on the valid split, then the task."""
    folder = ModelFolder.open(config.model)
    engine = Engine.open(config.model, config.engine)
    figures: dict[str, Any] = {"size_mb": round(folder.weight_bytes / 1e6, 3), **_losses(config, engine)}
    if config.task == "poem":
        figures |= _poem(config, engine)
    measured = {key: value for key, value in figures.items() if key != "samples"}
    folder.record(evaluation=json.loads(json.dumps(measured)))
    return figures


def _losses(config: Config, engine: Engine) -> dict[str, Any]:
    """Mean -log p in nats a token and its exponential, bits per byte and nats per character of plain text; loss of
    chat answers."""
    found: dict[str, Any] = {}
    precision = engine.model.dtype_name
    seq_len = min(engine.model.context, 512)
    rows = load_split(config.data, "valid")
    texts = [row["text"] for row in rows if "text" in row]
    documents = {"val_loss": tokenise_texts(texts, engine.tokenizer)} if texts else {}
    if engine.tokenizer.has_chat and rows and "messages" in rows[0]:
        documents["answer_loss"] = render_chats(rows, engine.tokenizer)
    for name, docs in documents.items():
        batches = valid_batches(docs, seq_len, 8, pad_id=engine.tokenizer.pad_id)
        found[name] = round(mean_loss(engine.model, batches, cross_entropy, engine.device, "fp32"), 5)
        if name == "val_loss":
            found["perplexity"] = round(math.exp(found[name]), 4)
            targets = sum(int((batch["labels"] != -100).sum()) for batch in batches)
            nats = found[name] * targets
            found["bits_per_byte"] = round(nats / math.log(2) / sum(len(t.encode()) for t in texts), 5)
            found["nats_per_character"] = round(nats / sum(len(t) for t in texts), 5)
    return {**found, "dtype": precision}


def _poem(config: Config, engine: Engine) -> dict[str, Any]:
    """Answers to titles that training never saw, checked for form, rhyme and repetition.

    `form` counts the asked number of characters a line; `form_any` five or seven alike. A plain continuation is
    given the title only, so it cannot know which of the two was meant.
    """
    task = PoemTask(load_split(config.data, config.split), config.limit)
    chat = config.style == "chat" or (config.style == "auto" and engine.tokenizer.has_chat)
    prompts: list[Any] = [task.prompt(i) if chat else task.completion(i) for i in range(len(task))]
    began = time.perf_counter()
    answers = engine.generate(prompts, config.sampling)
    seconds = time.perf_counter() - began
    checks = [task.check(i, answer.text) for i, answer in enumerate(answers)]
    free = [task.check(i, answer.text, asked=False).form for i, answer in enumerate(answers)]
    return {
        **{name: round(value, 4) for name, value in summary(checks).items()},
        "form_any": round(sum(free) / len(free), 4),
        "answers": len(answers),
        "style": "chat" if chat else "plain",
        "tokens_per_second": round(sum(len(answer.ids) for answer in answers) / seconds, 1),
        "samples": [
            {
                "prompt": task.prompt(i)[-1]["content"] if chat else task.completion(i),
                "title": task.title(i),
                "text": answer.text,
            }
            for i, answer in enumerate(answers)
        ],
    }
