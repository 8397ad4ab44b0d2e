"""Checks for the scheduler; a counter stands in for the model, so no tensor is computed."""

import random
import time
from types import SimpleNamespace
from typing import Any

import torch

from danlu.generate.choose import Row
from danlu.generate.pages import PagePool
from danlu.generate.params import SamplingParams
from danlu.generate.scheduler import Plan, Request
from danlu.generate.stopping import Answer
from danlu.models.paged import PAGE

SOLUTION = "danlu.generate.scheduler"


def _request(number: int, prompt: int, answer: int = 4) -> Request:
    row = Row(SamplingParams(temperature=0), list(range(prompt)), prompt, torch.Generator())
    return Request(number, row, Answer(None), prompt + answer, time.perf_counter())  # type: ignore[arg-type]


def _scheduler(exercise: SimpleNamespace, *waiting: Request, pages: int = 60, rows: int = 4, tokens: int = 32) -> Any:
    schedule = exercise.Scheduler(PagePool(pages), rows, tokens, share_prefixes=False)
    schedule.waiting.extend(waiting)
    return schedule


def _told(plan: Plan) -> list[tuple[int, int, int]]:
    """Request, start, count of each part, in the order of the requests."""
    return sorted((part.request.number, part.start, part.count) for part in plan.parts)


def _compute(schedule: Any, plan: Plan) -> list[int]:
    """What the engine does with a plan; returns who ended."""
    ended = []
    for part in plan.parts:
        assert part.request.computed == part.start, "a part begins where the request was computed to"
        assert part.start + part.count <= len(part.request.pages) * PAGE, "a part needs pages for all its tokens"
        chooses = part.start + part.count == len(part.request.ids)
        schedule.computed(part)
        if chooses:
            part.request.ids.append(0)
        if len(part.request.ids) >= part.request.limit:
            ended.append(part.request)
    for request in ended:
        schedule.remove(request)
    return [request.number for request in ended]


def check_a_prompt_then_one_token_at_a_time(exercise: SimpleNamespace) -> None:
    """Alone, a prompt of 8 is read in one step, and then each step computes one token.
    只有一个请求时，8 个词元的提示一步读完，之后每步算一个词元。
    """
    schedule = _scheduler(exercise, _request(0, 8))
    told = []
    for _ in range(4):
        plan = schedule.plan()
        told += _told(plan)
        _compute(schedule, plan)
    assert told == [(0, 0, 8), (0, 8, 1), (0, 9, 1), (0, 10, 1)], f"parts: {told}"
    assert not schedule.running, "after four tokens it has ended"


def check_answers_come_first(exercise: SimpleNamespace) -> None:
    """A long prompt arrives while an answer is under way: the answer has its token, the prompt 31 of 32.
    回答进行中来了一个长提示：回答先拿到自己的 1 个词元，长提示拿 32 个里剩下的 31 个。
    """
    schedule = _scheduler(exercise, _request(0, 8, answer=9))
    _compute(schedule, schedule.plan())
    schedule.waiting.append(_request(1, 100))
    told = _told(schedule.plan())
    assert told == [(0, 8, 1), (1, 0, 31)], f"parts: {told}"


def check_a_short_prompt_is_not_held_up(exercise: SimpleNamespace) -> None:
    """A prompt of 300 is being read; one of 10 comes: it is read whole, the long one gets what it leaves, 22.
    正在读 300 个词元的提示时，又来了一个 10 个词元的：短的一步读完，长的拿它剩下的 22 个。
    """
    schedule = _scheduler(exercise, _request(0, 300))
    _compute(schedule, schedule.plan())
    schedule.waiting.append(_request(1, 10))
    told = _told(schedule.plan())
    assert told == [(0, 32, 22), (1, 0, 10)], f"parts: {told}"


def check_equal_shares(exercise: SimpleNamespace) -> None:
    """Three long prompts and 30 tokens: ten each.
    三个长提示，30 个词元：各得 10 个。
    """
    schedule = _scheduler(exercise, *(_request(number, 100) for number in range(3)), tokens=30)
    told = _told(schedule.plan())
    assert told == [(0, 0, 10), (1, 0, 10), (2, 0, 10)], f"parts: {told}"


def check_rows_and_order(exercise: SimpleNamespace) -> None:
    """Two rows, three requests: the first two are admitted; when one ends, the third joins the other at once.
    两行、三个请求：先接纳前两个；其中一个结束后，第三个立即加入，与另一个同行。
    """
    schedule = _scheduler(exercise, _request(0, 4, answer=6), _request(1, 4, answer=1), _request(2, 4), rows=2)
    plan = schedule.plan()
    assert [one.number for one in plan.admitted] == [0, 1], f"admitted: {[one.number for one in plan.admitted]}"
    assert [one.number for one in schedule.running] == [0, 1]
    assert _compute(schedule, plan) == [1]
    told = _told(schedule.plan())
    assert told == [(0, 4, 1), (2, 0, 4)], f"parts: {told}"


def check_pages_are_counted_before_admission(exercise: SimpleNamespace) -> None:
    """Four pages: a prompt of 40 tokens needs three and one stays spare; the next request waits, and no page is lost.
    共四页：40 个词元的提示要三页，还须留一页；下一个请求只能等待，也不能漏掉任何一页。
    """
    schedule = _scheduler(exercise, _request(0, 40, answer=5), _request(1, 20, answer=2), pages=4)
    first = schedule.plan()
    assert [one.number for one in first.admitted] == [0], f"admitted: {[one.number for one in first.admitted]}"
    _compute(schedule, first)
    ended = []
    for _ in range(30):
        ended += _compute(schedule, schedule.plan())
    assert ended == [0, 1], f"ended: {ended}"
    assert schedule.pool.available == 4, "all pages are free in the end"


def check_no_step_is_too_large(exercise: SimpleNamespace) -> None:
    """No step holds more than step_tokens tokens, and no more requests are let in than can have one each.
    任何一步都不超过 step_tokens 个词元；接纳的请求也不能多到连一个词元都分不到。
    """
    schedule = _scheduler(exercise, *(_request(number, 50) for number in range(8)), rows=8, tokens=5)
    for _ in range(20):
        plan = schedule.plan()
        assert sum(part.count for part in plan.parts) <= 5, f"{sum(part.count for part in plan.parts)} tokens"
        assert all(part.count >= 1 for part in plan.parts), "a part without tokens"
        _compute(schedule, plan)


def check_everybody_ends(exercise: SimpleNamespace) -> None:
    """Requests of all sizes at random times: each one ends, every step does something, and no page is lost.
    大小不一、随机到达的请求：每个都要结束，每一步都有活干，一页也不能漏。
    """
    draw = random.Random(3)
    schedule, born, ended = _scheduler(exercise, pages=80, rows=5, tokens=24), 0, []
    for step in range(3000):
        if step < 120 and draw.random() < 0.3:
            schedule.waiting.append(_request(born, draw.randint(1, 90), draw.randint(1, 40)))
            born += 1
        plan = schedule.plan()
        assert bool(plan.parts) == bool(schedule.running), "a step without work"
        assert len(schedule.running) <= 5, f"{len(schedule.running)} rows"
        ended += _compute(schedule, plan)
        if step >= 120 and not (schedule.running or schedule.waiting):
            break
    assert sorted(ended) == list(range(born)), f"{born - len(ended)} did not end"
    assert schedule.pool.available == 80, f"{80 - schedule.pool.available} pages lost"
