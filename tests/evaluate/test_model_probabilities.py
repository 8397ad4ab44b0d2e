import json
import math
from pathlib import Path

import pytest
import torch
import transformers

from danlu.core.errors import ConfigError, DataError
from danlu.core.folder import Lineage
from danlu.evaluate.model_probabilities import Config, Scored, run, score, strip
from danlu.models import auto
from danlu.models.decoder import Decoder
from danlu.tokenizer import Tokenizer
from tests.models.shapes import DECODERS, built

TEXT = "春水生，秋山落。"


def test_equals_transformers(folder: Path, tokenizer: Tokenizer):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = transformers.AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = theirs(ids).logits[0, :-1].log_softmax(-1)
    told = run(Config(model=folder, text=TEXT, json=True, top=4))
    assert [token["id"] for token in told["tokens"]] == ids[0, 1:].tolist()
    for at, token in enumerate(told["tokens"]):
        own = expected[at, token["id"]].item()
        assert token["logprob"] == pytest.approx(own, abs=1e-5)
        assert token["probability"] == pytest.approx(math.exp(own), abs=1e-6)
        assert token["bits"] == pytest.approx(-own / math.log(2), abs=1e-5)
        order = expected[at].argsort(descending=True).tolist()
        assert order[token["rank"] - 1] == token["id"]
        assert [other["id"] for other in token["top"]] == order[:4]
        best = expected[at].exp()[order[:4]].tolist()
        assert [other["probability"] for other in token["top"]] == pytest.approx(best, abs=1e-6)
    mean = torch.tensor([token["logprob"] for token in told["tokens"]]).mean()
    assert told["perplexity"] == pytest.approx(math.exp(-mean), rel=1e-5)
    assert "".join([told["first"], *(token["token"] for token in told["tokens"])]) == TEXT


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_and_long_texts(name: str, monkeypatch: pytest.MonkeyPatch):
    """In pieces of 7 positions it is the same."""
    model = built(name)
    ids = torch.randint(0, 61, (30,), generator=torch.Generator().manual_seed(0)).tolist()
    whole = score(model, ids)
    monkeypatch.setattr("danlu.evaluate.model_probabilities._ROWS", 7)
    parts = score(model, ids)
    assert [(one.id, one.rank) for one in parts] == [(one.id, one.rank) for one in whole]
    with torch.no_grad():
        logs = model({"input_ids": torch.tensor([ids])})[0].log_softmax(-1)
    for at, one in enumerate(parts):
        assert one.logprob == pytest.approx(logs[at, ids[at + 1]].item(), abs=1e-4)
        assert len(one.top) == 3


def test_scored_by_hand():
    one = Scored(5, math.log(1 / 8), 2, [])
    assert one.bits == pytest.approx(3)
    assert one.probability == pytest.approx(1 / 8)


def test_the_table(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    told = run(Config(model=folder, text=TEXT))
    out = capsys.readouterr().out
    for token in told["tokens"]:
        assert f"{token['bits']:.2f}" in out
        assert token["token"] in out
    assert f"{told['bits']:.1f}" in out


def test_json_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    from danlu.cli import main

    with pytest.raises(SystemExit) as end:
        main(["model", "probabilities", str(folder), TEXT, "--json", "--top", "0"])
    assert end.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert all(token["top"] == [] for token in told["tokens"])


def test_the_picture(folder: Path, model: Decoder, tokenizer: Tokenizer, tmp_path: Path):
    told = run(Config(model=folder, text=TEXT, out=tmp_path / "strip.html"))
    page = (tmp_path / "strip.html").read_text(encoding="utf-8")
    assert page.count("<span") == len(told["tokens"]) + 1
    assert "<script" not in page
    names = ["<b>", "a", '"']
    scored = [Scored(1, -1e-9, 1, []), Scored(2, -100.0, 9, [(3, -0.5)])]
    drawn = strip(names, scored, tokenizer)
    assert "&lt;b&gt;" in drawn  # no markup out of a text
    assert "<b>" not in drawn
    assert "rgba(168,50,42,0.000)" in drawn
    assert "rgba(168,50,42,1.000)" in drawn
    assert "60.7%" in drawn  # exp(-0.5)


def test_from_a_gguf_file(folder: Path, tokenizer: Tokenizer, tmp_path: Path):
    pytest.importorskip("gguf")
    from danlu.export import gguf as export

    path = tmp_path / "model.gguf"
    try:
        export.run(export.Config(folder=folder, out=path, type="f32"))
    except ConfigError:
        pytest.skip("this tokenizer has no form in GGUF")
    one, other = (run(Config(model=place, text=TEXT, json=True)) for place in (folder, path))
    for mine, theirs in zip(one["tokens"], other["tokens"], strict=True):
        assert mine["logprob"] == pytest.approx(theirs["logprob"], abs=1e-4)


def test_errors(folder: Path, tokenizer: Tokenizer, tmp_path: Path):
    with pytest.raises(DataError, match="2"):
        run(Config(model=folder, text="春"))
    with pytest.raises(ConfigError, match=r"\.html"):
        run(Config(model=folder, text=TEXT, out=tmp_path / "strip.png"))
    auto.save(built("bert"), tmp_path / "bert", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    with pytest.raises(ConfigError, match=r"decoder|解码器"):
        run(Config(model=tmp_path / "bert", text=TEXT))
