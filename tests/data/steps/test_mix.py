"""Mixtures: shares by hand, amounts on real draws, independence of parts and order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import ConfigError
from danlu.data.step import CorpusStep, Drop
from danlu.data.steps.mix import Config, Step, shares

SIZES = {"web": 600, "books": 100, "poems": 20}


def corpus(sizes: dict[str, int] | None = None) -> list[dict]:
    return [
        {"id": f"{source}-{number}", "source": source, "text": "x" * (1 + number % 7)}
        for source, size in (sizes or SIZES).items()
        for number in range(size)
    ]


def mixed(config: Config, rows: list[dict], borders: list[int] | None = None) -> list[dict]:
    step = Step(config)
    cuts = [0, *sorted(borders or []), len(rows)]
    parts = [rows[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]
    found: list[dict] = []
    for part, decision in zip(parts, step.decide([step.keys(part) for part in parts]), strict=True):
        for one in step.settle(part, decision, Counter()):
            if isinstance(one, Drop):
                assert one == Drop("not_sampled")
            else:
                found += one if isinstance(one, list) else [one]
    return found


def counts(rows: list[dict]) -> dict[str, int]:
    return dict(Counter(row["source"] for row in rows))


def test_shares_by_hand():
    sizes = np.array([600.0, 100.0, 20.0])
    assert shares(sizes, sizes, 1, 360, 4) == pytest.approx([300, 50, 10])
    roots = np.sqrt(sizes)
    assert shares(sizes, sizes, 2, 200, 9) == pytest.approx(200 * roots / roots.sum())
    assert shares(sizes, sizes, 1e9, 30, 4) == pytest.approx([10, 10, 10])
    # poems can give 4 * 20 at most; the other two share the remaining 520 equally, and books reach 260 of their 400
    assert shares(sizes, np.ones(3), 1, 600, 4) == pytest.approx([260, 260, 80])
    assert shares(sizes, np.ones(3), 1, 9999, 4) == pytest.approx([2400, 400, 80])
    assert shares(sizes, np.array([0.0, 1, 1]), 1, 100, 4) == pytest.approx([0, 50, 50])


def test_without_settings_nothing_changes():
    rows = corpus()
    assert mixed(Config(), rows) == rows
    step = Step(Config())
    assert isinstance(step, CorpusStep)
    assert all(
        one is row
        for one, row in zip(step.settle(rows, step.decide([step.keys(rows)])[0], Counter()), rows, strict=True)
    )


def test_weights_in_rows():
    found = mixed(Config(weights={"web": 2, "books": 1, "poems": 1}, rows=200), corpus())
    assert counts(found) == {"web": 100, "books": 50, "poems": 50}
    poems = Counter(row["id"].partition("~")[0] for row in found if row["source"] == "poems")
    assert set(poems.values()) == {2, 3}
    assert sum(times == 3 for times in poems.values()) == 10
    assert len({row["id"] for row in found}) == 200
    assert {row["id"].partition("~")[2] for row in found} == {"", "2", "3"}


def test_weights_in_characters():
    rows = corpus()
    found = mixed(Config(weights={"web": 1, "books": 1, "poems": 0}, characters=800), rows)
    sums = {source: sum(len(row["text"]) for row in found if row["source"] == source) for source in SIZES}
    assert sums["poems"] == 0
    for source in ("web", "books"):
        assert 400 - 7 < sums[source] <= 400


def test_no_row_stands_more_often_than_allowed():
    found = mixed(Config(weights={"web": 1, "books": 1, "poems": 8}, rows=1000, max_repeats=3), corpus())
    assert counts(found)["poems"] == 60
    assert len(found) == 1000 - 60 - 940 + 60 + min(300, 470) + 470 + 170  # books give 300 at most, web the rest
    assert Counter(Counter(row["id"].partition("~")[0] for row in found if row["source"] == "poems").values()) == {
        3: 20
    }


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.floats(0.5, 10), st.integers(1, 2000), st.integers(1, 5))
def test_order_and_parts_make_no_difference(draw, temperature: float, rows: int, most: int):
    config, whole = Config(temperature=temperature, rows=rows, max_repeats=most), corpus()
    wanted = mixed(config, whole)
    assert len(wanted) == min(rows, most * len(whole))
    borders = sorted(draw.randrange(len(whole) + 1) for _ in range(3))
    assert mixed(config, whole, borders) == wanted
    shuffled = draw.sample(whole, len(whole))
    assert {row["id"] for row in mixed(config, shuffled, borders)} == {row["id"] for row in wanted}


def test_choice_is_even_and_seeded():
    rows = corpus({"s": 4000})
    one, other = ({row["id"] for row in mixed(Config(rows=1000, seed=seed), rows)} for seed in (0, 1))
    assert len(one & other) == pytest.approx(250, abs=60)
    places = sorted(int(name[2:]) for name in one)
    assert np.mean(places) == pytest.approx(2000, abs=150)


def test_growth_keeps_what_was_chosen():
    """A larger mixture contains the smaller one: rows go in by the order of their hashes."""
    rows = corpus()
    assert {row["id"] for row in mixed(Config(rows=100), rows)} <= {row["id"] for row in mixed(Config(rows=300), rows)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rows": 5, "characters": 5}, "both"),
        ({"weights": {"web": -1}}, "0 or above"),
        ({"weights": {"web": float("nan")}}, "finite"),
        ({"weights": {"web": 0}}, "all weights"),
        ({"weights": {"web": 1, "books": 1}}, "'poems' has no weight"),
        ({"weights": {"web": 1, "books": 1, "poems": 1, "mail": 1}}, "'mail' has a weight"),
    ],
)
def test_refused(settings: dict, said: str):
    with pytest.raises(ConfigError, match=said):
        mixed(Config(**settings), corpus())


def test_nothing_at_all():
    step = Step(Config())
    assert step.decide([]) == []
    assert [len(part) for part in step.decide([step.keys([])])] == [0]
