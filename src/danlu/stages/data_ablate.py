"""Leave out each step of a data recipe in turn and train the same small model on what results: what does the step bring.

依次去掉数据配方中的每一步，用得到的数据训练同样的小模型，看这一步带来什么。

Example: danlu data ablate recipe.yaml --out runs/ablate
All models see equally many tokens, are validated on the same texts (those the whole recipe holds out; no variant trains on
them) and share one tokenizer; each is trained with several seeds. Bits per byte, lower is better. What is done is kept: the
same command goes on.
"""

import math
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from pydantic import PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc, find_settings, load_yaml
from danlu.core.errors import DataError
from danlu.core.files import atomic_folder, read_json, write_json
from danlu.core.i18n import tr
from danlu.data import prepare
from danlu.data.dedup import content_hash
from danlu.data.parts import load_row
from danlu.models.decoder import DecoderConfig
from danlu.stages import pretrain, tokenizer_train
from danlu.tokenizer import TokenizerConfig
from danlu.train.config import TrainConfig
from danlu.train.hooks import console

__all__ = ["Config", "run"]

WHOLE = "whole"
_COPY = re.compile(r"~\d+$")


class Config(Base):
    """Which recipe, what is trained on it."""

    recipe: Input = doc(..., "recipe of danlu data prepare (YAML)", "danlu data prepare 的配方（YAML）")
    out: Output = doc(
        Path("runs/ablate"), "folder for data, runs and ablate.json", "存放数据、运行与 ablate.json 的文件夹"
    )
    steps: list[str] = doc([], "leave out only these", "只去掉这些步骤")
    seeds: PositiveInt = doc(3, "trainings of each variant", "每个变体训练几次")
    vocab_size: PositiveInt = doc(
        4096, "of the tokenizer, trained on the whole recipe", "分词器词表大小，在完整配方的数据上训练"
    )
    model: DecoderConfig = doc(
        DecoderConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=4), "the model's shape", "模型的形状"
    )
    train: TrainConfig = doc(
        TrainConfig(steps=200), "the training loop; its steps make the tokens equal", "训练循环；相同步数即相同词元数"
    )
    valid_rows: PositiveInt = doc(400, "held-out texts that are judged by", "用于评判的留出文本篇数")


def run(config: Config) -> dict[str, Any]:
    """Prepare, train, compare; write and return ablate.json: for each variant rows, characters, bits per byte by seed."""
    settings = {**load_yaml(find_settings("data prepare", config.recipe)), "out": str(config.out / "data" / WHOLE)}
    recipe = prepare.Config.parse(settings, str(config.recipe))
    names = [named.name for named in recipe.named()]
    left_out = _choose(config, names)
    whole = _prepared(config, recipe, WHOLE, recipe.steps)
    held_out = {row["id"] for row in _rows(whole, ("valid", "test"))}
    dropped = whole / "dropped.jsonl"
    for line in dropped.read_bytes().splitlines() if dropped.is_file() else []:
        row = load_row(line)
        if row.get("detail") in held_out:
            held_out.add(row["id"])  # a copy of what is held out: without that step it would be trained on
    texts = [row for row in _rows(whole, ("valid",)) if row.get("text")]
    valid = sorted(texts, key=lambda row: content_hash(row["id"]))[: config.valid_rows]
    if not valid:
        raise DataError(
            tr("the recipe holds out no text to validate on", "配方没有留出可供验证的文本"),
            tr("give it valid: 0.02", "请在配方中写 valid: 0.02"),
        )
    tokenizer = _tokenizer(config, whole)
    found = []
    for name, position in [(WHOLE, None), *left_out]:
        steps = recipe.steps if position is None else recipe.steps[:position] + recipe.steps[position + 1 :]
        folder = whole if position is None else _prepared(config, recipe, name, steps)
        corpus = _corpus(config, name, folder, held_out, valid)
        losses = [_trained(config, name, corpus, tokenizer, seed) for seed in range(config.seeds)]
        found.append({"variant": name, **read_json(corpus / "size.json"), "bits_per_byte": losses})
    result = {"schema": 1, "recipe": recipe.plain(), "seeds": config.seeds, "variants": _compared(found)}
    write_json(config.out / "ablate.json", result)
    _show(result)
    return result


