import json
from pathlib import Path

import pytest

from danlu.core.errors import ConfigError, DataError
from danlu.core.folder import Lineage
from danlu.data.translation import add_tags
from danlu.generate import translate
from danlu.generate.params import SamplingParams
from danlu.generate.translate import Translator
from danlu.models import auto
from danlu.models.t5 import T5Config
from danlu.stages.seq2seq import build_t5
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

TEXTS = ["我看见月亮。", "他买马，她喜欢茶。", "船。", "I see the moon.", "he buys a horse", "Tea!"]


@pytest.fixture(scope="module")
def translator() -> Translator:
    tokenizer = add_tags(train_tokenizer(TEXTS, TokenizerConfig(vocab_size=300, chat_template="none")))
    model = build_t5(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, n_positions=48), tokenizer, 0)
    return Translator.of(model, tokenizer)


class Parrot(Translator):
    """Writes what it was asked, so that what is cut and joined can be seen."""

    asked: list[list[int]]

    def _together(self, sources, params):
        self.asked = list(sources)
        return [self.tokenizer.decode(ids) for ids in sources]


@pytest.fixture
def parrot(translator) -> Parrot:
    return Parrot.of(translator.model, translator.tokenizer)


def test_the_order_stays_and_company_changes_nothing(translator):
    alone = [translator.translate([text], "zh", "en")[0] for text in TEXTS]
    assert translator.translate(TEXTS, "zh", "en") == alone
    assert translator.translate(TEXTS[::-1], "zh", "en") == alone[::-1]
    assert translator.translate(TEXTS, "zh", "en") != translator.translate(TEXTS, "en", "zh")  # the tag tells
    assert translator.translate([], "zh", "en") == []


def test_the_tag_and_the_end_stand_around_a_text(parrot):
    tokenizer = parrot.tokenizer
    parrot.translate(["船。"], "zh", "en")
    (ids,) = parrot.asked
    assert tokenizer.decode(ids, skip_special=False) == "<2en>船。<|endoftext|>"
    parrot.translate(["<2en>"], "en", "zh")  # spelt in a text, it is no tag
    assert parrot.asked[0][1] != parrot.tags["en"]


def test_blank_stays_blank(parrot):
    assert parrot.translate(["", "船。", " \n"], "zh", "en") == ["", "船。", ""]
    assert len(parrot.asked) == 1


def test_what_is_too_long_is_cut_behind_sentences(parrot):
    text = "我看见月亮。" * 12
    (found,) = parrot.translate([text], "en", "zh")
    assert found == text
    assert all(len(ids) <= parrot.model.context for ids in parrot.asked)
    assert len(parrot.asked) < 12  # as many together as fit
    pieces = [parrot.tokenizer.decode(ids) for ids in parrot.asked]
    assert all(piece.endswith("。") for piece in pieces)
    assert parrot.translate(["马" * 100], "en", "zh") == ["马" * 100]  # no mark far and wide
    assert (
        parrot.translate(["word" * 5 + " bird" * 60], "zh", "en")[0].split() == ["wordwordwordwordword"] + ["bird"] * 60
    )
    (english,) = parrot.translate(["Tea! I see the moon. " * 8], "zh", "en")
    assert english == ("Tea! I see the moon. " * 8).strip()


def test_beams_find_what_is_likelier(translator):
    greedy, searched = (translator.translate(TEXTS[:3], "zh", "en", beams=beams) for beams in (1, 4))
    assert len(searched) == 3
    assert searched != greedy or all(greedy)


def test_draws_differ_by_seed_alone(translator):
    draws = [
        translator.translate(TEXTS, "zh", "en", params=SamplingParams(temperature=1, seed=seed)) for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_language_into_itself_is_refused(translator):
    with pytest.raises(ConfigError, match="from en to en"):
        translator.translate(["Tea!"], "en", "en")
    with pytest.raises(ConfigError, match="from fr"):
        translator.translate(["the"], "fr", "en")


def saved(translator: Translator, path: Path, tokenizer: Tokenizer | None = None) -> Path:
    keep = (tokenizer or translator.tokenizer).save
    auto.save(translator.model, path, lineage=Lineage(verb="test"), save_tokenizer=keep)
    return path


def test_the_verb(translator, tmp_path, capsys):
    folder = saved(translator, tmp_path / "model")
    lines = tmp_path / "lines.txt"
    lines.write_text("船。\n\n他买马\n", encoding="utf-8")
    out = tmp_path / "out.jsonl"
    translate.run(translate.Config(model=folder, text=["我看见月亮。"], lines=lines, to="en", json_=out))
    told = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["zh"] for row in told] == ["我看见月亮。", "船。", "", "他买马"]
    assert [row["en"] for row in told] == translator.translate(["我看见月亮。", "船。", "", "他买马"], "zh", "en")
    assert told[0]["en"] in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no text"):
        translate.run(translate.Config(model=folder, to="en"))


def test_a_model_that_is_no_translator_is_told(translator, tmp_path):
    plain = train_tokenizer(TEXTS, TokenizerConfig(vocab_size=300, chat_template="none"))
    with pytest.raises(DataError, match="<2en>, <2zh>"):
        Translator(saved(translator, tmp_path / "untagged", plain))
