"""Answers in JSON, with and without a guide: how many are valid, how many are right, and what a mask costs.

JSON 回答：有约束与没有约束，各有多少合法、多少正确，以及一次掩码的代价。

A small model learns from sentences and their records to write the record; it is asked about people it has not met. A
model that has learned nothing is asked too, and with --smollm a chat model of 135 million parameters (fetched once,
98 MB) that the prompt asks for JSON. Masks are timed in vocabularies of several sizes, beside a loop over all tokens.
"""

import json
import random
import sysconfig
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _common import Raw, arguments, interleave, ratio, show, write
from _small import decoder
from jsonschema import Draft202012Validator

from danlu.core.assets import asset_path
from danlu.data.batches import PackedBatches, tokenise_texts
from danlu.generate.engine import Engine
from danlu.generate.grammar import Vocabulary
from danlu.generate.guided import Guide, Guided
from danlu.generate.params import Completion, SamplingParams
from danlu.models.decoder import Decoder
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.loop import fit
from danlu.train.objective import cross_entropy

WORK = "valid JSON with and without a guide, and the time of a mask / 有无约束时合法 JSON 的比例，以及一次掩码的耗时"
NAMES = (
    "Ada",
    "Alan",
    "Barbara",
    "Claude",
    "Donald",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "Ivan",
    "John",
    "Ken",
    "Linus",
    "Margaret",
    "Niklaus",
    "Radia",
)
FAMILIES = (
    "Bell",
    "Cole",
    "Dyer",
    "Finch",
    "Gray",
    "Hale",
    "Kerr",
    "Lane",
    "Moss",
    "Nash",
    "Park",
    "Reed",
    "Shaw",
    "Tate",
    "Vane",
    "Webb",
)
LIKES = ("tea", "chess", "hiking", "poems", "cats", "jazz")
LENGTH, ROWS, ASKED, MOST = 96, 16, 50, 120
ORDER = 'Answer with one JSON object with the keys "name", "age" and "likes", and nothing else. '


def schema(bounded: bool = True) -> dict[str, Any]:
    """What a record must look like; bounded: a name ends somewhere, and one blank is the most between two marks."""
    name = {"type": "string", "maxLength": 24} if bounded else {"type": "string"}
    likes = {"type": "array", "items": {"enum": list(LIKES)}, "minItems": 1, "maxItems": 3}
    properties = {"name": name, "age": {"type": "integer", "minimum": 0, "maximum": 120}, "likes": likes}
    form = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {**form, "x-guidance": {"whitespace_pattern": "[ ]?"}} if bounded else form


def people(number: int, seed: int) -> list[tuple[str, dict[str, Any]]]:
    """Sentences about invented people, and what they say as a record."""
    draw, found = random.Random(seed), []
    for _ in range(number):
        name, age = f"{draw.choice(NAMES)} {draw.choice(FAMILIES)}", draw.randint(18, 99)
        likes = draw.sample(LIKES, draw.randint(1, 3))
        said = draw.choice((f"{name} is {age} years old", f"At {age}, {name} is busy", f"{name}, aged {age}, is here"))
        found.append((f"{said} and likes {' and '.join(likes)}.", {"name": name, "age": age, "likes": likes}))
    return found


def learned(tokenizer: Tokenizer, texts: list[str], steps: int) -> Decoder:
    """A small decoder after so many steps on sentences and their records; 0: random weights."""
    model = decoder(tokenizer.vocab_size, hidden_size=96, max_position_embeddings=256)
    if steps:
        settings = {"steps": steps, "precision": "fp32", "device": "cpu", "batch_size": ROWS, "seq_len": LENGTH}
        batches = PackedBatches(tokenise_texts(texts, tokenizer), LENGTH, ROWS)
        fit(model, batches, cross_entropy, TrainConfig.parse(settings, "bench"))
    return model


