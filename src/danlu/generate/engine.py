"""One engine for every generation: requests join and leave at each step, and share what they have in common."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from danlu.core.errors import ConfigError, ContextError, DataError
from danlu.core.i18n import tr
from danlu.generate.choose import Chooser, Row
from danlu.generate.guided import Guide, MaskWorker, PendingMask
from danlu.generate.opening import EngineConfig, load_model, new_paged, page_count
from danlu.generate.pages import PagePool
from danlu.generate.params import Completion, Event, FinishReason, SamplingParams, TokenLogprob
from danlu.generate.scheduler import Part, Plan, Request, Scheduler, Step
from danlu.generate.several import one_each, spread, the_best
from danlu.generate.speculate import DraftModel, Guesser, Lookup
from danlu.generate.stopping import Answer
from danlu.models.adapters import Adapter, AdapterBank, read_adapter
from danlu.models.base import LanguageModel
from danlu.models.paged import PAGE, Span
from danlu.models.seq2seq import EncoderDecoder
from danlu.tokenizer import Tokenizer

__all__ = ["Engine", "EngineConfig", "Prompt", "Step"]

Prompt = str | Sequence[dict[str, str]] | Sequence[int]  # text, chat messages, or ids


class Engine:
    """Generates with one model for many requests.

    `add` a request, `step` until it is done; `generate` and `stream` do both. One thread may step while others add and
    cancel. A step is: plan (danlu.generate.scheduler), one forward pass, choose (danlu.generate.choose), hand out.

    Greedy answers are the same alone and in any company: to the bit with packed weights; with float weights up to the
    rounding of torch's matrix products, which can only matter where two logits are equal to about six digits in float32
    (three in bfloat16). Of equal logits, the token with the lowest id is taken.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        config: EngineConfig | None = None,
        *,
        draft: LanguageModel | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        if isinstance(model, EncoderDecoder):
            raise ConfigError(
                tr("the engine generates with decoders", "引擎只用于解码器模型"),
                tr(
                    "for an encoder-decoder: danlu.generate.seq2seq.Seq2Seq",
                    "编码器-解码器模型请用 danlu.generate.seq2seq.Seq2Seq",
                ),
            )
        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config or EngineConfig()
        self.watch: Callable[[Step], None] | None = None
        self.guessed = self.guessed_right = self.steps = 0
        self._draft = draft
        self._bank = AdapterBank(model, adapters) if adapters else None
        self._lock = threading.Lock()
        self._cancelled: set[int] = set()
        self._next = 0
        self._choosers: list[Chooser] = []
        self._worker: MaskWorker | None = None
        self._prepare()

    @classmethod
    def open(cls, folder: Path | str, config: EngineConfig | None = None) -> "Engine":
        """Load a model folder, or a GGUF file."""
        config = config or EngineConfig()
        model = load_model(folder, config)
        draft = load_model(config.draft, config) if config.draft and config.guesses else None
        adapters = {name: read_adapter(path) for name, path in config.adapters.items()}
        return cls(model, Tokenizer.load(Path(folder)), config, draft=draft, adapters=adapters)

    def sync(self, model: LanguageModel) -> None:
        """Generate with `model` from now on, without a copy; its weights may change between calls."""
        self.model = model
        self._prepare()

    def _prepare(self) -> None:
        """An empty cache for the model, and nobody in it."""
        self.device = self.model.device
        pages = page_count(self.model, self.config)
        self._cache = new_paged(self.model, pages)
        config = self.config
        guesses = config.guesses
        self.scheduler = Scheduler(
            PagePool(pages), config.max_rows, config.step_tokens, share_prefixes=config.prefix_cache, guesses=guesses
        )
        self._guesser: Guesser | None = None
        if guesses:
            draft = self._draft
            self._guesser = DraftModel(draft, new_paged(draft, pages)) if draft else Lookup()

    # --- requests ---------------------------------------------------------------------------------------------

    def encode(self, prompt: Prompt) -> list[int]:
        """Ids of a text, of chat messages (with the cue to answer), or the ids themselves."""
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        messages = [item for item in prompt if isinstance(item, dict)]
        if messages:
            return self.tokenizer.render(messages, add_generation_prompt=True).ids
        return [int(item) for item in prompt if isinstance(item, int)]

    def add(self, prompt: Prompt, params: SamplingParams | None = None) -> int:
        """Queue a request; return its number. Raises ContextError when the prompt leaves no room for an answer.

        Raises ConfigError for settings that this model cannot follow.
        """
        params = params or SamplingParams()
        known = sorted(self._bank.adapters) if self._bank else []
        if params.adapter is not None and params.adapter not in known:
            raise ConfigError(
                tr(f"there is no adapter '{params.adapter}'", f"没有名为“{params.adapter}”的适配器"),
                tr(f"loaded: {', '.join(known) or '-'}", f"已加载:{'、'.join(known) or '-'}"),
            )
        ids = self.fitting(prompt)
        row = Row.of(params, ids, self.tokenizer, self.vocab_size)
        answer = Answer(self.tokenizer.stream_decoder(), params.stop, row.stop_ids, params.min_tokens)
        limit = min(self.longest, len(ids) + params.max_tokens)
        guide = Guide(params.guided, self.tokenizer) if params.guided else None
        with self._lock:
            number = self._next
            self._next += 1
            self.scheduler.waiting.append(
                Request(number, row, answer, limit, time.perf_counter(), params.adapter, guide)
            )
        return number

    @property
    def vocab_size(self) -> int:
        """Logits of the model."""
        return int(self.model.hf_config()["vocab_size"])

    @property
    def longest(self) -> int:
        """Tokens that a request can have, prompt and answer: the model's context, or what the cache holds."""
        return min(self.model.context, self.scheduler.pool.count * PAGE)

    def fitting(self, prompt: Prompt) -> list[int]:
        """`encode`, with a look at the length. Raises ContextError for nothing, and for what leaves no room to answer."""
        ids = self.encode(prompt)
        if not ids:
            raise ContextError(
                tr("the prompt is empty", "提示词为空"), tr("give at least one character", "请至少给出一个字")
            )
        if len(ids) >= self.longest:
            raise ContextError(
                tr(
                    f"the prompt has {len(ids)} tokens, the model's context {self.longest}",
                    f"提示词有 {len(ids)} 个 token,而模型的上下文只有 {self.longest}",
                ),
                tr(f"shorten it to {self.longest - 1} or fewer", f"请缩短到 {self.longest - 1} 个以内"),
            )
        return ids

    def cancel(self, number: int) -> None:
        """Forget a request, waiting or running; all that it holds is free at the next step."""
        with self._lock:
            self._cancelled.add(number)

    @property
    def busy(self) -> bool:
        """Something waits or runs."""
        return bool(self.scheduler.waiting or self.scheduler.running)

    def generate(
        self, prompts: Iterable[Prompt], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> list[Completion]:
        """Complete all prompts; the order stays. A seed in common is made different for each prompt.

        With `n`, each prompt has n answers, one after the other; with `best_of`, the n most likely of so many.
        """
        prompts = list(prompts)
        every = spread(params, len(prompts))
        wishes = [one_each(own) for own in every]
        numbers = [[self.add(prompt, one) for one in wish] for prompt, wish in zip(prompts, wishes, strict=True)]
        done: dict[int, Completion] = {}
        try:
            while len(done) < sum(map(len, numbers)):
                done |= {event.request: event.completion for event in self.step() if event.completion}
        except BaseException:
            for number in (number for group in numbers for number in group):
                self.cancel(number)
            raise
        return [
            answer
            for group, own in zip(numbers, every, strict=True)
            for answer in the_best([done[number] for number in group], own)
        ]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Iterator[str]:
        """Complete one prompt, piece by piece."""
        number = self.add(prompt, params)
        try:
            while True:
                for event in self.step():
                    if event.request == number:
                        if event.text:
                            yield event.text
                        if event.completion and event.completion.error:
                            raise event.completion.error
                        if event.completion:
                            return
        finally:
            self.cancel(number)

    # --- a step -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Compute what the scheduler planned; one token, or more with guesses, for every request whose prompt is read."""
        began = time.perf_counter()
        with self._lock:
            self._drop_cancelled()
            plan = self.scheduler.plan()
        if not plan.parts:
            return []
        parts = self._guess(plan.parts)
        masks = self._masks(parts)  # computed beside the forward pass
        logits = self._forward(parts)
        events, right = self._choose(parts, logits, masks.result() if masks else None)
        for part in parts:
            self.scheduler.computed(part, right.get(part.request.number, 0))
        ended = [event.request for event in events if event.completion]
        with self._lock:
            for part in parts:
                if part.request.number in ended:
                    self._end(part.request)
        self.steps += 1
        if self.watch:
            self.watch(self._record(plan, parts, right, ended, time.perf_counter() - began))
        return [event for event in events if event.text or event.completion]

    def _drop_cancelled(self) -> None:
        if self._cancelled:
            gone, self._cancelled = self._cancelled, set()
            for request in [*self.scheduler.running, *self.scheduler.waiting]:
                if request.number in gone:
                    self._end(request)

    def _end(self, request: Request) -> None:
        self.scheduler.remove(request)
        if self._guesser:
            self._guesser.forget(request)

    def _guess(self, parts: list[Part]) -> list[Part]:
        """Put guesses behind the answers under way, where the scheduler took pages for them."""
        if self._guesser is None:
            return parts
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
        if self._bank:
            self._bank.select([(part.request.adapter, part.count) for part in parts])
        batch = {"input_ids": torch.tensor([ids], device=self.device), "position_ids": positions}
        hidden = self.model.hidden(batch, self._cache)[0, torch.tensor(wanted, dtype=torch.long, device=self.device)]
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
            where = torch.tensor([first[part.request.number] + place for part in going], device=logits.device)
            chosen = self._choosers[place].choose(logits[where], rows, None if allowed is None else allowed[where])
            on = []
            for part, token, log in zip(going, chosen.tokens.tolist(), chosen.logprobs, strict=True):
                request = part.request
                agreed = place < part.drafted and request.draft[place] == token
                event = self._push(request, token, log)
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

    def _push(self, request: Request, token: int, log: TokenLogprob | None) -> Event:
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
        told = request.logprobs if request.row.params.logprobs is not None else None
        completion = Completion(
            request.answer.text,
            request.ids[request.row.prompt_tokens :],
            request.row.prompt_tokens,
            reason,
            time.perf_counter() - request.began,
            told,
            None if told is None else sum(one.logprob for one in told),
            error,
        )
        return Event(request.number, step.text + held, completion)

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
