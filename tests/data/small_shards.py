"""A prepared folder and its shards, small enough for a test."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from danlu.data import tokenise
from danlu.data.shards import Shards
from danlu.tokenizer import Tokenizer
from tests.conftest import couplets


def chats(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of messages, some of several turns."""
    draw, words = random.Random(seed), iter(couplets(4 * count, seed))
    return [
        {"messages": [{"role": role, "content": next(words)} for _ in range(draw.randint(1, 2)) for role in ("user", "assistant")]}
        for _ in range(count)
    ]  # fmt: skip


def prepared(folder: Path, train: Sequence[Any], valid: Sequence[Any] = ("春山。", "秋水。")) -> Path:
    """A folder with its splits as files; strings are texts, dictionaries rows."""
    folder.mkdir()
    for split, rows in (("train", train), ("valid", valid)):
        lines = [json.dumps({"text": row} if isinstance(row, str) else row, ensure_ascii=False) for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder


def saved(tokenizer: Tokenizer, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    tokenizer.save(folder)
    return folder


def sharded(folder: Path, tokenizer: Tokenizer, train: Sequence[Any], **settings: Any) -> Shards:
    """Shards of `train` under `folder`, about `shard_tokens` (200) tokens each."""
    folder.mkdir(parents=True, exist_ok=True)
    data, own = (
        prepared(folder / "data", train, settings.pop("valid", train[:3])),
        saved(tokenizer, folder / "tokenizer"),
    )
    out = folder / "shards"
    tokenise.run(tokenise.Config(data=data, tokenizer=own, out=out, **{"shard_tokens": 200, "workers": 1} | settings))
    return Shards.open(out)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, hidden ones too."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
