"""One engine for every generation: batched, with a KV cache, requests joining and leaving at each step."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import PositiveInt
from torch import Tensor

from danlu.core.config import Config, doc
from danlu.core.device import choose_device, choose_precision
from danlu.core.errors import ConfigError, ContextError
from danlu.core.folder import ModelFolder
from danlu.core.gguf import is_gguf
from danlu.core.i18n import tr
from danlu.generate.params import Completion, Event, FinishReason, SamplingParams
from danlu.models import auto
from danlu.models.base import KVCache, LanguageModel
from danlu.ops.sampling import penalise_repetition, sample
from danlu.tokenizer import Tokenizer

__all__ = ["Engine", "EngineConfig", "Prompt"]

Prompt = str | Sequence[dict[str, str]] | Sequence[int]  # text, chat messages, or ids
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class EngineConfig(Config):
    """How the engine runs."""

    max_rows: PositiveInt = doc(64, "requests that are computed together", "同时计算的请求数")
    device: str = doc("auto", "cpu, cuda, cuda:1, mps", "设备:cpu、cuda、cuda:1、mps")
    dtype: str = doc(
        "auto",
        "auto: as stored; bf16 for int8 weights where that is fast; or fp32, bf16, fp16",
        "auto:按存储精度;int8 权重在合适的机器上用 bf16;或 fp32、bf16、fp16",
    )


@dataclass
class _Request:
    """A request under way. `ids` holds prompt and answer; the last id is not in the cache yet."""

    number: int
    prompt_tokens: int
    ids: list[int]
    params: SamplingParams
    generator: torch.Generator
    limit: int  # total length at which it must end
    decoder: "object" = None
    text: str = ""
    told: int = 0  # characters already given out
    began: float = field(default_factory=time.perf_counter)


class Engine:
    """Generates with one model for many requests.

    `add` a request, `step` until it is done; `generate` and `stream` do both. Waiting requests join as soon as a
    row is free (continuous batching). One thread may step while others add and cancel.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, config: EngineConfig | None = None) -> None:
        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config or EngineConfig()
        self.device = next(model.parameters()).device
        self._waiting: deque[_Request] = deque()
        self._running: list[_Request] = []
        self._cache: KVCache | None = None
        self._cache_length = 0
        self._cancelled: set[int] = set()
        self._lock = threading.Lock()
        self._next = 0

    @classmethod
    def open(cls, folder: Path | str, config: EngineConfig | None = None) -> "Engine":
        """Load a model folder, or a GGUF file."""
        config = config or EngineConfig()
        device = choose_device(config.device)
        dtype = config.dtype
        if dtype == "auto" and not is_gguf(folder) and "quantization_config" in ModelFolder.open(folder).config:
            dtype = choose_precision("auto", device)
        if dtype not in ("auto", *_DTYPES):
            raise ConfigError(
                tr(f"unknown dtype '{dtype}'", f"未知精度“{dtype}”"),
                tr("one of: auto, fp32, bf16, fp16", "可选:auto、fp32、bf16、fp16"),
            )
        model = auto.load(folder, dtype=_DTYPES.get(dtype), device=device)
        return cls(model, Tokenizer.load(Path(folder)), config)

    def sync(self, model: LanguageModel) -> None:
        """Generate with `model` from now on, without a copy; its weights may change between calls."""
        self.model, self.device = model, next(model.parameters()).device
        self._cache, self._cache_length = None, 0

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
        """Queue a request; return its number. Raises ContextError when the prompt leaves no room for an answer."""
        params = params or SamplingParams()
        ids = self.fitting(prompt)
        generator = torch.Generator()
        generator.manual_seed(params.seed) if params.seed is not None else generator.seed()
        limit = min(self.model.context, len(ids) + params.max_tokens)
        with self._lock:
            number = self._next
            self._next += 1
            request = _Request(number, len(ids), ids, params, generator, limit, self.tokenizer.stream_decoder())
            self._waiting.append(request)
        return number

    def fitting(self, prompt: Prompt) -> list[int]:
        """`encode`, with a look at the length. Raises ContextError for nothing, and for what leaves no room to answer."""
        ids = self.encode(prompt)
        if not ids:
            raise ContextError(
                tr("the prompt is empty", "提示词为空"), tr("give at least one character", "请至少给出一个字")
            )
        if len(ids) >= self.model.context:
            raise ContextError(
                tr(
                    f"the prompt has {len(ids)} tokens, the model's context {self.model.context}",
                    f"提示词有 {len(ids)} 个 token,而模型的上下文只有 {self.model.context}",
                ),
                tr(f"shorten it to {self.model.context - 1} or fewer", f"请缩短到 {self.model.context - 1} 个以内"),
            )
        return ids

    def cancel(self, number: int) -> None:
        """Forget a request, waiting or running; its row is free at the next step."""
        with self._lock:
            self._cancelled.add(number)

    @property
    def busy(self) -> bool:
        """Something waits or runs."""
        return bool(self._waiting or self._running)

    def generate(
        self, prompts: Iterable[Prompt], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> list[Completion]:
        """Complete all prompts; the order stays. A seed in common is made different for each prompt."""
        prompts = list(prompts)
        each = _spread(params, len(prompts))
        numbers = [self.add(prompt, own) for prompt, own in zip(prompts, each, strict=True)]
        done: dict[int, Completion] = {}
        while len(done) < len(numbers):
            done |= {event.request: event.completion for event in self.step() if event.completion}
        return [done[number] for number in numbers]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Iterator[str]:
        """Complete one prompt, piece by piece."""
        number = self.add(prompt, params)
        try:
            while True:
                for event in self.step():
                    if event.request == number:
                        if event.text:
                            yield event.text
                        if event.completion:
                            return
        finally:
            self.cancel(number)

    # --- steps ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One token for every running request, after letting waiting ones in."""
        joined = self._admit()
        if not self._running and not joined:
            return []
        logits = []
        if self._running:
            logits.append(self._forward(self._running, first=0, tail_only=True))
        if joined:
            logits.append(self._forward(joined, first=len(self._running), tail_only=False))
        self._running += joined
        tokens = self._choose(torch.cat(logits)).tolist()
        events = [self._push(request, token) for request, token in zip(self._running, tokens, strict=True)]
        self._close_gaps({event.request for event in events if event.completion})
        return [event for event in events if event.text or event.completion]

    def _admit(self) -> list[_Request]:
        """Drop what was cancelled; take waiting requests into free rows."""
        with self._lock:
            gone, self._cancelled = self._cancelled, set()
            self._waiting = deque(request for request in self._waiting if request.number not in gone)
            free = self.config.max_rows - len(self._running) + sum(r.number in gone for r in self._running)
            joined = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        self._close_gaps(gone)
        self._reserve(max((request.limit for request in self._running + joined), default=0))
        return joined

    def _reserve(self, length: int) -> None:
        """A cache with room for `length` tokens a row; what is in it is kept."""
        if self._cache is not None and length <= self._cache_length:
            return
        grown_length = min(self.model.context, -(-length // 64) * 64)
        grown = self.model.new_cache(self.config.max_rows, grown_length)  # may fail; the old one then still stands
        if self._cache is not None:
            grown.keys[:, :, :, : self._cache_length] = self._cache.keys
            grown.values[:, :, :, : self._cache_length] = self._cache.values
        self._cache, self._cache_length = grown, grown_length

    def _forward(self, requests: list[_Request], first: int, *, tail_only: bool) -> Tensor:
        """Logits [B, V] after each request's last id. `tail_only`: all but that id are in the cache already."""
        assert self._cache is not None
        new = [request.ids[-1:] if tail_only else request.ids for request in requests]
        width = max(map(len, new))
        starts = torch.tensor([len(r.ids) - len(ids) for r, ids in zip(requests, new, strict=True)])
        ids = torch.tensor([part + [0] * (width - len(part)) for part in new])
        positions = starts[:, None] + torch.arange(width)
        batch = {"input_ids": ids.to(self.device), "position_ids": positions.to(self.device)}
        self._cache.select(first, batch["position_ids"])
        hidden = self.model.hidden(batch, self._cache)
        last = torch.tensor([len(part) - 1 for part in new], device=self.device)
        return self.model.logits(hidden[torch.arange(len(new), device=self.device), last]).float()

    def _choose(self, logits: Tensor) -> Tensor:
        """Penalise and sample, each row by its own settings and its own random numbers."""
        params = [request.params for request in self._running]
        device = logits.device
        if any(p.repetition_penalty != 1 for p in params):
            seen = torch.zeros_like(logits, dtype=torch.bool)
            for row, request in enumerate(self._running):
                seen[row, torch.tensor(request.ids, device=device)] = True
            logits = penalise_repetition(
                logits, seen, torch.tensor([p.repetition_penalty for p in params], device=device)
            )
        uniform = torch.cat([torch.rand(1, generator=request.generator) for request in self._running])
        return sample(
            logits,
            uniform.to(device),
            torch.tensor([p.temperature for p in params], device=device),
            torch.tensor([p.top_k for p in params], device=device),
            torch.tensor([p.top_p for p in params], device=device),
            torch.tensor([p.min_p for p in params], device=device),
        )

    def _push(self, request: _Request, token: int) -> Event:
        """Add a token; give out the text that can no longer become a stop string."""
        reason: FinishReason | None = None
        if token in self.tokenizer.stop_ids:
            reason = "stop"
            request.text += request.decoder.flush()  # type: ignore[attr-defined]
        else:
            request.ids.append(token)
            request.text += request.decoder.push(token)  # type: ignore[attr-defined]
            if len(request.ids) >= request.limit:
                reason = "length"
                request.text += request.decoder.flush()  # type: ignore[attr-defined]
        cut = min(
            (at for at in (request.text.find(stop, request.told) for stop in request.params.stop) if at >= 0),
            default=-1,
        )
        if cut >= 0:
            reason, request.text = "stop", request.text[:cut]
        safe = len(request.text) if reason else len(request.text) - _held_back(request.text, request.params.stop)
        piece, request.told = request.text[request.told : safe], max(safe, request.told)
        if reason is None:
            return Event(request.number, piece)
        answer = request.ids[request.prompt_tokens :]
        seconds = time.perf_counter() - request.began
        return Event(request.number, piece, Completion(request.text, answer, request.prompt_tokens, reason, seconds))

    def _close_gaps(self, gone: set[int]) -> None:
        """Drop requests; the last rows move into the holes, so that running rows stay together."""
        row = 0
        while row < len(self._running):
            if self._running[row].number not in gone:
                row += 1
                continue
            last = self._running.pop()
            if row < len(self._running):
                assert self._cache is not None
                self._cache.move(len(self._running), row, len(last.ids))
                self._running[row] = last


def _held_back(text: str, stops: Iterable[str]) -> int:
    """Length of the longest end of `text` that may yet grow into a stop string."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


def _spread(params: SamplingParams | Sequence[SamplingParams] | None, number: int) -> list[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        base = params or SamplingParams()
        if base.seed is None:
            return [base] * number
        return [base.model_copy(update={"seed": base.seed + i}) for i in range(number)]
    if len(params) != number:
        raise ConfigError(
            tr(f"{number} prompts but {len(params)} settings", f"{number} 个提示词却有 {len(params)} 组设置")
        )
    return list(params)
