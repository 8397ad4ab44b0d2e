"""Exercise: what a step of continuous batching computes. 练习：连续批处理的每一步该算什么。"""

from collections import deque

from danlu.generate.pages import PagePool
from danlu.generate.scheduler import Part, Plan, Request
from danlu.models.paged import PAGE


class Scheduler:
    """Two queues and a pool of pages. (The real one also shares prefixes and leaves room for guesses.)"""

    def __init__(self, pool: PagePool, max_rows: int, step_tokens: int, *, share_prefixes: bool = False) -> None:
        self.pool, self.max_rows, self.step_tokens = pool, max_rows, step_tokens
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []  # in the order of admission

    def plan(self) -> Plan:
        """Choose the tokens of the next step, and take the pages for them.

        The step has room for `step_tokens` tokens. In this order:
        1. Each running request with `left == 1` (its prompt is read) gets one token: it must go on, whoever comes.
        2. Waiting requests are admitted, first come first served, while fewer than `max_rows` run, each of those that
           still read (`left > 1`) can have at least one token of what is left, and the pool has pages for all tokens
           of the request (`pages_of`) and one more. Pages that others still need for their prompts count as gone.
        3. What is left of the room goes to those who read, in equal shares: the one with the least left comes first,
           and gets min(left, room // requests still to be served, but at least 1). So a short prompt leaves the rest
           of its share to longer ones.
        `_extend(request, count)` takes the pages for `count` more tokens; False: there are none, so it waits.

        Returns Plan(parts, admitted, []), a Part(request, request.computed, count) for each that gets tokens.
        """
        raise NotImplementedError

    def computed(self, part: Part) -> None:
        """A part was computed."""
        part.request.computed = part.start + part.count

    def remove(self, request: Request) -> None:
        """It ended; its pages are free at once."""
        self.pool.release(request.pages)
        request.pages, request.computed = [], 0
        (self.running if request in self.running else self.waiting).remove(request)

    def pages_of(self, request: Request) -> int:
        """Pages that all its tokens fill, less those that it has."""
        return -(-len(request.ids) // PAGE) - len(request.pages)

    def _extend(self, request: Request, count: int) -> bool:
        """Take pages for `count` more tokens of a request, if there are as many."""
        needed = -(-(request.computed + count) // PAGE) - len(request.pages)
        if needed > self.pool.available:
            return False
        request.pages += [self.pool.take() for _ in range(needed)]
        return True
