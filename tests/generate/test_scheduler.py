"""The scheduler by itself: a counter stands in for the model, so that thousands of steps take a second."""

import random
import time
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.generate.choose import Row
from danlu.generate.pages import PagePool
from danlu.generate.params import SamplingParams
from danlu.generate.scheduler import Plan, Request, Scheduler
from danlu.generate.stopping import Answer
from danlu.models.paged import PAGE


def request(number: int, prompt: int, answer: int = 4, first: int = 0) -> Request:
    ids = [(first + place) % 50 for place in range(prompt)]
    row = Row(SamplingParams(temperature=0), ids, prompt, torch.Generator())
    return Request(number, row, Answer(None), prompt + answer, time.perf_counter())  # type: ignore[arg-type]


def scheduler(pages: int = 40, rows: int = 4, tokens: int = 32, **more) -> Scheduler:
    return Scheduler(PagePool(pages), rows, tokens, **more)


def compute(schedule: Scheduler, plan: Plan) -> list[Request]:
    """What the engine does with a plan; returns who ended."""
    ended = []
    for part in plan.parts:
        if part.chooses:
            part.request.ids.append(7)
        schedule.computed(part)
        if len(part.request.ids) >= part.request.limit:
            ended.append(part.request)
    for done in ended:
        schedule.remove(done)
    return ended


def invariants(schedule: Scheduler) -> None:
    """No page leaked, none shared by those who write to it, none held twice by one."""
    pool = schedule.pool
    holders = Counter(page for one in schedule.running for page in one.pages)
    assert [holders[page] for page in range(pool.count)] == pool.holders
    assert pool.held == len(holders)
    assert pool.available + pool.held == pool.count
    assert sorted({*pool._free, *pool._idle, *holders}) == list(range(pool.count))
    assert len(schedule.running) <= schedule.max_rows
    for one in schedule.running:
        assert len(set(one.pages)) == len(one.pages)
        assert one.computed <= len(one.pages) * PAGE
        for page in one.pages[one.computed // PAGE :]:
            assert holders[page] == 1, "a page that is written to has one holder"
    assert not [one for one in schedule.waiting if one.pages or one.computed]


def test_answers_come_first_and_prompts_share_the_rest():
    schedule = scheduler()
    schedule.waiting.extend([request(0, 8), request(1, 100, first=9)])
    plan = schedule.plan()
    assert [(part.request.number, part.count) for part in plan.parts] == [(0, 8), (1, 24)]
    compute(schedule, plan)
    plan = schedule.plan()
    assert [(part.request.number, part.start, part.count) for part in plan.parts] == [(0, 8, 1), (1, 24, 31)]


def test_a_short_prompt_is_not_held_up_by_a_long_one():
    schedule = scheduler(tokens=32)
    schedule.waiting.append(request(0, 300, first=3))
    compute(schedule, schedule.plan())
    schedule.waiting.append(request(1, 10))
    plan = schedule.plan()
    assert {part.request.number: part.chooses for part in plan.parts} == {0: False, 1: True}


def test_prefixes_are_found_and_awaited():
    schedule = scheduler(tokens=64)
    schedule.waiting.extend([request(0, 40), request(1, 40), request(2, 20)])
    plan = schedule.plan()
    assert [part.request.number for part in plan.parts] == [0]  # the others wait for the pages it is about to fill
    compute(schedule, plan)
    plan = schedule.plan()
    told = {part.request.number: (part.start, part.request.reused) for part in plan.parts}
    assert told == {0: (40, 0), 1: (32, 32), 2: (16, 16)}
    invariants(schedule)


def test_without_sharing_nothing_is_found():
    schedule = scheduler(tokens=64, share_prefixes=False)
    schedule.waiting.extend([request(0, 20), request(1, 20)])
    compute(schedule, schedule.plan())
    assert schedule.pool.remembered == 0
    assert all(one.reused == 0 for one in schedule.running)


def test_the_last_one_gives_way_when_pages_run_out_and_comes_back_first():
    schedule = scheduler(pages=4, tokens=64)
    schedule.waiting.extend([request(0, 15, answer=40), request(1, 15, answer=3, first=20), request(2, 15, first=30)])
    ended, preempted = [], []
    for _ in range(200):
        plan = schedule.plan()
        preempted += [one.number for one in plan.preempted]
        ended += [one.number for one in compute(schedule, plan)]
        invariants(schedule)
        if not (schedule.running or schedule.waiting):
            break
    assert sorted(ended) == [0, 1, 2]
    assert schedule.pool.held == 0


def test_a_request_as_large_as_the_pool_still_ends():
    schedule = scheduler(pages=3, tokens=16)
    schedule.waiting.extend([request(0, 20, answer=28), request(1, 20, answer=28, first=11)])
    steps = 0
    while schedule.running or schedule.waiting:
        compute(schedule, schedule.plan())
        invariants(schedule)
        steps += 1
        assert steps < 300


@pytest.mark.parametrize("guesses", [0, 3])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_random_arrivals_cancels_and_lengths_leak_nothing_and_starve_nobody(guesses, seed):
    chance = random.Random(seed)
    pages = chance.randint(4, 30)
    schedule = scheduler(pages, chance.randint(1, 6), chance.choice([1, 8, 17, 64]), guesses=guesses)
    longest = pages * PAGE
    born: dict[int, int] = {}
    ended: set[int] = set()
    cancelled: set[int] = set()
    for step in range(4000):
        if step < 150 and chance.random() < 0.4:
            prompt = chance.randint(1, min(longest - 1, 90))
            answer = chance.randint(1, min(longest - prompt, 40))
            number = len(born)
            born[number] = step
            schedule.waiting.append(request(number, prompt, answer, first=chance.choice([0, 0, 0, 7])))
        if chance.random() < 0.05:
            alive = [*schedule.running, *schedule.waiting]
            if alive:
                gone = chance.choice(alive)
                schedule.remove(gone)
                cancelled.add(gone.number)
        invariants(schedule)
        plan = schedule.plan()
        assert sum(part.count for part in plan.parts) <= max(schedule.step_tokens, schedule.max_rows)
        assert bool(plan.parts) == bool(schedule.running), "whoever runs gets on"
        ended |= {one.number for one in compute(schedule, plan)}
        if step >= 150 and not (schedule.running or schedule.waiting):
            break
    assert ended | cancelled == set(born), "nobody starved"
    assert schedule.pool.held == 0
