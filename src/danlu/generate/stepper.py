"""A step of the engine: plan, one forward pass over everything that was planned, choose, hand out."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.generate.choose import Chooser
from danlu.generate.guided import Guide, MaskWorker, PendingMask
from danlu.generate.opening import EngineConfig, new_paged, page_count
from danlu.generate.pages import PagePool
from danlu.generate.params import Completion, Event, FinishReason, TokenLogprob
from danlu.generate.scheduler import Part, Plan, Request, Scheduler, Step
from danlu.generate.speculate import DraftModel, Guesser, Lookup
from danlu.models.adapters import AdapterBank
from danlu.models.base import LanguageModel
from danlu.models.paged import PAGE, Span

__all__ = ["Stepper"]


class Stepper:
    """A model, its cache, and the requests that use them. One thread at a time may `step`; `lock` guards the queues."""

    def __init__(
        self, model: LanguageModel, config: EngineConfig, draft: LanguageModel | None, bank: AdapterBank | None
    ) -> None:
        self.model, self.config, self.device = model, config, model.device
        self.vocab_size = int(model.hf_config()["vocab_size"])
        self.lock = threading.Lock()
        self.cancelled: set[int] = set()
        self._lost: list[Event] = []  # of a step that failed
        self.watch: Callable[[Step], None] | None = None
        self.guessed = self.guessed_right = self.steps = 0
        pages = page_count(model, config)
        self._cache, self._bank = new_paged(model, pages), bank
        self.scheduler = Scheduler(
            PagePool(pages),
            config.max_rows,
            config.step_tokens,
            share_prefixes=config.prefix_cache,
            guesses=config.guesses,
        )
        self._guesser: Guesser | None = None
        if config.guesses:
            self._guesser = DraftModel(_fitting(draft, self.vocab_size), new_paged(draft, pages)) if draft else Lookup()
        self._choosers: list[Chooser] = []
        self._worker: MaskWorker | None = None

    @property
    def longest(self) -> int:
        """Tokens that a request can have, prompt and answer: the model's context, or what the cache holds."""
        return min(self.model.context, self.scheduler.pool.count * PAGE)

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One token, or more with guesses, for every request whose prompt is read; and the ends of what was cancelled.

        When it raises, the requests that it computed have ended: what they said may be lost in part. Whoever waits for
        them hears "cancelled" from the next step.
        """
        began = time.perf_counter()
        with self.lock:
            gone, self._lost = self._lost + self._drop_cancelled(), []
            plan = self.scheduler.plan()
        if not plan.parts:
            return gone
        try:
            parts = self._guess(plan)
            masks = self._masks(parts)  # computed beside the forward pass
            logits = self._forward(parts)
            events, right = self._choose(parts, logits, masks.result() if masks else None)
        except BaseException:
            with self.lock:
                self._lost = gone + [self._cancel(part.request) for part in plan.parts]
            raise
        for part in parts:
            self.scheduler.computed(part, right.get(part.request.number, 0))
        ended = [event.request for event in events if event.completion]
        with self.lock:
            for part in parts:
                if part.request.number in ended:
                    self._end(part.request)
        self.steps += 1
        if self.watch:
            self.watch(self._record(plan, parts, right, ended, time.perf_counter() - began))
        return gone + [event for event in events if event.text or event.completion]

    def _drop_cancelled(self) -> list[Event]:
        gone, self.cancelled = self.cancelled, set()
        known = [*self.scheduler.running, *self.scheduler.waiting] if gone else []
        return [self._cancel(request) for request in known if request.number in gone]

    def _cancel(self, request: Request) -> Event:
        self._end(request)
        return Event(request.number, request.answer.finish(), _completion(request, "cancelled"))

    def _end(self, request: Request) -> None:
        self.scheduler.remove(request)
        if self._guesser:
            self._guesser.forget(request)

    def _guess(self, plan: Plan) -> list[Part]:
        """Put guesses behind the answers under way, where the scheduler took pages for them."""
        parts = plan.parts
        if self._guesser is None:
            return parts
        for request in plan.preempted:
            self._guesser.forget(request)
        most = self.config.guesses
        able = [
            part.request
            for part in parts
            if part.chooses and part.count == 1 and len(part.request.pages) * PAGE >= len(part.request.ids) + most
        ]
        drafts = self._guesser.propose(able, most) if able else []
        for request, draft in zip(able, drafts, strict=True):
            request.draft = draft[: max(0, request.limit - len(request.ids) - 1)]
        told = {request.number for request in able if request.draft}
        return [
            part._replace(count=1 + len(part.request.draft), drafted=len(part.request.draft))
            if part.request.number in told
            else part
            for part in parts
        ]

    def _masks(self, parts: list[Part]) -> PendingMask | None:
        """Which tokens may come, at each place that `_forward` gives logits of; None when all may everywhere."""
        asking = [part for part in parts if part.chooses]
        if not any(part.request.guide for part in asking):
            return None
        if self._worker is None:
            self._worker = MaskWorker(self.vocab_size, self.device)
        return self._worker.start(
            [part.request.guide for part in asking], [part.request.draft[: part.drafted] for part in asking]
        )

    def _forward(self, parts: list[Part]) -> Tensor:
        """One pass over all parts, end to end. Logits [n, V] of each place a token is chosen from, guesses' included."""
        spans = [Span(part.start, part.count, part.request.pages) for part in parts]
        positions = self._cache.select(spans)
        ids, wanted, at = [], [], 0
        for part in parts:
            request, known = part.request, part.count - part.drafted
            ids += request.ids[part.start : part.start + known] + request.draft[: part.drafted]
            at += part.count
            if part.chooses:
                wanted += range(at - part.drafted - 1, at)
        batch = {"input_ids": torch.tensor([ids], device=self.device), "position_ids": positions}
        rows = torch.tensor(wanted, dtype=torch.long, device=self.device)
        if self._bank is None:
            return self.model.logits(self.model.hidden(batch, self._cache)[0, rows]).float()
        with self._bank.select([(part.request.adapter, part.count) for part in parts]):
            hidden = self.model.hidden(batch, self._cache)[0, rows]
        return self.model.logits(hidden).float()

    def _choose(self, parts: list[Part], logits: Tensor, allowed: Tensor | None) -> tuple[list[Event], dict[int, int]]:
        """The next token of each request, and further ones for as long as its guesses were right.

        Returns what came of it, and how many guesses of which request were right.
        """
        first, at = {}, 0  # where each request's logits begin
        for part in parts:
            if part.chooses:
                first[part.request.number] = at
                at += 1 + part.drafted
        going = [part for part in parts if part.chooses]
        events: dict[int, Event] = {}
        right: dict[int, int] = {}
        place = 0
        while going:
            if place == len(self._choosers):
                self._choosers.append(Chooser())
            rows = [part.request.row for part in going]
            places = [first[part.request.number] + place for part in going]
            mine, mask = logits, allowed
            if places != list(range(len(logits))):
                where = torch.tensor(places, device=logits.device)
                mine, mask = logits[where], None if allowed is None else allowed[where]
            chosen = self._choosers[place].choose(mine, rows, mask)
            on = []
            for part, token, log in zip(going, chosen.tokens.tolist(), chosen.logprobs, strict=True):
                request = part.request
                agreed = place < part.drafted and request.draft[place] == token
                event = _push(request, token, log)
                before = events.get(request.number)
                events[request.number] = replace(event, text=before.text + event.text) if before else event
                if agreed and not event.completion:
                    right[request.number] = place + 1
                    on.append(part)
            going, place = on, place + 1
        self.guessed += sum(part.drafted for part in parts)
        self.guessed_right += sum(right.values())
        for part in parts:
            part.request.draft = []
        return list(events.values()), right

    def _record(self, plan: Plan, parts: list[Part], right: dict[int, int], ended: list[int], seconds: float) -> Step:
        pool = self.scheduler.pool
        return Step(
            number=self.steps,
            seconds=seconds,
            parts=tuple(
                (part.request.number, part.start, part.count, right.get(part.request.number, 0)) for part in parts
            ),
            admitted=tuple((request.number, request.reused) for request in plan.admitted),
            preempted=tuple(request.number for request in plan.preempted),
            ended=tuple(ended),
            waiting=len(self.scheduler.waiting),
            running=len(self.scheduler.running),
            pages_held=pool.held,
            pages_remembered=pool.remembered,
            pages=pool.count,
        )


