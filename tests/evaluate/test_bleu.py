import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import ConfigError, DataError
from danlu.core.folder import Lineage, ModelFolder
from danlu.data.pairs import Pair
from danlu.data.translation import add_tags
from danlu.evaluate import bleu
from danlu.generate.translate import Translator
from danlu.models import auto
from danlu.models.t5 import T5Config
from danlu.stages.seq2seq import build_t5
from danlu.tokenizer import TokenizerConfig, train_tokenizer

PAIRS = [
    Pair("I see the moon.", "我看见月亮。", "rule"),
    Pair("he buys a horse.", "他买马。", "rule"),
    Pair("tea", "茶", "dictionary"),
    Pair("The boat is old.", "船很旧。", "rule"),
]


def by_hand(hypotheses: list[str], references: list[str]) -> float:
    """BLEU of texts of words divided by blanks, from the paper: clipped n-gram precisions and the brevity penalty."""
    right, all_, made, given_ = [0] * 4, [0] * 4, 0, 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        mine, theirs = hypothesis.split(), reference.split()
        made, given_ = made + len(mine), given_ + len(theirs)
        for n in range(4):
            own = Counter(tuple(mine[at : at + n + 1]) for at in range(len(mine) - n))
            other = Counter(tuple(theirs[at : at + n + 1]) for at in range(len(theirs) - n))
            right[n] += sum((own & other).values())
            all_[n] += sum(own.values())
    short = min(0.0, 1 - given_ / made)
    return 100 * math.exp(short + sum(math.log(r / a) for r, a in zip(right, all_, strict=True)) / 4)


def test_bleu_as_the_paper_counts_it():
    hypotheses = ["the cat sat on the mat today", "a dog ran in a park"]
    references = ["the cat sat on the red mat", "a dog ran in the park now"]
    found = bleu.score(hypotheses, [references], "en")
    assert found.bleu == pytest.approx(by_hand(hypotheses, references), abs=1e-9)
    assert 20 < found.bleu < 60
    assert "tok:13a" in found.signature


def test_chinese_is_counted_by_character():
    hypotheses, references = ["我喜欢红色的大马", "他买了一条船"], ["我喜欢红色的老马", "他买了两条船了"]
    found = bleu.score(hypotheses, [references], "zh")
    spaced = [" ".join(text) for text in hypotheses], [" ".join(text) for text in references]
    assert found.bleu == pytest.approx(by_hand(*spaced), abs=1e-9)
    assert "tok:zh" in found.signature
    # One run of characters is one word to the English tokenizer: nothing would agree.
    assert bleu.score(hypotheses, [references], "en").bleu < 1 < found.bleu


def test_a_short_text_is_measured_by_the_orders_that_it_has():
    assert bleu.score(["茶"], [["茶"]], "zh").bleu == pytest.approx(100)
    assert bleu.score(["tea cup"], [["tea cup"]], "en").bleu == pytest.approx(100)


def test_one_of_several_references_is_enough():
    alone = bleu.score(["the horse is very old"], [["that animal is ancient"]], "en")
    both = bleu.score(["the horse is very old"], [["that animal is ancient"], ["the horse is very old"]], "en")
    assert alone.bleu < 20
    assert both.bleu == pytest.approx(100)


WORDS = st.lists(st.sampled_from("马船茶月我他买看"), min_size=1, max_size=12).map("".join)


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=5))
def test_what_is_right_scores_100_and_nothing_scores_more(texts):
    found = bleu.score(texts, [texts], "zh")
    assert found.bleu == pytest.approx(100)
    assert found.chrf == pytest.approx(100)
    other = bleu.score([text[::-1] for text in texts], [texts], "zh")
    assert 0 <= other.bleu <= 100 + 1e-9
    assert 0 <= other.chrf <= 100 + 1e-9


def test_scores_by_origin_are_those_of_the_origin_alone():
    written = ["我看见月亮。", "他买船。", "茶", "船很新。"]
    found = bleu.score_pairs(PAIRS, written, "zh")
    assert list(found) == ["all", "dictionary", "rule"]
    rule = [n for n, pair in enumerate(PAIRS) if pair.origin == "rule"]
    assert found["rule"] == bleu.score([written[n] for n in rule], [[PAIRS[n].zh for n in rule]], "zh")
    assert [one.texts for one in found.values()] == [4, 1, 3]


def test_numbers_that_differ_are_told():
    for hypotheses, references in ((["a"], [["a", "b"]]), (["a"], []), ([], [[]]), (["a"], [["a"], []])):
        with pytest.raises(DataError, match="references"):
            bleu.score(hypotheses, references, "en")


def test_files_line_by_line(tmp_path, capsys):
    mine, theirs = tmp_path / "mine.txt", tmp_path / "theirs.txt"
    mine.write_text("我看见月亮。\n\n他买马。\n", encoding="utf-8")
    theirs.write_text("我看见月亮。\n茶\n他买马。\n", encoding="utf-8")
    settings_ = {"hypotheses": mine, "references": [theirs], "json_": tmp_path / "scores.json"}
    found = bleu.run(bleu.Config(**settings_))
    assert found["scores"]["to_zh"]["all"]["texts"] == 3  # an empty line is a translation, too
    assert 80 < found["scores"]["to_zh"]["all"]["bleu"] < 100
    assert json.loads((tmp_path / "scores.json").read_text()) == found
    assert "tok:zh" in capsys.readouterr().out


@pytest.fixture
def model(tmp_path: Path) -> Path:
    texts = [side for pair in PAIRS for side in pair[:2]]
    tokenizer = add_tags(train_tokenizer(texts, TokenizerConfig(vocab_size=300, chat_template="none")))
    made = build_t5(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, n_positions=48), tokenizer, 0)
    path = tmp_path / "model"
    auto.save(made, path, lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    return path


def test_a_model_is_measured_both_ways_and_remembers_it(model, tmp_path):
    data = tmp_path / "pairs"
    data.mkdir()
    rows = [json.dumps({"source": pair.en, "target": pair.zh, "origin": pair.origin}) for pair in PAIRS]
    for split in ("train", "valid", "test"):
        (data / f"{split}.jsonl").write_text("\n".join(rows))
    found = bleu.run(bleu.Config(model=model, data=data))
    translator = Translator(model)
    for source, target in (("en", "zh"), ("zh", "en")):
        written = translator.translate([getattr(pair, source) for pair in PAIRS], source, target)
        own = bleu.score(written, [[getattr(pair, target) for pair in PAIRS]], target)
        assert found["scores"][f"to_{target}"]["all"]["chrf"] == pytest.approx(own.chrf, abs=0.01)
    assert {sample["to"] for sample in found["samples"]} == {"en", "zh"}
    lineage = ModelFolder.open(model).lineage
    assert lineage is not None
    assert lineage.measured["bleu"]["scores"] == found["scores"]
    few = bleu.run(bleu.Config(model=model, data=data, limit=1))
    assert few["scores"]["to_en"]["all"]["texts"] == 2


def test_what_cannot_be_measured_is_told(model, tmp_path):
    with pytest.raises(ConfigError, match="what is to be measured"):
        bleu.run(bleu.Config())
    with pytest.raises(ConfigError, match="what is to be measured"):
        bleu.run(bleu.Config(model=model))
    with pytest.raises(ConfigError, match="either"):
        bleu.run(bleu.Config(model=model, hypotheses=tmp_path / "x"))
    with pytest.raises(DataError, match="cannot read"):
        bleu.run(bleu.Config(hypotheses=tmp_path / "x"))
    with pytest.raises(DataError, match="data pairs"):
        bleu.run(bleu.Config(model=model, data=tmp_path))
