"""Generation with an encoder-decoder: each source is read once, answers grow together, with a cache."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from danlu.core.errors import ConfigError, ContextError
from danlu.core.folder import ModelFolder
from danlu.core.gguf import is_gguf
from danlu.core.i18n import tr
from danlu.data.denoise import sentinel_ids
from danlu.generate.choose import Chooser, Row
from danlu.generate.opening import EngineConfig, load_model
from danlu.generate.params import Completion, Event, SamplingParams, TokenLogprob
from danlu.generate.stopping import Answer
from danlu.models.seq2seq import EncoderDecoder
from danlu.tokenizer import Tokenizer

__all__ = ["Seq2Seq", "Source", "is_seq2seq", "pad_sources"]

Source = str | Sequence[int]  # text, or the ids of one with its end


def is_seq2seq(folder: Path | str) -> bool:
    """Whether the model of a folder is an encoder-decoder, by its config.json."""
    return not is_gguf(folder) and bool(ModelFolder.open(folder, verify=False).config.get("is_encoder_decoder"))


def pad_sources(sources: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` [B, S] of texts of uneven length, padded on the right."""
    width = max(map(len, sources))
    ids = torch.tensor([[*source, *[0] * (width - len(source))] for source in sources], device=device)
    lengths = torch.tensor([len(source) for source in sources], device=device)
    return {"input_ids": ids, "attention_mask": (torch.arange(width, device=device) < lengths[:, None]).long()}


@dataclass
class _Running:
    """An answer under way. The first id of its row is what the decoder begins with."""

    number: int
    source_tokens: int
    row: Row
    answer: Answer
    logprobs: list[TokenLogprob] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)


