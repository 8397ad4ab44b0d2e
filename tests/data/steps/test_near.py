"""Near duplicates beside a brute-force oracle made of Python sets, and whatever the parts of the corpus."""

import random
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.minhash import bucket_edges
from danlu.data.step import CorpusStep, Drop
from danlu.data.steps.near import Config, Gather, Step, drop_near, same_keys

WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in ("nt", "st", "r", "")]
CHARACTERS = (
    "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈剑号巨阙珠称夜光"
)


def shingles(text: str, words: int, characters: int) -> set[tuple[str, ...]]:
    """Another way to the same shingles: a regular expression and tuples."""
    tokens = re.findall(r"[一-鿿]|[^\W一-鿿]+", text.lower())
    long = [characters if re.match("[一-鿿]", token) else words for token in tokens]
    return {tuple(tokens[i : i + n]) for i, n in enumerate(long) if i + n <= len(tokens)}


def oracle(texts: list[str], config: Config) -> list[int]:
    """Each text beside all before it that stay; -1 or the first of those it is like."""
    sets = [shingles(text, config.words, config.characters) for text in texts]
    found = []
    for number, one in enumerate(sets):
        like = -1
        for earlier in range(number if len(one) >= config.shortest else 0):
            other = sets[earlier]
            long = len(other) >= config.shortest
            if found[earlier] < 0 and long and len(one & other) / len(one | other) >= config.threshold:
                like = earlier
                break
        found.append(like)
    return found


