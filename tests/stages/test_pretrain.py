import itertools
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from danlu.core.errors import ConfigError, DataError
from danlu.core.folder import ModelFolder
from danlu.core.run import read_metrics
from danlu.data import tokenise
from danlu.models import auto
from danlu.stages import pretrain
from danlu.tokenizer import Tokenizer
from danlu.train import loop
from tests.conftest import couplets
from tests.data import small_shards
from tests.stages.small import pretraining

ENGLISH = "The furnace was lit before dawn. Nobody in the village knew what was being made, and nobody asked.\n"


@pytest.fixture
def chinese(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, texts in enumerate((couplets(150, 1), couplets(150, 2))):
        (folder / f"{number}.txt").write_text("\n".join(texts), encoding="utf-8")
    return folder


@pytest.fixture
def english(tmp_path):
    folder = tmp_path / "english"
    folder.mkdir()
    (folder / "a.txt").write_text(ENGLISH * 80, encoding="utf-8")
    (folder / "b.txt").write_text(ENGLISH.upper() * 80, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("corpus", "kind"), [("chinese", "char"), ("chinese", "bpe"), ("english", "bpe"), ("english", "char")]
)
def test_a_folder_of_plain_text_becomes_a_model_that_transformers_opens(request, tmp_path, corpus, kind):
    path = pretrain.run(pretraining(request.getfixturevalue(corpus), tmp_path / "run", kind=kind))
    tokenizer = Tokenizer.load(path)
    ids = torch.tensor([tokenizer.encode("春山 The furnace")])
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        assert (auto.load(path)({"input_ids": ids}) - theirs(ids).logits).abs().max() <= 1e-4
    assert AutoTokenizer.from_pretrained(path)("春山 The furnace")["input_ids"] == ids[0].tolist()
    assert not tokenizer.has_chat


def test_what_is_written_down(chinese, tmp_path):
    config = pretraining(chinese, tmp_path / "run").model_copy(update={"prompts": ("春",)})
    path = pretrain.run(config)
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert any("val_loss" in line for line in lines)
    assert any("samples" in line for line in lines)
    measured = ModelFolder.open(path).lineage.measured
    assert {"val_loss", "bits_per_byte", "nats_per_character", "tokens", "parameters"} <= measured.keys()
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "done"
    assert (tmp_path / "run" / "tensorboard").is_dir()


def test_done_is_not_done_again_and_other_settings_are_refused(chinese, tmp_path):
    path = pretrain.run(pretraining(chinese, tmp_path / "run"))
    written = (path / "model.safetensors").stat().st_mtime_ns
    assert pretrain.run(pretraining(chinese, tmp_path / "run")) == path
    assert (path / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match="train.seed"):
        pretrain.run(pretraining(chinese, tmp_path / "run", seed=5))


def test_the_same_seed_gives_the_same_weights(chinese, tmp_path):
    one = pretrain.run(pretraining(chinese, tmp_path / "one"))
    other = pretrain.run(pretraining(chinese, tmp_path / "other"))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    third = pretrain.run(pretraining(chinese, tmp_path / "third", seed=1))
    assert (one / "model.safetensors").read_bytes() != (third / "model.safetensors").read_bytes()


def test_an_own_tokenizer_is_used(chinese, tmp_path, tokenizer):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    tokenizer.save(folder)
    config = pretraining(chinese, tmp_path / "run").model_copy(update={"tokenizer": folder})
    assert Tokenizer.load(pretrain.run(config)).vocab_size == tokenizer.vocab_size


def test_what_cannot_work_is_told_before_training(chinese, tmp_path):
    with pytest.raises(ConfigError, match="128"):
        pretrain.run(pretraining(chinese, tmp_path / "a", seq_len=128))
    with pytest.raises(DataError):
        pretrain.run(pretraining(chinese, tmp_path / "b", batch_size=10_000))
    with pytest.raises(DataError):
        pretrain.run(pretraining(tmp_path / "nowhere", tmp_path / "c"))


def shards_of(folder, tokenizer, out, **settings):
    own = folder.parent / "own-tokenizer"
    own.mkdir(exist_ok=True)
    tokenizer.save(own)
    tokenise.run(tokenise.Config(data=folder, tokenizer=own, out=out, workers=1, **settings))
    return own


@pytest.fixture
def prepared(tmp_path):
    return small_shards.prepared(tmp_path / "prepared", couplets(300, 1), couplets(30, 2))


def told(run):
    """What training measured at each step, without the clock."""
    lines = read_metrics(run)
    return [{name: line[name] for name in ("step", "loss", "val_loss", "grad_norm") if name in line} for line in lines]


def test_shards_and_the_prepared_folder_train_the_same_model(prepared, tmp_path, tokenizer):
    own = shards_of(prepared, tokenizer, tmp_path / "shards")
    config = pretraining(prepared, tmp_path / "text", steps=8).model_copy(update={"tokenizer": own})
    text = pretrain.run(config)
    shards = pretrain.run(pretraining(tmp_path / "shards", tmp_path / "run", steps=8))
    assert told(tmp_path / "text") == told(tmp_path / "run")
    assert (text / "model.safetensors").read_bytes() == (shards / "model.safetensors").read_bytes()
    measured = [ModelFolder.open(path).lineage.measured for path in (text, shards)]
    for name in ("val_loss", "bits_per_byte", "nats_per_character", "tokens", "fill"):
        assert measured[0][name] == measured[1][name]
    assert Tokenizer.load(shards).encode("春山") == tokenizer.encode("春山")


def test_a_stream_trains_and_validates_on_the_same_text(prepared, tmp_path, tokenizer):
    own = shards_of(prepared, tokenizer, tmp_path / "shards")
    config = pretraining(prepared, tmp_path / "run", steps=8).model_copy(update={"tokenizer": own, "stream": True})
    losses = [line["val_loss"] for line in read_metrics(pretrain.run(config).parent) if "val_loss" in line]
    assert losses[-1] < losses[0]
    no_steps = config.model_copy(
        update={"out": tmp_path / "b", "train": config.train.model_copy(update={"steps": None})}
    )
    with pytest.raises(DataError, match="no length"):
        pretrain.run(no_steps)


def test_what_cannot_go_together_is_told(prepared, chinese, tmp_path, tokenizer):
    own = shards_of(prepared, tokenizer, tmp_path / "shards")
    config = pretraining(tmp_path / "shards", tmp_path / "run")
    with pytest.raises(ConfigError, match="tokenised already"):
        pretrain.run(config.model_copy(update={"tokenizer": own}))
    with pytest.raises(DataError, match="prepared"):
        pretrain.run(pretraining(chinese, tmp_path / "c").model_copy(update={"stream": True}))


@pytest.mark.parametrize("kind", ["shards", "stream"])
def test_interrupted_it_ends_with_the_same_weights(prepared, tmp_path, tokenizer, kind, monkeypatch):
    own = shards_of(prepared, tokenizer, tmp_path / "shards", shard_tokens=700)

    def config(out):
        data = tmp_path / "shards" if kind == "shards" else prepared
        found = pretraining(data, out, steps=30, checkpoint_every=5)
        return found if kind == "shards" else found.model_copy(update={"stream": True, "tokenizer": own})

    whole = pretrain.run(config(tmp_path / "whole"))
    step, calls = loop._step, itertools.count(1)

    def stumbling(*arguments):
        if next(calls) == 18:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", stumbling)
        with pytest.raises(KeyboardInterrupt):
            pretrain.run(config(tmp_path / "run"))
    again = pretrain.run(config(tmp_path / "run"))
    assert next(calls) == 19
    assert (whole / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
