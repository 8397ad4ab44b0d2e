"""What picks a search, what it gives, and what cannot be put together."""

from pathlib import Path
from typing import Any

import pytest

from danlu.core.errors import ConfigError
from danlu.core.folder import Lineage
from danlu.generate import generate
from danlu.generate.beam import beam_search
from danlu.generate.contrastive import contrastive_decoding, contrastive_search
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.generate.search import Search
from danlu.models import auto
from danlu.tokenizer import TokenizerConfig, train_tokenizer
from tests.conftest import tiny_decoder

SHORT = SamplingParams(max_tokens=6)


@pytest.fixture
def engine(folder: Path) -> Engine:
    return Engine.open(folder)


@pytest.fixture
def amateur(tmp_path: Path, tokenizer) -> Path:
    path = tmp_path / "amateur"
    model = tiny_decoder(tokenizer.vocab_size, seed=5, num_hidden_layers=1)
    auto.save(model, path, lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    return path


def test_beams(engine: Engine):
    ids = engine.encode("春山")
    told = Search(beams=4, length_penalty=0.5).answers(engine, "春山", SHORT, 3)
    stops = engine.tokenizer.stop_ids
    wanted = beam_search(engine.model, ids, num_beams=4, max_tokens=6, stop_ids=stops, length_penalty=0.5)
    assert [one.ids for one in told] == [one.ids for one in wanted[:3]]
    assert [one.text for one in told] == [engine.tokenizer.decode(one.ids) for one in wanted[:3]]


def test_an_amateur(engine: Engine, amateur: Path):
    wish = SamplingParams(max_tokens=6, temperature=0)
    (told,) = Search(amateur=amateur, beta=0.5).answers(engine, "春山", wish, 1)
    other = Engine.open(amateur)
    (wanted,) = contrastive_decoding(
        engine.model, other.model, engine.tokenizer, engine.encode("春山"), wish, alpha=0.1, beta=0.5
    )
    assert told.ids == wanted.ids
    drawn = SamplingParams(max_tokens=6, seed=1)
    assert len(Search(amateur=amateur).answers(engine, "春山", drawn, 3)) == 3


def test_a_degeneration_penalty(engine: Engine):
    (told,) = Search(penalty_alpha=0.4).answers(engine, "春山", SHORT, 1)
    ids = engine.encode("春山")
    assert told.ids == contrastive_search(engine.model, engine.tokenizer, ids, SHORT, penalty_alpha=0.4, top_k=5).ids
    few = SamplingParams(max_tokens=6, top_k=2)
    (told,) = Search(penalty_alpha=0.9).answers(engine, "春山", few, 1)
    assert told.ids == contrastive_search(engine.model, engine.tokenizer, ids, few, penalty_alpha=0.9, top_k=2).ids


def test_none_is_picked_by_default():
    assert Search().method() is None
    assert Search(**{name: generate.Config.model_fields[name].default for name in Search._fields}) == Search()


@pytest.mark.parametrize(
    ("search", "told"),
    [
        (Search(beams=2, amateur=Path("m")), "beams and amateur"),
        (Search(beams=2, penalty_alpha=0.6), "beams and penalty_alpha"),
        (Search(amateur=Path("m"), penalty_alpha=0.6), "amateur and penalty_alpha"),
        (Search(length_penalty=2.0), "length_penalty means nothing without beams"),
        (Search(beams=2, beta=0.5), "beta means nothing without amateur"),
        (Search(alpha=0.5), "alpha means nothing without amateur"),
    ],
)
def test_two_searches_at_once_are_refused(search: Search, told: str):
    with pytest.raises(ConfigError, match=told):
        search.method()


@pytest.mark.parametrize(
    ("search", "params", "n", "told"),
    [
        (Search(beams=2), SHORT, 3, "2 beams do not give 3 answers"),
        (Search(beams=2), SamplingParams(stop=("山",)), 1, "beam search does not use the setting 'stop'"),
        (Search(beams=2), SamplingParams(top_p=0.5), 1, "'top_p'"),
        (Search(penalty_alpha=0.5), SHORT, 2, "one answer, not 2"),
        (Search(penalty_alpha=0.5), SamplingParams(min_p=0.5), 1, "'min_p'"),
    ],
)
def test_what_a_search_cannot_do_is_refused(engine: Engine, search: Search, params: SamplingParams, n: int, told: str):
    with pytest.raises(ConfigError, match=told):
        search.answers(engine, "春山", params, n)


def test_an_amateur_of_another_tokenizer_is_refused(engine: Engine, tmp_path: Path):
    other = train_tokenizer(["别的文字。"], TokenizerConfig(kind="char"))
    path = tmp_path / "other"
    auto.save(tiny_decoder(other.vocab_size), path, lineage=Lineage(verb="test"), save_tokenizer=other.save)
    with pytest.raises(ConfigError, match="different tokenizers"):
        Search(amateur=path).answers(engine, "春山", SHORT, 1)


def test_the_verb_prints_what_the_search_finds(folder: Path, capsys: pytest.CaptureFixture[str]):
    def ask(**more: Any) -> str:
        generate.run(generate.Config(model=folder, prompt="春山", sampling=SHORT, **more))
        return capsys.readouterr().out

    told = Search(beams=3).answers(Engine.open(folder), "春山", SHORT, 2)
    assert ask(beams=3, n=2) == "".join(f"[{number}]\n{one.text}\n\n" for number, one in enumerate(told, 1))
    (one,) = Search(penalty_alpha=0.5).answers(Engine.open(folder), "春山", SHORT, 1)
    assert ask(penalty_alpha=0.5) == f"{one.text}\n"


def test_an_encoder_decoder_has_no_search(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generate, "is_seq2seq", lambda _: True)
    with pytest.raises(ConfigError, match="beams needs a decoder"):
        generate.run(generate.Config(model=folder, prompt="春山", beams=3))
