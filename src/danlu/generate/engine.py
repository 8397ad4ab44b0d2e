"""One engine for every generation: requests join and leave at each step, and share what they have in common."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import index
from pathlib import Path

import torch

from danlu.core.errors import ConfigError, ContextError
from danlu.core.i18n import tr
from danlu.generate.choose import Row
from danlu.generate.guided import Guide
from danlu.generate.opening import EngineConfig, load_model
from danlu.generate.params import Completion, Event, SamplingParams
from danlu.generate.scheduler import Request, Scheduler, Step
from danlu.generate.several import one_each, spread, the_best
from danlu.generate.stepper import Stepper
from danlu.generate.stopping import Answer
from danlu.models.adapters import Adapter, AdapterBank, read_adapter
from danlu.models.base import LanguageModel
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
        self.tokenizer, self.config = tokenizer, config or EngineConfig()
        self._draft, self._bank = draft, AdapterBank(model, adapters) if adapters else None
        self._next = 0
        self._stepping = threading.RLock()
        self._inbox: dict[int, list[Event]] = {}  # of the requests of `generate` and `stream`, whoever stepped
        self._unclaimed: list[Event] = []  # of others', for the next `step`
        self._stepper = Stepper(model.eval(), self.config, draft, self._bank)

    @classmethod
    def open(cls, folder: Path | str, config: EngineConfig | None = None) -> "Engine":
        """Load a model folder, or a GGUF file."""
        config = config or EngineConfig()
        model = load_model(folder, config)
        draft = load_model(config.draft, config) if config.draft and config.guesses else None
        adapters = {name: read_adapter(path) for name, path in config.adapters.items()}
        return cls(model, Tokenizer.load(Path(folder)), config, draft=draft, adapters=adapters)

    def sync(self, model: LanguageModel) -> None:
        """Generate with `model` from now on, without a copy. To be called again whenever its weights have changed.

        What was computed with the weights before is forgotten. Raises ConfigError while requests are under way, and
        for an engine with adapters, which belong to their model.
        """
        if self.busy or self._bank:
            raise ConfigError(
                tr(
                    "an engine with requests under way, or with adapters, cannot take other weights",
                    "引擎尚有请求或带有适配器,不能更换权重",
                ),
                tr("let it finish, or open another engine", "请等其完成,或另开一个引擎"),
            )
        with self._stepping:
            self._stepper = Stepper(model.eval(), self.config, self._draft, None)

    @property
    def model(self) -> LanguageModel:
        return self._stepper.model

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def scheduler(self) -> Scheduler:
        return self._stepper.scheduler

    @property
    def steps(self) -> int:
        """So far; `guessed` tokens were checked on the way, of which `guessed_right` were right."""
        return self._stepper.steps

    @property
    def guessed(self) -> int:
        return self._stepper.guessed

    @property
    def guessed_right(self) -> int:
        return self._stepper.guessed_right

    @property
    def watch(self) -> Callable[[Step], None] | None:
        """Called after each step with what it held."""
        return self._stepper.watch

    @watch.setter
    def watch(self, see: Callable[[Step], None] | None) -> None:
        self._stepper.watch = see

    # --- requests ---------------------------------------------------------------------------------------------

    def encode(self, prompt: Prompt) -> list[int]:
        """Ids of a text, of chat messages (with the cue to answer), or the ids themselves."""
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        messages = [item for item in prompt if isinstance(item, dict)]
        if messages:
            return self.tokenizer.render(messages, add_generation_prompt=True).ids
        return [index(item) for item in prompt if not isinstance(item, dict)]

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
        with self._stepper.lock:
            number = self._next
            self._next += 1
            self.scheduler.waiting.append(
                Request(number, row, answer, limit, time.perf_counter(), params.adapter, guide)
            )
        return number

    @property
    def vocab_size(self) -> int:
        """Logits of the model."""
        return self._stepper.vocab_size

    @property
    def longest(self) -> int:
        """Tokens that a request can have, prompt and answer."""
        return self._stepper.longest

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
        if min(ids) < 0 or max(ids) >= self.vocab_size:
            wrong = next(token for token in ids if not 0 <= token < self.vocab_size)
            raise ContextError(
                tr(f"there is no token {wrong}", f"没有编号为 {wrong} 的 token"),
                tr(
                    f"this model's go from 0 to {self.vocab_size - 1}",
                    f"该模型的 token 编号为 0 到 {self.vocab_size - 1}",
                ),
            )
        return ids

    def cancel(self, number: int) -> None:
        """End a request, waiting or running: all that it holds is free at the next step, which says "cancelled"."""
        with self._stepper.lock:
            self._stepper.cancelled.add(number)

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
        numbers: list[list[int]] = []
        done: dict[int, Completion] = {}
        try:
            for prompt, wish in zip(prompts, wishes, strict=True):
                numbers.append([])
                for one in wish:
                    numbers[-1].append(self._register(prompt, one))
            own = [number for group in numbers for number in group]
            while len(done) < len(own):
                done |= {event.request: event.completion for event in self._events(own) if event.completion}
        finally:
            self._leave(number for group in numbers for number in group)
        return [
            answer
            for group, wish in zip(numbers, every, strict=True)
            for answer in the_best([done[number] for number in group], wish)
        ]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Iterator[str]:
        """Complete one prompt, piece by piece."""
        number = self._register(prompt, params)
        try:
            while True:
                for event in self._events([number]):
                    if event.text:
                        yield event.text
                    if event.completion and event.completion.error:
                        raise event.completion.error
                    if event.completion:
                        return
        finally:
            self._leave([number])

    def step(self) -> list[Event]:
        """What one step brought to requests that were added with `add`. See `Stepper.step`."""
        with self._stepping:
            self._advance()
            events, self._unclaimed = self._unclaimed, []
        return events

    def _advance(self) -> None:
        """A step, and each event to whom it concerns."""
        for event in self._stepper.step():
            self._inbox.get(event.request, self._unclaimed).append(event)

    def _events(self, own: Sequence[int]) -> list[Event]:
        """What came for these requests: in a step of another, or else in one more step."""
        with self._stepping:
            if not any(self._inbox[number] for number in own):
                self._advance()
            found = [event for number in own for event in self._inbox[number]]
            for number in own:
                self._inbox[number] = []
        return found

    def _register(self, prompt: Prompt, params: SamplingParams | None) -> int:
        with self._stepping:
            number = self.add(prompt, params)
            self._inbox[number] = []
        return number

    def _leave(self, numbers: Iterable[int]) -> None:
        """Nobody waits for these any more."""
        for number in numbers:
            self.cancel(number)
            self._inbox.pop(number, None)
