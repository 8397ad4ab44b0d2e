import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

from danlu.core.errors import DataError
from danlu.data.pairs import Pair
from danlu.data.translation import LANGUAGES, PairBatches, add_tags, load_pairs, tag_ids
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

SIZES = {"book": 300, "paper": 30}
PAIRS = [
    Pair(" ".join(["word"] * (1 + n % 7)) + f" {origin} {n}", "字" * (1 + n % 5) + f"{n}", origin)
    for origin, size in SIZES.items()
    for n in range(size)
]


@pytest.fixture(scope="module")
def tagged() -> Tokenizer:
    texts = [side for pair in PAIRS for side in pair[:2]]
    return add_tags(train_tokenizer(texts, TokenizerConfig(vocab_size=300, chat_template="none")))


def batches(tagged: Tokenizer, **settings) -> PairBatches:
    return PairBatches(PAIRS, tagged, **({"tokens": 256, "longest": 40} | settings))


def read(batch, tokenizer: Tokenizer) -> list[tuple[str, str, str]]:
    """(language to write, source, target) of each row, padding left out."""
    names, rows = {number: name for name, number in tag_ids(tokenizer).items()}, []
    for ids, real, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        source, target = ids[real.bool()].tolist(), labels[labels != -100].tolist()
        assert source[-1] == target[-1] == tokenizer.eos_id
        rows.append((names[source[0]], tokenizer.decode(source[1:-1]), tokenizer.decode(target[:-1])))
    return rows


def test_each_pair_comes_once_in_both_directions(tagged):
    found = [row for batch in batches(tagged, epochs=1) for row in read(batch, tagged)]
    wanted = [("zh", pair.en, pair.zh) for pair in PAIRS] + [("en", pair.zh, pair.en) for pair in PAIRS]
    assert sorted(found) == sorted(wanted)


def test_batches_keep_within_their_tokens_and_waste_little(tagged):
    made = batches(tagged, epochs=1)
    told = list(made)
    assert len(told) == len(batches(tagged, epochs=1))
    sizes = [batch["input_ids"].numel() + batch["labels"].numel() for batch in told]
    assert max(sizes) <= 256
    real = sum(int(batch["attention_mask"].sum()) + int((batch["labels"] != -100).sum()) for batch in told)
    assert made.tokens_per_epoch == real
    assert made.fill == pytest.approx(real / sum(sizes))
    assert made.fill > 0.9
    assert made.documents == len(PAIRS)


def test_alpha_evens_out_the_origins(tagged):
    def drawn(alpha: float, epochs: int = 1) -> Counter[str]:
        made = batches(tagged, alpha=alpha, epochs=epochs)
        rows = [row for batch in made for row in read(batch, tagged) if row[0] == "zh"]
        return Counter(origin for _, source, _ in rows for origin in SIZES if origin in source)

    assert drawn(1.0) == SIZES
    assert drawn(0.0) == {"book": 165, "paper": 165}
    half = drawn(0.5)  # √300 : √30
    assert half["book"] / half["paper"] == pytest.approx(10**0.5, rel=0.02)
    assert sum(half.values()) == len(PAIRS)


def test_none_comes_twice_before_all_came_once(tagged):
    made = batches(tagged, alpha=0.0)
    rows = []
    while made.epoch < 4:
        rows += [source for language, source, _ in read(next(made), tagged) if language == "zh"]
    counts = Counter(rows)
    for origin, size in SIZES.items():
        seen = [counts[pair.en] for pair in PAIRS if pair.origin == origin]
        assert max(seen) - min(seen) <= 1 + (len(rows) > 0)  # the fourth epoch has begun
        assert sum(seen) / size == pytest.approx(4 * 165 / size, rel=0.05)


def test_it_goes_on_where_it_stood(tagged):
    for stop in (0, 3, 40):
        one, other = batches(tagged, alpha=0.5), batches(tagged, alpha=0.5)
        list(islice(one, stop))
        state = json.loads(json.dumps(one.state_dict()))
        other.load_state_dict(state)
        for _ in range(45):
            ours, theirs = next(one), next(other)
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for change in ({"seed": 1}, {"tokens": 300}, {"alpha": 0.4}, {"longest": 20}):
        with pytest.raises(DataError, match="changed"):
            batches(tagged, **({"alpha": 0.5} | change)).load_state_dict(state)


def test_epochs_differ_and_seeds_repeat(tagged):
    one, again, other = (batches(tagged, seed=seed) for seed in (0, 0, 1))
    first = [next(one)["input_ids"] for _ in range(len(one))]
    assert all(torch.equal(ids, next(again)["input_ids"]) for ids in first)
    assert any(not torch.equal(ids, next(other)["input_ids"]) for ids in first)
    assert any(
        ids.shape != (new := next(one)["input_ids"]).shape or not torch.equal(ids, new) for ids in first
    )  # the second epoch


def test_long_pairs_are_left_out_and_counted(tagged):
    long = Pair("word " * 60, "字", "book")
    made = PairBatches([*PAIRS, long], tagged, tokens=256, longest=40, epochs=1)
    assert (made.left_out, made.documents) == (1, len(PAIRS))
    assert max(batch["input_ids"].shape[1] for batch in made) <= 40
    with pytest.raises(DataError, match="no pair of at most 40"):
        PairBatches([long], tagged, tokens=256, longest=40)
    with pytest.raises(DataError, match="batches of 79"):
        batches(tagged, tokens=79)


def test_few_draws_are_a_sample_in_the_same_proportion(tagged):
    made = batches(tagged, alpha=0.5, draws=40, epochs=1)
    assert sum(len(batch["labels"]) for batch in made) == 80


def test_tags(tagged, tokenizer):
    numbers = tag_ids(tagged)
    assert set(numbers) == set(LANGUAGES)
    assert set(numbers.values()) <= tagged.special_ids
    assert add_tags(tagged).vocab_size == tagged.vocab_size
    assert tagged.encode("<2zh>") != [numbers["zh"]]  # what a text spells is no tag
    with pytest.raises(DataError, match="<2en>, <2zh>"):
        tag_ids(tokenizer)


def test_load_pairs(tmp_path: Path):
    row = {"source": "tea", "target": "茶", "origin": "book"}
    for split in ("train", "valid"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"source": "a", "target": "甲"}))
    assert load_pairs(tmp_path, "train") == [Pair("tea", "茶", "book"), Pair("a", "甲", "")]
    with pytest.raises(DataError, match="no test"):
        load_pairs(tmp_path, "test")
    with pytest.raises(DataError, match="danlu data pairs"):
        load_pairs(tmp_path / "nowhere", "train")
    (tmp_path / "valid.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"target": 3}))
    with pytest.raises(DataError, match=r"valid.jsonl: row 2 is no pair"):
        load_pairs(tmp_path, "valid")
