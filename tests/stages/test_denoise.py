from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, T5ForConditionalGeneration

from danlu.core.errors import ConfigError, ContextError
from danlu.core.folder import ModelFolder
from danlu.core.run import read_metrics
from danlu.data.denoise import SpanConfig, sentinel_ids
from danlu.generate.params import SamplingParams
from danlu.generate.seq2seq import Seq2Seq
from danlu.models import auto
from danlu.models.t5 import T5Config
from danlu.stages import denoise
from danlu.tokenizer import Tokenizer, TokenizerConfig
from danlu.train.objective import aligned_cross_entropy
from tests.conftest import couplets
from tests.stages.small import training

SHAPE = T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, n_positions=64)


@pytest.fixture
def poems(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, texts in enumerate((couplets(150, 1), couplets(150, 2))):
        (folder / f"{number}.txt").write_text("\n".join(texts), encoding="utf-8")
    return folder


def denoising(data: Path, out: Path, **settings) -> denoise.Config:
    return denoise.Config(
        data=data,
        out=out,
        model=settings.pop("model", SHAPE),
        prompts=settings.pop("prompts", ()),
        new_tokenizer=TokenizerConfig(kind="char", vocab_size=400, chat_template="none"),
        spans=SpanConfig(sentinels=20),
        train=training(**settings),
    )


def test_a_folder_of_plain_text_becomes_a_t5_that_transformers_opens(poems, tmp_path):
    path = denoise.run(denoising(poems, tmp_path / "run"))
    tokenizer, mine = Tokenizer.load(path), auto.load(path)
    theirs = T5ForConditionalGeneration.from_pretrained(path)
    text = "春山来，<extra_id_0>月<extra_id_1>。"
    ids = torch.tensor([[*tokenizer.encode(text, special=True), tokenizer.eos_id]])
    assert AutoTokenizer.from_pretrained(path)(text)["input_ids"] == ids[0, :-1].tolist()
    written = torch.tensor([[mine.start_id, sentinel_ids(tokenizer)[0], 280]])
    with torch.no_grad():
        batch = {"input_ids": ids, "decoder_input_ids": written}
        torch.testing.assert_close(mine(batch), theirs(**batch).logits, atol=1e-5, rtol=1e-5)
        answer = theirs.generate(ids, max_new_tokens=12, do_sample=False)[0, 1:].tolist()  # by generation_config.json
    (own,) = Seq2Seq(mine, tokenizer).generate([text], SamplingParams(max_tokens=12, temperature=0))
    assert own.ids == answer[: len(own.ids)]


def test_what_is_written_down(poems, tmp_path):
    path = denoise.run(denoising(poems, tmp_path / "run", prompts=("春<extra_id_0>，秋月落。",)))
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert all("grad_norm" in line for line in lines if "loss" in line)
    shown = [line["samples"] for line in lines if "samples" in line]
    assert shown
    for (text,) in shown:
        assert text.startswith("春[")
        assert text.endswith("]，秋月落。")
    measured = ModelFolder.open(path).lineage.measured
    assert {"val_loss", "tokens", "parameters"} <= measured.keys()
    assert Tokenizer.load(path).model_max_length == 64


def test_it_learns_what_stands_in_the_blanks(poems, tmp_path):
    path = denoise.run(denoising(poems, tmp_path / "run", steps=150, lr=1e-2, batch_size=8, optimizer="adamw"))
    lines = [line["loss"] for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert lines[0] > 5
    assert sum(lines[-5:]) / 5 < 0.5 * lines[0]
    measured = ModelFolder.open(path).lineage.measured
    assert measured["val_loss"] < 0.5 * lines[0]
    answers = Seq2Seq(auto.load(path), Tokenizer.load(path)).generate(
        ["春山来，<extra_id_0>月落。", "冬花生，暮云<extra_id_0>。"], SamplingParams(max_tokens=8, temperature=0)
    )
    assert all(answer.text.startswith("<extra_id_0>") for answer in answers)  # the form, at least, is learnt


def test_the_same_seed_gives_the_same_weights_and_done_is_done(poems, tmp_path):
    one = denoise.run(denoising(poems, tmp_path / "one"))
    other = denoise.run(denoising(poems, tmp_path / "other"))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    stamp = (one / "model.safetensors").stat().st_mtime_ns
    assert denoise.run(denoising(poems, tmp_path / "one")) == one
    assert (one / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_run_that_broke_off_goes_on_where_it_stood(poems, tmp_path, monkeypatch):
    settings = {"steps": 8, "checkpoint_every": 3, "eval_every": 100}
    whole = denoise.run(denoising(poems, tmp_path / "whole", **settings))
    calls = []

    def breaks(model, batch):
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("the power is gone")
        return aligned_cross_entropy(model, batch)

    monkeypatch.setattr(denoise, "aligned_cross_entropy", breaks)
    with pytest.raises(RuntimeError, match="power"):
        denoise.run(denoising(poems, tmp_path / "broken", **settings))
    monkeypatch.undo()
    again = denoise.run(denoising(poems, tmp_path / "broken", **settings))
    steps = [line["step"] for line in read_metrics(tmp_path / "broken") if "loss" in line]
    assert steps == list(range(1, 9))
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_what_cannot_work_is_told_before_training(poems, tmp_path):
    with pytest.raises(ConfigError, match="n_positions 64"):
        denoise.run(denoising(poems, tmp_path / "a", seq_len=128))
    with pytest.raises(ContextError, match="context 64"):
        denoise.run(denoising(poems, tmp_path / "b", prompts=("春" * 80,)))
    few = denoising(poems, tmp_path / "c").model_copy(update={"spans": SpanConfig(sentinels=2, density=0.9)})
    with pytest.raises(ConfigError, match="2 sentinels"):
        denoise.run(few)
    for name in "abc":
        assert not (tmp_path / name / "checkpoints").exists()