def _push(request: Request, token: int, log: TokenLogprob | None) -> Event:
    """Add a token to its answer."""
    step = request.answer.push(token, last=len(request.ids) + 1 >= request.limit)
    if step.keep:
        request.ids.append(token)
        if log is not None:
            request.logprobs.append(log)
    reason, error = _guided(request.guide, token, step.reason)
    if reason is None:
        return Event(request.number, step.text)
    held = request.answer.finish() if step.reason is None else ""
    return Event(request.number, step.text + held, _completion(request, reason, error))


def _completion(request: Request, reason: FinishReason, error: DataError | None = None) -> Completion:
    told = request.logprobs if request.row.params.logprobs is not None else None
    return Completion(
        request.answer.text,
        request.ids[request.row.prompt_tokens :],
        request.row.prompt_tokens,
        reason,
        time.perf_counter() - request.began,
        told,
        None if told is None else sum(one.logprob for one in told),
        error,
    )


def _fitting(draft: LanguageModel, vocab_size: int) -> LanguageModel:
    """Raises ConfigError for a draft whose tokens are others."""
    own = int(draft.hf_config()["vocab_size"])
    if own != vocab_size:
        raise ConfigError(
            tr(
                f"the draft model has {own} tokens, the model {vocab_size}",
                f"草稿模型有 {own} 个 token,而模型有 {vocab_size} 个",
            ),
            tr("use one of the same tokenizer", "请使用同一分词器的模型"),
        )
    return draft


def _guided(
    guide: Guide | None, token: int, reason: FinishReason | None
) -> tuple[FinishReason | None, DataError | None]:
    """Tell the guide what was said. Why the answer ends now, if it does, and what went wrong."""
    if guide is None:
        return reason, None
    try:
        if guide.error is None:
            guide.advance(token)
    except DataError as error:
        return "error", error
    if guide.error:
        return "error", guide.error
    return ("stop" if guide.finished else reason), None
