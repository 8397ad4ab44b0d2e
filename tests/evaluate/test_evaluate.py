import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from danlu.core.errors import DataError
from danlu.core.folder import ModelFolder
from danlu.evaluate.evaluate import Config, evaluate, run
from danlu.generate.params import SamplingParams
from danlu.tokenizer import Tokenizer

TITLES = ("春山", "秋水", "夏花", "冬云", "晨风", "暮月")


def poem(title: str, form: int) -> dict:
    line = (title * 4)[:form]
    body = f"{line}，{line}。\n{line}，{line}。"
    question = {"role": "user", "content": f"写一首{form}言绝句，题为《{title}》。"}
    return {
        "text": f"《{title}》\n{body}",
        "messages": [question, {"role": "assistant", "content": body}],
        "title": title,
        "form": form,
        "lines": [line] * 4,
        "group": title,
    }


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    for split in ("train", "valid", "test"):
        rows = [poem(title, 5 if number % 2 else 7) for number, title in enumerate(TITLES)]
        (path / f"{split}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    return path


def test_losses_equal_transformers_token_by_token(folder, data):
    figures = evaluate(Config(model=folder, data=data))
    tokenizer = Tokenizer.load(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = [json.loads(line)["text"] for line in (data / "valid.jsonl").read_text(encoding="utf-8").splitlines()]
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([[*tokenizer.encode(text), tokenizer.eos_id]])
        with torch.no_grad():
            total += float(theirs(ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert figures["val_loss"] == pytest.approx(total / count, abs=1e-4)
    assert figures["bits_per_byte"] == pytest.approx(
        total / math.log(2) / sum(len(t.encode()) for t in texts), abs=1e-4
    )
    assert figures["answer_loss"] > 0


def test_poem_figures_are_rates_and_are_recorded(folder, data, tmp_path):
    sampling = SamplingParams(max_tokens=20, seed=0)
    told = tmp_path / "told.json"
    figures = run(Config(model=folder, data=data, task="poem", sampling=sampling, json_=told))
    for name in ("form", "rhyme", "distinct", "no_repeat", "form_any"):
        assert 0 <= figures[name] <= 1
    assert figures["answers"] == len(TITLES)
    assert figures["style"] == "chat"
    assert json.loads(told.read_text(encoding="utf-8"))["form"] == figures["form"]
    recorded = ModelFolder.open(folder).lineage.measured["evaluation"]
    assert recorded["val_loss"] == figures["val_loss"]
    assert "samples" not in recorded


def test_the_same_seed_gives_the_same_answers_and_plain_style_continues_a_title(folder, data):
    config = Config(
        model=folder, data=data, task="poem", style="plain", sampling=SamplingParams(max_tokens=10, seed=3), limit=4
    )
    first, second = evaluate(config), evaluate(config)
    assert [s["text"] for s in first["samples"]] == [s["text"] for s in second["samples"]]
    assert first["samples"][0]["prompt"].startswith("《")
    assert first["answers"] == 4


def test_data_without_poems_is_told(folder, tmp_path):
    path = tmp_path / "plain"
    path.mkdir()
    for split in ("train", "valid", "test"):
        (path / f"{split}.jsonl").write_text('{"text": "春夏秋冬"}\n', encoding="utf-8")
    with pytest.raises(DataError):
        evaluate(Config(model=folder, data=path, task="poem"))