def judged(answers: list[Completion], wanted: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of answers: JSON at all, by the schema, equal to the record; and cut off by max_tokens."""
    judge, counts = Draft202012Validator(schema()), {"json": 0, "valid": 0, "right": 0, "cut": 0}
    for answer, record in zip(answers, wanted, strict=True):
        counts["cut"] += answer.finish_reason == "length"
        try:
            told = json.loads(answer.text)
        except ValueError:
            continue
        counts["json"] += 1
        counts["valid"] += judge.is_valid(told)
        counts["right"] += told == record
    return {name: count / len(answers) for name, count in counts.items()}


def masks(tokenizer: Tokenizer, text: str, constraint: Guided) -> list[float]:
    """Seconds of this thread for each mask along an answer: what else the machine does is left out."""
    guide = Guide(constraint, tokenizer)
    row, seconds = np.empty(guide.vocabulary.words, np.int32), []
    for token in tokenizer.encode(text):
        start = time.thread_time()
        guide.fill(row)
        seconds.append(time.thread_time() - start)
        guide.advance(token)
    return seconds


def looped(tokenizer: Tokenizer, choices: list[str]) -> float:
    """Seconds of the mask before the first token, by a loop over the vocabulary: may any choice begin with it?"""
    tokens = Guide(Guided(choice=tuple(choices)), tokenizer).vocabulary.tokens
    texts = [choice.encode() for choice in choices]
    start = time.thread_time()
    mask = [bool(token) and any(text.startswith(token) for text in texts) for token in tokens]
    assert any(mask)
    return time.thread_time() - start


def costs(tokenizers: dict[str, Tokenizer]) -> tuple[list[tuple[object, ...]], Raw, dict[str, float]]:
    """Rows of a table; the seconds round by round; the same medians in milliseconds."""
    rows, raw, found = [], Raw(), {}
    records = [json.dumps(record) for _, record in people(20, seed=2)]
    for name, tokenizer in tokenizers.items():
        start = time.thread_time()
        vocabulary = Vocabulary(tokenizer)
        read = time.thread_time()
        vocabulary.matcher("json_schema", schema())
        compiled = time.thread_time()
        runs = {
            f"mask@{name}": lambda t=tokenizer: masks(t, records[0], Guided(choice=tuple(records)))[0],
            f"loop@{name}": lambda t=tokenizer: looped(t, records),
        }
        raw |= interleave(runs, 5)
        along = [second for text in records for second in masks(tokenizer, text, Guided(json_schema=schema()))]
        figures = (read - start, compiled - read, median(along), max(along), median(raw[f"loop@{name}"]))
        rows.append((name, *(f"{1000 * figure:.3f}" for figure in figures)))
        names = ("vocabulary", "compile", "mask", "slowest", "loop")
        found |= {f"{what}@{name}": figure for what, figure in zip(names, figures, strict=True)}
    return rows, raw, {name: 1000 * seconds for name, seconds in found.items()}


def library(size: int) -> Tokenizer:
    """A byte-level vocabulary of the standard library's source."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    return train_tokenizer(texts, TokenizerConfig(vocab_size=size))


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--steps", type=int, default=120, help="steps of training / 训练步数")
    parser.add_argument("--smollm", action="store_true", help="ask SmolLM2-135M too / 同时测试 SmolLM2-135M")
    read = parser.parse_args()
    texts = [f"{said}\n{json.dumps(record)}" for said, record in people(4000, seed=0)]
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=600))
    questions = people(ASKED, seed=1)
    prompts, wanted = [f"{said}\n" for said, _ in questions], [record for _, record in questions]
    engines = {
        "untrained": Engine(learned(tokenizer, texts, 0), tokenizer),
        "trained": Engine(learned(tokenizer, texts, read.steps), tokenizer),
    }
    sizes = {"600": tokenizer, "16,000": library(16_000)}
    if read.smollm:
        engines["SmolLM2"] = Engine.open(next(asset_path("smollm2-135m-instruct").glob("*.gguf")))
        sizes["49,152"] = engines["SmolLM2"].tokenizer
    shares: dict[str, dict[str, float]] = {}
    examples: dict[str, str] = {}
    for name, engine in engines.items():
        chat = [[{"role": "user", "content": ORDER + text}] for text in prompts]
        for how, form in (("free", None), ("guided", schema(bounded=False)), ("guided, bounded", schema())):
            key, wish = f"{name}, {how}", Guided(json_schema=form) if form else None
            params = SamplingParams(temperature=1.0, max_tokens=MOST, guided=wish, seed=3)
            answers = engine.generate(chat if name == "SmolLM2" else prompts, params)
            shares[key], examples[key] = judged(answers, wanted), answers[0].text
    names = ("json", "valid", "right", "cut")
    shown = [(key, *(f"{told[n]:.0%}" for n in names), repr(examples[key])[:100]) for key, told in shares.items()]
    show(("model", "JSON", "by the schema", "right", "cut off", "for instance"), shown)
    print()
    rows, raw, milliseconds = costs(sizes)
    show(
        (
            "tokens",
            "read the vocabulary, ms",
            "compile the schema, ms",
            "mask, ms (median)",
            "slowest mask, ms",
            "loop in Python, ms",
        ),
        rows,
    )
    print()
    guided = min(told["valid"] for key, told in shares.items() if key.endswith("bounded"))
    ratios = {f"mask_vs_loop_at_{name}": ratio(raw, f"mask@{name}", f"loop@{name}") for name in sizes}
    write(read.json, WORK, ratios, raw, shares=shares, guided_valid=guided, milliseconds=milliseconds)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