def corpus(seed: int, families: int = 12) -> list[str]:
    """Texts of 60 to 200 words or characters, most of them in families that differ in a few places."""
    draw = random.Random(seed)
    texts = []
    for _ in range(families):
        tokens = draw.choices(draw.choice((WORDS, CHARACTERS, WORDS + list(CHARACTERS))), k=draw.randrange(60, 200))
        for _ in range(draw.randrange(1, 5)):
            copy = list(tokens)
            for _ in range(draw.choice((0, 1, 2, len(copy) // 6))):
                copy[draw.randrange(len(copy))] = draw.choice(WORDS)
            texts.append(" ".join(copy))
    draw.shuffle(texts)
    return [*texts, "short", "short", ""]


def decide(texts: list[str], borders: list[int] | None = None, config: Config | None = None) -> list[int]:
    """The decision on texts cut into parts at `borders`."""
    step = Step(config or Config())
    rows = [{"id": str(number), "source": "s", "text": text} for number, text in enumerate(texts)]
    cuts = [0, *sorted(borders or []), len(rows)]
    parts = [step.keys(rows[start:end]) for start, end in zip(cuts, cuts[1:], strict=False)]
    decision = step.decide(parts)
    assert [len(part) for part in decision] == [end - start for start, end in zip(cuts, cuts[1:], strict=False)]
    return np.concatenate(decision).tolist()


@pytest.mark.parametrize("seed", range(8))
def test_as_the_oracle(seed: int):
    texts = corpus(seed)
    wanted = oracle(texts, Config())
    assert decide(texts) == wanted
    assert sum(like >= 0 for like in wanted) >= 3


def test_as_the_oracle_with_other_settings():
    config = Config(threshold=0.5, words=3, characters=2, shortest=4, num_perm=200, seed=5)
    texts = corpus(100, 20)
    assert decide(texts, config=config) == oracle(texts, config)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), borders=st.lists(st.integers(0, 12), max_size=6))
def test_parts_make_no_difference(seed: int, borders: list[int]):
    texts = corpus(seed, 6)
    borders = [min(border, len(texts)) for border in borders]
    assert decide(texts, borders) == decide(texts)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_first_stays_and_what_goes_names_one_that_stays(seed: int):
    found = decide(corpus(seed, 6))
    assert found[0] == -1
    assert all(like < row and found[like] == -1 for row, like in enumerate(found) if like >= 0)


def test_a_chain_does_not_drop_strangers():
    """B is like A and C is like B, but C is not like A: C stays."""
    draw = random.Random(0)
    tokens = draw.choices(WORDS, k=200)
    texts = [" ".join(tokens[start : start + 150]) for start in (0, 16, 32)]
    assert oracle(texts, Config()) == [-1, 0, -1]
    assert decide(texts) == [-1, 0, -1]


def test_many_alike_cost_no_square():
    """One bucket of 30,000 equal rows, and one of 300 that are alike by twos."""
    text = " ".join(random.Random(0).choices(WORDS, k=40))
    step = Step(Config())
    keys = step.keys([{"id": "a", "source": "s", "text": text}])
    (decision,) = step.decide([{name: np.repeat(array, 30_000, axis=-1 if name == "bands" else 0) for name, array in keys.items() if name != "shingles"} | {"shingles": keys["shingles"]}])  # fmt: skip
    assert decision.tolist() == [-1] + [0] * 29_999


def test_large_buckets_give_what_small_ones_give():
    """With a bucket beyond the border of each with each, the decision is still that of all pairs."""
    draw = np.random.default_rng(0)
    rows = np.arange(0, 600, 3)
    shared = draw.integers(0, 1 << 32, (40, 64), dtype=np.uint32)
    found = np.hstack((shared[draw.integers(0, 40, 200)], draw.integers(0, 1 << 32, (200, 8), dtype=np.uint32)))
    every = [(i, j) for i in range(200) for j in range(i) if (found[i] == found[j]).mean() >= 0.8]
    wanted = drop_near(np.array([(rows[j], rows[i]) for i, j in sorted((i, j) for i, j in every)]), 600)
    edges = bucket_edges(rows, found, 0.8)
    told = drop_near(edges[np.lexsort((edges[:, 0], edges[:, 1]))], 600)
    assert told.tolist() == wanted.tolist()
    assert len(edges) <= len(every)
    assert (wanted >= 0).sum() == 160


@pytest.mark.parametrize("seed", range(3))
def test_buckets_may_be_grouped_elsewhere(seed: int):
    """Rows grouped by (band, key) in a dictionary, each bucket alone and in any order, give the same decision."""
    step, draw = Step(Config()), random.Random(seed)
    texts = corpus(seed, 30)
    texts += [f"{texts[0]} {draw.choice(WORDS)}" for _ in range(80)]  # one bucket that is large
    keys = step.keys([{"id": "", "source": "", "text": text} for text in texts])
    buckets: dict[tuple[int, int], list[int]] = {}
    for band, own in enumerate(keys["bands"]):
        for row in np.flatnonzero(keys["count"] >= 10):
            buckets.setdefault((band, int(own[row])), []).append(int(row))
    found: set[tuple[int, int]] = set()
    for rows in draw.sample(list(buckets.values()), len(buckets)):
        edges = bucket_edges(np.array(rows), keys["minima"][rows], 0.75, step.margin)
        found |= {(later, earlier) for earlier, later in edges.tolist()}
    edges = np.array([(earlier, later) for later, earlier in sorted(found)])
    told = drop_near(Gather([keys]).alike(edges, 0.75, step.margin), len(texts))
    assert told.tolist() == step.decide([keys])[0].tolist()
    assert (told >= 0).sum() >= 80


def test_same_keys():
    rows, spans = same_keys(np.array([7, 3, 7, 9, 3, 7], np.uint32), np.array([1, 1, 1, 1, 1, 0], bool))
    assert [rows[start:end].tolist() for start, end in spans] == [[1, 4], [0, 2]]


def test_settle_and_other_rows():
    step = Step(Config())
    assert isinstance(step, CorpusStep)
    text = " ".join(WORDS[:60])
    chat = {"id": "2", "source": "s", "messages": [{"role": "user", "content": text}]}
    rows = [{"id": "0", "source": "s", "text": "x"}, {"id": "1", "source": "s", "text": text}, chat]
    tally: Counter[str] = Counter()
    assert step.settle(rows, step.decide([step.keys(rows)])[0], tally) == [*rows[:2], Drop("near_duplicate", "#1")]
    assert tally == {"kept": 2}
    assert step.decide([]) == []
    assert [part.tolist() for part in step.decide([step.keys([]), step.keys(rows[:1]), step.keys([])])] == [
        [],
        [-1],
        [],
    ]


def test_case_width_and_punctuation_make_no_difference():
    text = " ".join(WORDS[:60])
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text.title())
    assert decide([text, wide.replace(" ", ",  "), "x" + text.replace(" ", "")]) == [-1, 0, -1]
