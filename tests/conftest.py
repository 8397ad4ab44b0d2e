"""Small real things that many tests need: a corpus, a tokenizer, a model folder."""

import random
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from danlu.core.folder import Lineage
from danlu.models import auto
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tests.commands import CommandLine, Result

_FIRST, _SECOND, _THIRD = "春夏秋冬晨暮", "山水花月风云", "来去生落明暗"


def couplets(number: int, seed: int = 0) -> list[str]:
    """Short Chinese texts of uneven length, made by rule."""
    draw = random.Random(seed)
    return [
        "，".join("".join(map(draw.choice, (_FIRST, _SECOND, _THIRD))) for _ in range(draw.randint(1, 6))) + "。"
        for _ in range(number)
    ]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return couplets(300)


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> Tokenizer:
    return train_tokenizer(texts, TokenizerConfig(kind="char"))


def tiny_decoder(vocab_size: int, seed: int = 0, **shape: int) -> Decoder:
    """A random decoder with grouped queries, small enough for a test."""
    settings = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        **shape,
    }
    model = Decoder(DecoderConfig(vocab_size=vocab_size, **settings))
    model.initialise(torch.Generator().manual_seed(seed))
    return model.eval()


@pytest.fixture
def model(tokenizer: Tokenizer) -> Decoder:
    return tiny_decoder(tokenizer.vocab_size)


@pytest.fixture
def folder(tmp_path: Path, model: Decoder, tokenizer: Tokenizer) -> Path:
    """A saved model folder."""
    path = tmp_path / "model"
    auto.save(model, path, lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    return path


@pytest.fixture(scope="session")
def command_line() -> Iterator[CommandLine]:
    started = CommandLine(
        ("danlu.stages.sft", "danlu.stages.pretrain", "danlu.evaluate.evaluate", "danlu.run", "danlu.core.flags")
    )
    yield started
    started.close()


@pytest.fixture
def danlu(command_line: CommandLine, tmp_path: Path) -> Callable[..., Result]:
    """`danlu("pretrain", "--data", ...)` in `tmp_path`, as a process of its own."""
    return partial(command_line, cwd=tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`small_disk("2m")`: a folder on a file system of that size; skips where this user may not mount one."""
    mounted = []

    def mount(size: str) -> Path:
        path = tmp_path / f"disk-{size}"
        path.mkdir()
        try:
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
            subprocess.run(command, capture_output=True, check=True)
        except (FileNotFoundError, subprocess.CalledProcessError):
            pytest.skip("this user may not mount a small disk")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)
