"""Proofs about whole stages, run by their verbs: pre-training on a source whose entropy is known, tuning on a rule."""

import itertools
import json
import math
import random
import string
import tempfile
from pathlib import Path

from _small import decoder

from danlu.core.folder import Lineage
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.stages import pretrain, sft
from danlu.tokenizer import TokenizerConfig, train_tokenizer

__all__ = ["PROOFS"]

LETTERS = string.ascii_lowercase[:12]
STOP = 1 / 40  # the chance that a text ends after a letter
STILL = {"precision": "fp32", "device": "cpu", "seq_len": 64, "batch_size": 16, "warmup": 20, "lr": 3e-3}


class Source:
    """A Markov chain over letters that ends at any time with probability STOP: nobody can predict it better."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.rows = {letter: self._row() for letter in LETTERS}

    def _row(self) -> list[float]:
        weights = [self.draw.expovariate(1) ** 3 for _ in LETTERS]
        return [weight / sum(weights) for weight in weights]

    def text(self) -> str:
        """A text, about 40 letters long."""
        letters = [self.draw.choice(LETTERS)]
        while self.draw.random() >= STOP:
            letters += self.draw.choices(LETTERS, self.rows[letters[-1]])
        return "".join(letters)

    def nats(self, text: str) -> float:
        """What the source itself pays for all but the first letter, and for the end."""
        steps = (math.log((1 - STOP) * self.rows[a][LETTERS.index(b)]) for a, b in itertools.pairwise(text))
        return -sum(steps) - math.log(STOP)


def pretraining() -> dict[str, float]:
    """`danlu pretrain` on the chain: nats a token above what the chain itself pays for the held-out texts."""
    source = Source(0)
    texts = {"train": [source.text() for _ in range(4000)], "valid": [source.text() for _ in range(400)]}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), {name: [{"text": text} for text in some] for name, some in texts.items()})
        made = pretrain.run(
            pretrain.Config.parse(
                {
                    "data": folder,
                    "out": f"{folder}/run",
                    "new_tokenizer": {"kind": "char", "vocab_size": 300, "chat_template": "none"},
                    "model": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
                    "train": {**STILL, "steps": 200},
                },
                "proofs",
            )
        )
        report = json.loads((made.parent / "run.json").read_text(encoding="utf-8"))
    floor = sum(map(source.nats, texts["valid"])) / sum(map(len, texts["valid"]))  # the end makes up for the first
    told = report["measured"]["val_loss"]
    return {"excess": told - floor, "val_loss": told, "source": floor}


def tuning() -> dict[str, float]:
    """`danlu sft` on a rule (three letters in, the same backwards out): the share of unseen questions answered right."""
    draw = random.Random(0)
    words = ["".join(word) for word in (draw.sample(LETTERS, 3) for _ in range(6000))]
    words = list(dict.fromkeys(words))
    draw.shuffle(words)
    chats = [chat(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer([LETTERS + "\n", "userassistant"] * 3, TokenizerConfig(kind="char"))
        base = decoder(tokenizer.vocab_size, max_position_embeddings=128)
        auto.save(base, Path(folder) / "base", lineage=Lineage(verb="proof"), save_tokenizer=tokenizer.save)
        rows = [{"messages": messages} for messages in chats]
        write(Path(folder), {"train": rows[200:], "valid": rows[100:200]})
        made = sft.run(
            sft.Config.parse(
                {
                    "base": f"{folder}/base",
                    "data": folder,
                    "out": f"{folder}/run",
                    "train": {**STILL, "steps": 300, "lr": 1e-2, "matrix_lr": 2e-2},
                },
                "proofs",
            )
        )
        engine = Engine.open(made)
        told = engine.generate([messages[:1] for messages in chats[:100]], SamplingParams(max_tokens=12, temperature=0))
    right = [
        answer.text == messages[1]["content"] and answer.finish_reason == "stop"
        for answer, messages in zip(told, chats, strict=False)
    ]
    return {"right": sum(right) / len(right), "questions": len(right)}


def chat(word: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": word}, {"role": "assistant", "content": word[::-1]}]


def write(folder: Path, splits: dict[str, list[dict]]) -> None:
    """train.jsonl and valid.jsonl, as `danlu data prepare` lays them out."""
    for name, rows in splits.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


PROOFS = {"pretraining": pretraining, "instruction-tuning": tuning}