def _choose(config: Config, names: list[str]) -> list[tuple[str, int]]:
    """(variant, place of the step that it lacks); a step that stands twice is numbered."""
    unknown = [name for name in config.steps if name not in names]
    if unknown:
        raise DataError(
            tr(f"the recipe has no step '{unknown[0]}'", f"配方中没有步骤“{unknown[0]}”"),
            tr(f"it has {', '.join(names)}", f"其中有 {'、'.join(names)}"),
        )
    chosen = []
    for position, name in enumerate(names):
        if not config.steps or name in config.steps:
            again = names[:position].count(name)
            chosen.append((f"without-{name}" + (f"-{again + 1}" if again else ""), position))
    return chosen


def _prepared(config: Config, recipe: prepare.Config, name: str, steps: list[dict[str, Any]]) -> Path:
    out = config.out / "data" / name
    changed = recipe.model_copy(update={"out": out, "steps": steps})
    changed.__pydantic_fields_set__.add("steps")
    if not (out / "data.json").is_file():
        console.print(f"[bold]{name}[/bold]")
        prepare.run(changed)
    return out


def _rows(folder: Path, splits: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for split in splits:
        with open(folder / f"{split}.jsonl", "rb") as file:
            yield from map(load_row, file)


def _tokenizer(config: Config, whole: Path) -> Path:
    out = config.out / "tokenizer"
    if not (out / "tokenizer.json").is_file():
        kind = TokenizerConfig(vocab_size=config.vocab_size, chat_template="none")
        settings = {**kind.plain(), "data": str(whole), "out": str(out)}
        tokenizer_train.run(tokenizer_train.Config.parse(settings, "tokenizer"))
    return out


def _corpus(config: Config, name: str, folder: Path, held_out: set[str], valid: list[dict[str, Any]]) -> Path:
    """What a variant trains on: all its rows in an order of their own, but those that the whole recipe holds out."""
    corpus = config.out / "corpora" / name
    if (corpus / "size.json").is_file():
        return corpus
    rows = characters = 0
    texts = {_bare(row["text"]) for row in valid}
    with atomic_folder(corpus) as temporary:
        with open(temporary / "train.jsonl", "wb") as file:
            for row in _rows(folder, ("train", "valid", "test")):
                if row.get("text") and _COPY.sub("", row["id"]) not in held_out and _bare(row["text"]) not in texts:
                    file.write(orjson.dumps({"text": row["text"]}) + b"\n")
                    rows, characters = rows + 1, characters + len(row["text"])
        (temporary / "valid.jsonl").write_bytes(b"".join(orjson.dumps({"text": row["text"]}) + b"\n" for row in valid))
        write_json(temporary / "size.json", {"rows": rows, "characters": characters})
    return corpus


def _bare(text: str) -> str:
    return content_hash("".join(text.split()))


def _trained(config: Config, name: str, corpus: Path, tokenizer: Path, seed: int) -> float:
    out = config.out / "runs" / f"{name}-{seed}"
    train = config.train.model_copy(update={"seed": seed})
    settings = pretrain.Config(data=corpus, tokenizer=tokenizer, out=out, model=config.model, train=train, prompts=())
    pretrain.run(settings)
    return read_json(out / "run.json")["measured"]["bits_per_byte"]


def _compared(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means, and how much worse each variant is than the whole recipe, seed by seed; `gain` is what the step brings."""
    base = found[0]["bits_per_byte"]
    for variant in found:
        losses = variant["bits_per_byte"]
        gains = [theirs - ours for theirs, ours in zip(losses, base, strict=True)]
        variant["mean"] = round(statistics.fmean(losses), 4)
        variant["gain"] = round(statistics.fmean(gains), 4)
        # The standard error of the mean difference; one seed gives none.
        variant["error"] = round(statistics.stdev(gains) / math.sqrt(len(gains)), 4) if len(gains) > 1 else None
    return found


def _show(result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table()
    columns = (tr("variant", "变体"), tr("rows", "行"), tr("characters", "字符"), tr("bits per byte", "每字节比特"))
    for name in (*columns, tr("the step gains", "该步骤的收益"), "±"):
        table.add_column(name, justify="left" if name == columns[0] else "right")
    for variant in result["variants"]:
        error = "" if variant["error"] is None else f"{variant['error']:.4f}"
        gain = "" if variant["variant"] == WHOLE else f"{variant['gain']:+.4f}"
        table.add_row(
            variant["variant"],
            f"{variant['rows']:,}",
            f"{variant['characters']:,}",
            f"{variant['mean']:.4f}",
            gain,
            error,
        )
    console.print(table)
