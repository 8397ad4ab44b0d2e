"""Which tokens each step computes: continuous batching, chunked prompts, shared prefixes, preemption."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from danlu.generate.choose import Row
from danlu.generate.guided import Guide
from danlu.generate.pages import PagePool, page_keys
from danlu.generate.params import TokenLogprob
from danlu.generate.stopping import Answer
from danlu.models.paged import PAGE

__all__ = ["Part", "Plan", "Request", "Scheduler", "Step"]


@dataclass(eq=False)
class Request:
    """A request from `add` to its end. Of `row.ids` (prompt and answer), the first `computed` are in the cache."""

    number: int
    row: Row
    answer: Answer
    limit: int  # of the length, prompt included
    began: float
    adapter: str | None = None
    guide: Guide | None = None
    pages: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)  # of its full pages
    computed: int = 0
    reused: int = 0  # tokens of the prompt that were in the cache already
    draft: list[int] = field(default_factory=list)  # guesses of what comes next, to be checked in one pass
    logprobs: list[TokenLogprob] = field(default_factory=list)
    preempted: int = 0

    @property
    def ids(self) -> list[int]:
        return self.row.ids

    @property
    def left(self) -> int:
        """Tokens to compute before the next one can be chosen: 1 once the prompt is done."""
        return len(self.ids) - self.computed

    def find_keys(self) -> None:
        """Keys of all pages that are full by now."""
        self.keys = page_keys(self.ids, self.keys, (self.adapter or "").encode())


class Part(NamedTuple):
    """`count` tokens of a request from position `start`, of which the last `drafted` are guesses."""

    request: Request
    start: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  (tuple's count() is not missed)
    drafted: int = 0

    @property
    def chooses(self) -> bool:
        """Its last token is the request's last: the next one is chosen from here."""
        return self.start + self.count - self.drafted == len(self.request.ids)


class Plan(NamedTuple):
    """What a step computes, and what was decided on the way."""

    parts: list[Part]
    admitted: list[Request]
    preempted: list[Request]


@dataclass(frozen=True)
class Step:
    """What one step held, for whoever watches (`Engine.watch`)."""

    number: int
    seconds: float
    parts: tuple[tuple[int, int, int, int], ...]  # request, start, tokens, guesses that were right
    admitted: tuple[tuple[int, int], ...]  # request, tokens found in the cache
    preempted: tuple[int, ...]
    ended: tuple[int, ...]
    waiting: int
    running: int
    pages_held: int
    pages_remembered: int
    pages: int


# lesson: scheduler
class Scheduler:
    """Two queues and a pool of pages.

    Each step has room for `step_tokens` tokens. Answers under way come first, one token each (and their guesses); what is
    left goes to prompts, in equal shares, so that a long one does not hold up a short one, and is cut into chunks by
    that. Waiting requests are admitted in their order while rows and pages last. When an answer needs a page and none is
    left, the request that was admitted last gives up its own, and begins again later at the head of the queue.
    """

    def __init__(
        self, pool: PagePool, max_rows: int, step_tokens: int, *, share_prefixes: bool = True, guesses: int = 0
    ) -> None:
        self.pool, self.max_rows, self.step_tokens = pool, max_rows, step_tokens
        self.share_prefixes, self.guesses = share_prefixes, guesses
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []  # in the order of admission

    def plan(self) -> Plan:
        """Choose the tokens of the next step, and take the pages for them (and for `guesses` after each answer)."""
        plan = Plan([], [], [])
        for request in [request for request in self.running if request.left == 1 and request.pages]:
            room = max(0, min(self.guesses, request.limit - len(request.ids) - 1))
            if request in plan.preempted or not self._extend(request, 1, plan):
                continue
            self._extend(request, 1 + room, plan)
            plan.parts.append(Part(request, request.computed, 1))
        budget = self.step_tokens - len(plan.parts) * (1 + self.guesses)
        if not plan.preempted:
            self._admit(plan, budget)
        served = {part.request.number for part in plan.parts}
        reading = [request for request in self.running if request.number not in served]
        reading.sort(key=lambda request: request.left)  # what short ones leave of their share, longer ones get
        for place, request in enumerate(reading):
            count = min(request.left, max(1, budget // (len(reading) - place)))
            if (
                request not in plan.preempted
                and count <= budget
                and self._extend(request, count, plan, patient=bool(plan.parts))
            ):
                plan.parts.append(Part(request, request.computed, count))
                budget -= count
        plan.parts[:] = [part for part in plan.parts if part.request not in plan.preempted]
        return plan

    def computed(self, part: Part, accepted: int = 0) -> None:
        """A part was computed, of whose guesses `accepted` were right. Full pages can be found by others from now on."""
        request = part.request
        request.computed = part.start + part.count - part.drafted + accepted
        if self.share_prefixes:
            request.find_keys()
            for place in range(part.start // PAGE, request.computed // PAGE):
                self.pool.name(request.pages[place], request.keys[place])

    def remove(self, request: Request) -> None:
        """It ended, or is not wanted any more; its pages are free at once."""
        self._let_go(request)
        if request in self.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)

    def _admit(self, plan: Plan, budget: int) -> None:
        """Let waiting requests in, as many as get at least one token of the budget, and pages for what they hold."""
        coming = {
            key for request in self.running if request.left > 1 for key in request.keys[request.computed // PAGE :]
        }
        late: list[Request] = []
        promised = sum(max(0, -(-len(request.ids) // PAGE) - len(request.pages)) for request in self.running)
        reading = sum(request.left > 1 for request in self.running)
        while self.waiting and len(self.running) < self.max_rows and reading < budget:
            request = self.waiting.popleft()
            found: list[int] = []
            if self.share_prefixes:
                request.find_keys()
                found = self.pool.find(
                    request.keys[: (len(request.ids) - 1) // PAGE]
                )  # the last token is always computed
                if len(found) < len(request.keys) and request.keys[len(found)] in coming:
                    late.append(request)  # another request is about to compute this very page: wait for it
                    continue
            fresh = sum(not self.pool.holders[page] for page in found)  # pages that holding makes unavailable
            needed = -(-len(request.ids) // PAGE) - len(found)
            if self.running and self.pool.available - fresh - promised < needed + 1:
                self.waiting.appendleft(request)
                break
            promised += needed
            self.pool.hold(found)
            request.pages, request.computed, request.reused = found, len(found) * PAGE, len(found) * PAGE
            self.running.append(request)
            plan.admitted.append(request)
            coming.update(request.keys[len(found) :])
            reading += 1
        self.waiting.extendleft(reversed(late))

    def _extend(self, request: Request, count: int, plan: Plan, *, patient: bool = False) -> bool:
        """Take pages for `count` more tokens; `patient`, or for mere guesses: rather not than preempt another."""
        needed = -(-(request.computed + count) // PAGE) - len(request.pages)
        while needed > self.pool.available:
            if patient or count > request.left:
                return False
            victim = self.running[-1]
            self._preempt(victim, plan)
            if victim is request:
                return False
        request.pages += [self.pool.take() for _ in range(needed)]
        return True

    def _preempt(self, request: Request, plan: Plan) -> None:
        """Give up its pages; what it said stays, and is computed again (or found again) later."""
        self._let_go(request)
        request.preempted += 1
        self.running.remove(request)
        self.waiting.appendleft(request)
        plan.preempted.append(request)
        if request in plan.admitted:
            plan.admitted.remove(request)

    def _let_go(self, request: Request) -> None:
        self.pool.release(request.pages)
        request.pages, request.computed, request.draft = [], 0, []


# end lesson
