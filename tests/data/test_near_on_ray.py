import random

import numpy as np
import pytest

from danlu.data.near_on_ray import edges_of_share, records
from danlu.data.parts import Parts
from danlu.data.steps.near import Config, Step


def corpus(count: int = 240) -> list[dict]:
    """Texts of which many are edited copies, and one that stands sixty times with a word of its own (a large bucket)."""
    choose, rows = random.Random(3), []
    for number in range(count):
        words = [f"w{choose.randrange(400)}" for _ in range(60)]
        if rows and choose.random() < 0.4:
            words = choose.choice(rows)["text"].split()
            words[choose.randrange(len(words))] = f"n{number}"
        rows.append({"id": str(number), "source": "s", "text": " ".join(words)})
    notice = " ".join(f"notice{n}" for n in range(60))
    return rows + [{"id": f"c{n}", "source": "s", "text": f"{notice} {n}"} for n in range(60)]


@pytest.fixture
def parts(tmp_path):
    step, store, rows = Step(Config()), Parts(tmp_path), corpus()
    for number, start in enumerate(range(0, len(rows), 70)):
        some = rows[start : start + 70]
        store.write(number, some, {}, step.keys(some))
    return [store.keys(number) for number in range(5)]


@pytest.mark.parametrize("shares", [1, 3, 32])
def test_the_pairs_are_those_of_one_machine_however_many_shares_there_are(parts, shares):
    step = Step(Config())
    sent, start = [], 0
    for part in parts:
        sent.append(records(start, part["count"], part["bands"], part["minima"], step.config.shortest, shares))
        start += len(part["count"])
    together = {name: np.concatenate([one[name] for one in sent]) for name in sent[0]}
    pairs = []
    for share in range(shares):
        mine = together["share"] == share
        found = edges_of_share(
            {name: array[mine] for name, array in together.items()}, step.config.threshold, step.margin
        )
        pairs.append(np.column_stack((found["earlier"], found["later"])))
    codes = np.unique(np.concatenate(pairs)[:, ::-1], axis=0)
    from danlu.data.steps.near import Gather, _codes

    ours = np.concatenate(step._decided(np.unique(_codes(codes[:, ::-1])), Gather(parts)))
    assert (ours >= 0).sum() > 60
    assert np.array_equal(ours, np.concatenate(step.decide(parts)))


def test_ray_comes_to_the_same_decision(parts):
    ray = pytest.importorskip("ray")
    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    step = Step(Config())
    for here, there in zip(step.decide(parts), step.decide_on_ray(parts), strict=True):
        assert np.array_equal(here, there)
