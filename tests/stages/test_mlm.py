import json

import pytest
import torch
from transformers import AutoTokenizer, BertForMaskedLM, pipeline

from danlu.core.errors import ConfigError, DataError
from danlu.core.folder import ModelFolder
from danlu.core.run import read_metrics
from danlu.data.masking import MaskingConfig
from danlu.generate.fill import fill_blanks
from danlu.models import auto
from danlu.models.encoder import EncoderConfig
from danlu.stages import mlm
from danlu.tokenizer import Tokenizer, TokenizerConfig
from danlu.train.optim import Muon, build_optimizers
from tests.conftest import couplets
from tests.stages.small import training

SHAPE = EncoderConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=64)
ENGLISH = "The furnace was lit before dawn. Nobody in the village knew what was being made, and nobody asked."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    rows = [*couplets(1500), *[ENGLISH] * 2]  # of equal ones the second is dropped
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in rows), encoding="utf-8")
    return folder


def settings(data, out, kind="char", **chosen):
    more = {name: chosen.pop(name) for name in ("masking", "prompts", "base", "tokenizer") if name in chosen}
    if "base" in more:
        return mlm.Config(data=data, out=out, train=training(**chosen), **more)
    vocabulary = TokenizerConfig(kind=kind, vocab_size=400, chat_template="none")
    return mlm.Config(data=data, out=out, model=SHAPE, new_tokenizer=vocabulary, train=training(**chosen), **more)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A model that has learnt something: 150 steps on three kinds of couplet."""
    out = tmp_path_factory.mktemp("runs") / "a"
    return mlm.run(settings(corpus, out, steps=150, batch_size=16, prompts=("春[MASK]来，",), eval_every=10))


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_folder_of_text_becomes_a_model_that_transformers_opens(corpus, tmp_path, kind):
    path = mlm.run(settings(corpus, tmp_path / "run", kind))
    tokenizer = Tokenizer.load(path)
    encoded = tokenizer.backend.encode("春[MASK]来 The furnace")
    ids = torch.tensor([encoded.ids])
    theirs = BertForMaskedLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        assert (auto.load(path)({"input_ids": ids}) - theirs(ids).logits).abs().max() <= 1e-4
    own = AutoTokenizer.from_pretrained(path)
    assert (own.mask_token, own.pad_token, own.model_max_length) == ("[MASK]", "<|pad|>", 64)
    assert own("春[MASK]来 The furnace")["input_ids"] == encoded.ids


def test_it_learns_and_says_so(trained):
    """Couplets are season, thing, verb in turn: a season of six, a thing of six, a verb of six stand in each place."""
    lines = read_metrics(trained.parent)
    losses = [line["val_loss"] for line in lines if "val_loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    assert losses[-1] < 1.6  # what six equal choices at each character cost is log 6 = 1.8; commas are sure
    shown = [line["samples"] for line in lines if "samples" in line]
    assert len(shown) == 15
    assert shown[-1][0].startswith("春【")
    measured = ModelFolder.open(trained).lineage.measured
    assert {"val_loss", "best_val_loss", "val_accuracy", "parameters", "fill"} <= measured.keys()
    assert measured["val_accuracy"] > 0.3
    best = pipeline("fill-mask", model=str(trained))("春[MASK]来，夏花去。", top_k=6)
    assert {one["token_str"] for one in best} == set("山水花月风云")
    ours = fill_blanks(auto.load(trained), Tokenizer.load(trained), "春[MASK]来，夏花去。", top=6)
    assert [one.token_id for one in ours[0]] == [one["token"] for one in best]


def test_the_validation_masking_is_the_same_whatever_else_differs(corpus, tmp_path):
    """Two runs of other learning rates validate on the same words: equal losses at a rate of next to nothing."""
    runs = [
        mlm.run(settings(corpus, tmp_path / str(steps), lr=1e-12, matrix_lr=1e-12, steps=steps, eval_every=1))
        for steps in (1, 3)
    ]
    losses = [line["val_loss"] for path in runs for line in read_metrics(path.parent) if "val_loss" in line]
    assert len(losses) == 4
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)


def test_a_run_that_goes_on_gives_the_same_weights(corpus, tmp_path, monkeypatch):
    whole = mlm.run(settings(corpus, tmp_path / "whole", steps=8, checkpoint_every=3))
    config = settings(corpus, tmp_path / "cut", steps=8, checkpoint_every=3)
    objective = mlm.aligned_cross_entropy
    calls = iter(range(100))

    def dies(model, batch):
        if model.training and next(calls) == 5:
            raise RuntimeError("the light went out")
        return objective(model, batch)

    monkeypatch.setattr(mlm, "aligned_cross_entropy", dies)
    with pytest.raises(RuntimeError):
        mlm.run(config)
    monkeypatch.setattr(mlm, "aligned_cross_entropy", objective)
    again = mlm.run(config)
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    resumed = {line["step"]: line["loss"] for line in read_metrics(again.parent) if "loss" in line}
    straight = {line["step"]: line["loss"] for line in read_metrics(whole.parent) if "loss" in line}
    assert resumed == straight


def test_going_on_from_a_folder(trained, corpus, tmp_path):
    path = mlm.run(settings(corpus, tmp_path / "more", base=trained, lr=1e-12, matrix_lr=1e-12))
    assert ModelFolder.open(path).lineage.parent == ModelFolder.open(trained).hash
    before, after = (ModelFolder.open(one).lineage.measured["val_loss"] for one in (trained, path))
    assert after == pytest.approx(before, rel=1e-3)
    record = json.loads((tmp_path / "more" / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "done"


def test_an_encoder_without_the_head_gets_one(trained, corpus, tmp_path):
    bare = auto.load(trained).with_head("none", torch.Generator().manual_seed(0))
    tokenizer = Tokenizer.load(trained)
    lineage = ModelFolder.open(trained).lineage
    auto.save(bare, tmp_path / "bare", lineage=lineage, save_tokenizer=tokenizer.save)
    path = mlm.run(settings(corpus, tmp_path / "more", base=tmp_path / "bare"))
    assert type(auto.load(path)).__name__ == "Encoder"
    assert auto.load(path).config.head == "masked-lm"


def test_a_tokenizer_without_a_mask_gets_one(corpus, tmp_path, tokenizer):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    tokenizer.save(folder)
    path = mlm.run(settings(corpus, tmp_path / "run", tokenizer=folder))
    assert Tokenizer.load(path).mask_id == tokenizer.vocab_size
    assert auto.load(path).config.vocab_size == tokenizer.vocab_size + 2


def test_without_prompts_a_held_out_text_is_shown(corpus, tmp_path):
    path = mlm.run(settings(corpus, tmp_path / "run", masking=MaskingConfig(rate=0.3, whole_words=False)))
    (first, *_) = [line["samples"] for line in read_metrics(path.parent) if "samples" in line]
    assert len(first) == 1
    assert "【" in first[0]
    assert "%" in first[0]


def test_what_cannot_work_is_told_before_training(corpus, tmp_path, trained, folder):
    with pytest.raises(DataError, match="MASK"):
        mlm.run(settings(corpus, tmp_path / "a", prompts=("春花",)))
    with pytest.raises(ConfigError, match="128"):
        mlm.run(settings(corpus, tmp_path / "b", seq_len=128))
    with pytest.raises(ConfigError, match="model"):
        mlm.run(settings(corpus, tmp_path / "c", base=trained).model_copy(update={"model": SHAPE}))
    with pytest.raises(ConfigError):  # a decoder
        mlm.run(settings(corpus, tmp_path / "d", base=folder))


def test_muon_has_the_matrices_of_the_layers(trained):
    model = auto.load(trained)
    optimizers = build_optimizers(model, training(optimizer="muon"))
    (muon,) = [one for one in optimizers if isinstance(one, Muon)]
    held = {id(parameter) for group in muon.param_groups for parameter in group["params"]}
    named = {name for name, parameter in model.named_parameters() if id(parameter) in held}
    assert len(named) == 6  # query, key, value, output, and the two of the MLP
    assert all(".encoder.layer.0." in name for name in named)
