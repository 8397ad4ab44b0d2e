import json
import random
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, T5ForConditionalGeneration

from danlu.core.errors import ConfigError, DataError
from danlu.core.folder import ModelFolder
from danlu.core.run import read_metrics
from danlu.data.translation import tag_ids
from danlu.generate.translate import Translator
from danlu.models.t5 import T5Config
from danlu.stages import translator
from danlu.tokenizer import Tokenizer, TokenizerConfig
from danlu.train.objective import aligned_cross_entropy
from tests.stages.small import training

SHAPE = T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, n_positions=32, tie_word_embeddings=True)
WHO = {"I": "我", "you": "你", "he": "他", "she": "她"}
DOES = {"see": "看见", "buy": "买", "like": "喜欢", "draw": "画"}
WHAT = {"the moon": "月亮", "a horse": "马", "a boat": "船", "tea": "茶"}


def phrases() -> list[tuple[str, str]]:
    """64 English sentences with their Chinese."""
    made = product(WHO.items(), DOES.items(), WHAT.items())
    return [(f"{who[0]} {does[0]} {what[0]}.", f"{who[1]}{does[1]}{what[1]}。") for who, does, what in made]


def write_pairs(folder: Path, train: Iterable[tuple[str, str]], valid: Iterable[tuple[str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, pairs in (("train", train), ("valid", valid)):
        rows = ({"source": en, "target": zh, "origin": "rule"} for en, zh in pairs)
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", phrases(), phrases()[::9])


def translating(data: Path, out: Path, **settings: Any) -> translator.Config:
    return translator.Config(
        data=data,
        out=out,
        model=SHAPE,
        new_tokenizer=TokenizerConfig(vocab_size=400, chat_template="none"),
        train=training(**settings),
    )


@pytest.fixture(scope="module")
def learnt(tmp_path_factory) -> Path:
    """A model that has learnt all 64 pairs by heart."""
    folder = tmp_path_factory.mktemp("learnt")
    data = write_pairs(folder / "pairs", phrases(), phrases()[::9])
    return translator.run(translating(data, folder / "run", steps=200, batch_size=32, lr=3e-3, warmup=20, seed=1))


def test_sixty_four_pairs_are_learnt_by_heart_both_ways(learnt):
    model = Translator(learnt)
    en, zh = [en for en, _ in phrases()], [zh for _, zh in phrases()]
    assert model.translate(en, "en", "zh") == zh
    assert model.translate(zh, "zh", "en") == en
    assert ModelFolder.open(learnt).lineage.measured["val_loss"] < 0.1


def test_transformers_opens_the_folder_and_writes_the_same(learnt):
    theirs, ids_of = T5ForConditionalGeneration.from_pretrained(learnt), AutoTokenizer.from_pretrained(learnt)
    mine = Translator(learnt)
    texts = [zh for _, zh in random.Random(0).sample(phrases(), 6)] + ["马喜欢她。"]
    asked = ids_of([f"<2en>{text}<|endoftext|>" for text in texts], return_tensors="pt", padding=True)
    asked.pop("token_type_ids", None)
    assert asked["input_ids"][0, 0] == tag_ids(mine.tokenizer)["en"]
    for beams in (1, 3):
        found = theirs.generate(**asked, max_new_tokens=20, do_sample=False, num_beams=beams)
        told = ids_of.batch_decode(found, skip_special_tokens=True)
        assert mine.translate(texts, "zh", "en", beams=beams) == told


def test_what_is_written_down(pairs, tmp_path):
    path = translator.run(translating(pairs, tmp_path / "run"))
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    shown = next(line["samples"] for line in lines if "samples" in line)
    asked = [phrases()[number] for number in (0, 18, 36)]
    assert [text.split(" → ")[0] for text in shown] == [side for pair in zip(*asked, strict=True) for side in pair]
    measured = ModelFolder.open(path).lineage.measured
    assert {"val_loss", "tokens", "parameters", "pairs_left_out"} <= measured.keys()
    assert Tokenizer.load(path).model_max_length == 32
    stamp = (path / "model.safetensors").stat().st_mtime_ns
    assert translator.run(translating(pairs, tmp_path / "run")) == path
    assert (path / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_run_that_broke_off_goes_on_where_it_stood(pairs, tmp_path, monkeypatch):
    settings = {"steps": 12, "batch_size": 8, "checkpoint_every": 5, "eval_every": 100}
    whole = translator.run(translating(pairs, tmp_path / "whole", **settings))
    calls = []

    def breaks(model, batch):
        calls.append(1)
        if len(calls) == 8:
            raise RuntimeError("the power is gone")
        return aligned_cross_entropy(model, batch)

    monkeypatch.setattr(translator, "aligned_cross_entropy", breaks)
    with pytest.raises(RuntimeError, match="power"):
        translator.run(translating(pairs, tmp_path / "broken", **settings))
    monkeypatch.undo()
    again = translator.run(translating(pairs, tmp_path / "broken", **settings))
    steps = [line["step"] for line in read_metrics(tmp_path / "broken") if "loss" in line]
    assert steps == list(range(1, 13))
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_what_cannot_work_is_told_before_training(pairs, tmp_path):
    with pytest.raises(ConfigError, match="n_positions 32"):
        translator.run(translating(pairs, tmp_path / "a", seq_len=64))
    with pytest.raises(DataError, match="data pairs"):
        translator.run(translating(tmp_path, tmp_path / "b"))
    with pytest.raises(DataError, match="row 2 is no pair"):
        translator.run(
            translating(write_pairs(tmp_path / "bad", [("a", "甲"), ("b", " ")], [("a", "甲")]), tmp_path / "c")
        )
    for name in "abc":
        assert not (tmp_path / name / "checkpoints").exists()
