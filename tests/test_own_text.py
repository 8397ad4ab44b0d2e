"""What the README promises of one's own data: a folder of plain text becomes a model, in Chinese and in English."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from danlu.core.folder import ModelFolder
from danlu.models import auto
from danlu.tokenizer import Tokenizer
from tests.commands import Result

Danlu = Callable[..., Result]
ROOT = Path(__file__).parents[1]
SOURCES = {"en": "README.md", "zh": "README.zh-CN.md"}
HEADINGS = {"en": "## Your own data, in three lines", "zh": "## 用自己的数据，三行"}
LOOP = "--train.steps 8 --train.batch-size 2 --train.seq-len 48 --train.checkpoint-every 4"
SHAPE = "--model.hidden-size 32 --model.num-hidden-layers 1 --model.num-attention-heads 2"


@pytest.fixture(params=sorted(SOURCES))
def lang(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def my_texts(lang: str, tmp_path: Path) -> Path:
    """Prose, a file a paragraph: this repository's own README."""
    folder = tmp_path / "my_texts"
    folder.mkdir()
    text = (ROOT / SOURCES[lang]).read_text(encoding="utf-8")
    for number, paragraph in enumerate(part for part in text.split("\n\n") if part.strip()):
        (folder / f"{number:02}.txt").write_text(paragraph, encoding="utf-8")
    return folder


def opens_in_transformers(model: Path, text: str) -> None:
    """The same ids and, to 1e-4, the same logits."""
    transformers = pytest.importorskip("transformers")
    tokenizer = Tokenizer.load(model)
    ids = tokenizer.encode(text)
    assert transformers.AutoTokenizer.from_pretrained(model)(text)["input_ids"] == ids
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        expected, found = theirs(torch.tensor([ids])).logits, auto.load(model)({"input_ids": torch.tensor([ids])})
    assert (expected - found).abs().max() <= 1e-4


def test_a_folder_of_text_becomes_a_model(my_texts: Path, danlu: Danlu, tmp_path: Path):
    result = danlu("pretrain", "--data", my_texts, "--out", "runs/mine", *LOOP.split(), *SHAPE.split())
    assert result.code == 0, result.err
    model = tmp_path / "runs" / "mine" / "model"
    words = ("generate", model, "danlu", "--sampling.max-tokens", "12", "--sampling.seed", "1")
    first, again = danlu(*words), danlu(*words)
    assert first.code == 0, first.err
    assert first.out.strip()
    assert first.out == again.out, "a seed gives the same text"
    sentence = (my_texts / "02.txt").read_text(encoding="utf-8")[:40]
    opens_in_transformers(model, sentence)
    lineage = ModelFolder.open(model).lineage
    assert lineage is not None
    assert 0 < lineage.measured["bits_per_byte"] < 8
    shown = danlu("runs")
    assert "mine" in shown.out
    assert "done" in shown.out


def three_lines(lang: str) -> list[list[str]]:
    text = (ROOT / SOURCES[lang]).read_text(encoding="utf-8")
    (block,) = re.findall(r"```bash\n(.*?)```", text.split(HEADINGS[lang])[1].split("\n## ")[0], re.DOTALL)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def test_the_three_lines_of_the_readme(lang: str, my_texts: Path, danlu: Danlu, tmp_path: Path):
    """As they stand there, but smaller and shorter."""
    chats = [
        {"messages": [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": "danlu"}]}
        for number in range(40)
    ]
    (tmp_path / "my_chats.jsonl").write_text("\n".join(map(json.dumps, chats)), encoding="utf-8")
    pretrain, sft, chat = three_lines(lang)
    assert [line[1] for line in (pretrain, sft, chat)] == ["pretrain", "sft", "chat"]
    for line in ([*pretrain, *LOOP.split(), *SHAPE.split()], [*sft, *LOOP.split()]):
        assert line[0] == "danlu"
        result = danlu(*line[1:])
        assert result.code == 0, result.err
    opens_in_transformers(tmp_path / "runs" / "mine-sft" / "model", "danlu 丹炉")
    result = danlu(*chat[1:], "--sampling.max-tokens", "4", stdin=b"7?\n\n")
    assert result.code == 0, result.err
    assert result.out.count("> ") == 2, "it answered, and ended at the empty line"


def test_both_readmes_give_the_same_lines():
    assert three_lines("en") == three_lines("zh")
