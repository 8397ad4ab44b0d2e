"""Exact duplicates beside a dictionary, whatever the parts."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from danlu.data.step import CorpusStep, Drop
from danlu.data.steps.exact import Config, Step

TEXTS = st.lists(st.text(alphabet="aAＡ春\ud800 \n", max_size=3), max_size=30)


def decide(texts: list[str], borders: list[int], config: Config) -> list[int]:
    step = Step(config)
    rows = [{"id": str(number), "source": "s", "text": text} for number, text in enumerate(texts)]
    cuts = [0, *sorted(min(border, len(rows)) for border in borders), len(rows)]
    parts = [step.keys(rows[start:end]) for start, end in zip(cuts, cuts[1:], strict=False)]
    return np.concatenate(step.decide(parts)).tolist()


@given(TEXTS, st.lists(st.integers(0, 30), max_size=4), st.booleans())
def test_as_a_dictionary(texts: list[str], borders: list[int], fold: bool):
    first: dict[str, int] = {}
    wanted = []
    for number, text in enumerate(texts):
        bare = "".join(text.split())
        earlier = first.setdefault(bare.replace("Ａ", "a").lower() if fold else bare, number)
        wanted.append(-1 if earlier == number else earlier)
    assert decide(texts, borders, Config(fold=fold)) == wanted


def test_settle():
    step = Step(Config())
    assert isinstance(step, CorpusStep)
    rows = [
        {"id": "a", "source": "s", "text": "春眠 不觉晓"},
        {"id": "b", "source": "s", "messages": [{"role": "user", "content": "春眠不觉晓\n"}]},
        {"id": "c", "source": "s", "text": "b"},
    ]
    tally: Counter[str] = Counter()
    settled = step.settle(rows, step.decide([step.keys(rows)])[0], tally)
    assert settled == [rows[0], Drop("duplicate", "#0"), rows[2]]
    assert settled[0] is rows[0]
    assert tally == {"kept": 2}
    assert step.decide([]) == []