class Seq2Seq:
    """Answers sources with an encoder-decoder, `max_rows` at a time; those that are done make no more work.

    A source is its text and the end-of-sequence token. Special tokens that the text spells are read as such, for so
    blanks are written: `<extra_id_0>`. Of an answer to a source with blanks, the sentinels are shown too.
    """

    def __init__(self, model: EncoderDecoder, tokenizer: Tokenizer, max_rows: int = 64) -> None:
        self.model, self.tokenizer, self.max_rows = model.eval(), tokenizer, max_rows
        self.device = model.device
        self._sentinels = frozenset(sentinel_ids(tokenizer))

    @classmethod
    def open(cls, folder: Path | str, config: EngineConfig | None = None) -> Self:
        """Load a model folder; of `config`, device, dtype and max_rows are used.

        Raises ConfigError when it is no encoder-decoder, or is to be packed, which none can be.
        """
        config = config or EngineConfig()
        if not is_seq2seq(folder):
            raise ConfigError(
                tr(f"{folder} is no encoder-decoder", f"{folder} 不是编码器-解码器模型"),
                tr("it is one for danlu.generate.engine.Engine", "请用 danlu.generate.engine.Engine"),
            )
        if config.weights in ("int8", "int4"):
            raise ConfigError(
                tr(
                    f"an encoder-decoder cannot be packed to {config.weights}",
                    f"编码器-解码器模型不能在加载时打包为 {config.weights}",
                ),
                tr(
                    "leave out engine.weights; `danlu int8` makes a folder of int8",
                    "请去掉 engine.weights;可用 danlu int8 得到 int8 模型文件夹",
                ),
            )
        model = load_model(folder, config)
        assert isinstance(model, EncoderDecoder)
        return cls(model, Tokenizer.load(Path(folder)), config.max_rows)

    def encode(self, source: Source) -> list[int]:
        """The ids that the encoder reads. Raises ContextError for an empty source, and for one that is too long."""
        if isinstance(source, str):
            ids = self.tokenizer.encode(source, special=True)
            ids = [*ids, self.tokenizer.eos_id] if ids else []
        else:
            ids = list(source)
        if not ids:
            raise ContextError(
                tr("the prompt is empty", "提示词为空"), tr("give at least one character", "请至少给出一个字")
            )
        if len(ids) > self.model.context:
            raise ContextError(
                tr(
                    f"the prompt has {len(ids)} tokens, the model's context {self.model.context}",
                    f"提示词有 {len(ids)} 个 token,而模型的上下文只有 {self.model.context}",
                ),
                tr(f"shorten it to {self.model.context} or fewer", f"请缩短到 {self.model.context} 个以内"),
            )
        return ids

    def generate(
        self, sources: Iterable[Source], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> list[Completion]:
        """Answer all sources; the order stays. A seed in common is made different for each."""
        encoded = [self.encode(source) for source in sources]
        each = _spread(params, len(encoded))
        done: dict[int, Completion] = {}
        for start in range(0, len(encoded), self.max_rows):
            numbers = range(start, min(start + self.max_rows, len(encoded)))
            for event in self._answers({number: (encoded[number], each[number]) for number in numbers}):
                if event.completion is not None:
                    done[event.request] = event.completion
        return [done[number] for number in range(len(encoded))]

    def stream(self, source: Source, params: SamplingParams | None = None) -> Iterator[str]:
        """Answer one source, piece by piece."""
        for event in self._answers({0: (self.encode(source), _spread(params, 1)[0])}):
            if event.text:
                yield event.text

    def _answers(self, asked: dict[int, tuple[list[int], SamplingParams]]) -> Iterator[Event]:
        """All answers, token by token: what each step brought."""
        rows = [self._begin(number, source, params) for number, (source, params) in asked.items()]
        chooser, step = Chooser(), 0
        longest = max(self._limit(running) for running in rows)
        with torch.inference_mode():
            cache = self.model.new_cache(len(rows), longest)
            cache.begin(self.model.read(pad_sources([source for source, _ in asked.values()], self.device)))
        while rows:
            with torch.inference_mode():  # not around the yield, where it would reach the caller
                cache.select(0, torch.full((len(rows), 1), step, device=self.device))
                last = torch.tensor([[running.row.ids[-1]] for running in rows], device=self.device)
                hidden = self.model.hidden({"decoder_input_ids": last}, cache)
                chosen = chooser.choose(self.model.logits(hidden[:, -1]).float(), [running.row for running in rows])
            step += 1
            events = [
                self._push(running, token, told)
                for running, token, told in zip(rows, chosen.tokens.tolist(), chosen.logprobs, strict=True)
            ]
            going = [at for at, event in enumerate(events) if event.completion is None]
            if going and len(going) < len(rows):
                with torch.inference_mode():
                    cache.reorder(torch.tensor(going, device=self.device))
            rows = [rows[at] for at in going]
            yield from (event for event in events if event.text or event.completion)

    def _begin(self, number: int, source: list[int], params: SamplingParams) -> _Running:
        row = Row.of(params, [self.model.start_id], self.tokenizer, self.model.output_weight.shape[0])
        decoder = self.tokenizer.stream_decoder(skip_special=self._sentinels.isdisjoint(source))
        return _Running(number, len(source), row, Answer(decoder, params.stop, row.stop_ids, params.min_tokens))

    def _limit(self, running: _Running) -> int:
        """Tokens at which an answer must end."""
        return min(self.model.context, running.row.params.max_tokens)

    def _push(self, running: _Running, token: int, told: TokenLogprob | None) -> Event:
        row = running.row
        step = running.answer.push(token, last=row.generated + 1 >= self._limit(running))
        if step.keep:
            row.ids.append(token)
            if told is not None:
                running.logprobs.append(told)
        if step.reason is None:
            return Event(running.number, step.text)
        asked = row.params.logprobs is not None
        completion = Completion(
            running.answer.text,
            row.ids[row.prompt_tokens :],
            running.source_tokens,
            step.reason,
            time.perf_counter() - running.began,
            running.logprobs if asked else None,
            sum(one.logprob for one in running.logprobs) if asked else None,
        )
        return Event(running.number, step.text, completion)


def _spread(params: SamplingParams | Sequence[SamplingParams] | None, number: int) -> list[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        base = params or SamplingParams()
        seeds = [None if base.seed is None else base.seed + at for at in range(number)]
        each = [base.model_copy(update={"seed": seed}) for seed in seeds]
    else:
        each = list(params)
    if len(each) != number:
        raise ConfigError(tr(f"{number} prompts but {len(each)} settings", f"{number} 个提示词却有 {len(each)} 组设置"))
    if any(one.n > 1 or one.best_of for one in each):
        raise ConfigError(
            tr("an encoder-decoder gives one answer to each prompt", "编码器-解码器模型对每个提示词只给一份回答"),
            tr("leave out n and best_of; give the prompt several times", "请去掉 n 与 best_of,把提示词重复几次"),
        )
    return each
