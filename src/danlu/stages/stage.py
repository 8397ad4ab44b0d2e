"""What pre-training and instruction tuning share: documents in, a trained model folder out."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from danlu.core.device import choose_device, choose_precision
from danlu.core.errors import ConfigError
from danlu.core.folder import Lineage, ModelFolder
from danlu.core.i18n import tr
from danlu.core.run import Run
from danlu.data.batches import PackedBatches, valid_batches
from danlu.data.pack import Document
from danlu.generate.engine import Engine, Prompt
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.models.base import Batch, LanguageModel
from danlu.tokenizer import Tokenizer
from danlu.train.config import TrainConfig
from danlu.train.hooks import Every, console
from danlu.train.loop import Loop, steps_of
from danlu.train.objective import Objective, cross_entropy
from danlu.train.session import train

__all__ = ["Corpus", "Stage"]

_SAMPLE = SamplingParams(max_tokens=64, temperature=0.8, seed=1)


class Corpus(Protocol):
    """Batches without end, and what is told of them; `PackedBatches` is one."""

    documents: int
    tokens_per_epoch: int
    fill: float

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


class Stage:
    """A run that trains on documents: by next-token prediction, or through `fit` by another objective.

    `done` when the same run has ended before.
    """

    def __init__(self, run: Run, config: TrainConfig) -> None:
        self.run, self.config = run, config
        self.model_path = run.model_path
        self.done = run.done

    def __enter__(self) -> Self:
        if self.done:
            told = tr(f"done before: {self.model_path}", f"此前已完成:{self.model_path}")
            console.print(told, tr(f"(to train again, delete {self.run.path})", f"(要重新训练,请删除 {self.run.path})"))
        else:
            choose_precision(
                self.config.precision, choose_device(self.config.device)
            )  # faults are told before the data is read
            self.run.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.done:
            self.run.__exit__(kind, error, trace)

    def train(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        documents: Sequence[Document],
        held_out: Sequence[Document],
        *,
        long: Literal["pieces", "truncate"] = "pieces",
        prompts: Sequence[Prompt] = (),
    ) -> None:
        """Pack, train, validate, and continue `prompts` ten times along the way, to see the model learn.

        `long`: what happens to documents longer than a row (see `danlu.data.pack.flatten`).
        """
        config = self.config
        batches = PackedBatches(
            documents, config.seq_len, config.batch_size, seed=config.seed, long=long, pad_id=tokenizer.pad_id
        )
        valid = valid_batches(held_out, config.seq_len, config.batch_size, long=long, pad_id=tokenizer.pad_id)
        self.train_on(model, tokenizer, batches, valid, prompts=prompts)

    def train_on(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        batches: Corpus | Iterable[Batch],
        valid: Sequence[Batch],
        *,
        prompts: Sequence[Prompt] = (),
    ) -> None:
        """As `train`, on batches that are packed already."""
        asked = [Engine(model, tokenizer).fitting(prompt or [tokenizer.eos_id]) for prompt in prompts]

        def show() -> list[str]:
            return [answer.text for answer in Engine(model, tokenizer).generate(asked, _SAMPLE)]

        self.fit(model, batches, valid, cross_entropy, show if prompts else None)

    def fit(
        self,
        model: LanguageModel,
        batches: Corpus | Iterable[Batch],
        valid: Sequence[Batch],
        objective: Objective,
        show: Callable[[], list[str]] | None = None,
    ) -> None:
        """What every objective has alike: train on `batches`, validate on `valid`, tell what it is and what it took.

        `show` gives texts to look at, ten times along the way; it need not put the model back into training.
        """
        config = self.config
        corpus: Any = batches if hasattr(batches, "tokens_per_epoch") else None
        if config.seq_len > model.context:
            raise ConfigError(
                tr(
                    f"train.seq_len {config.seq_len} exceeds the model's context {model.context}",
                    f"train.seq_len {config.seq_len} 超过模型的上下文 {model.context}",
                ),
                tr("lower it, or raise model.max_position_embeddings", "请调小它,或调大 model.max_position_embeddings"),
            )
        parameters = auto.count_parameters(model)
        self.run.measured["parameters"] = parameters
        if corpus is None:
            what = tr("text is tokenised as it comes", "文本边读边分词")
        else:
            what = tr(
                f"{corpus.tokens_per_epoch:,} tokens in {corpus.documents:,} documents, rows {corpus.fill:.0%} full",
                f"{corpus.documents:,} 篇文档共 {corpus.tokens_per_epoch:,} 个 token,打包填充率 {corpus.fill:.0%}",
            )
            self.run.measured |= {"tokens_per_epoch": corpus.tokens_per_epoch, "fill": round(corpus.fill, 4)}
        console.print(tr(f"{parameters:,} parameters; {what}", f"{parameters:,} 个参数;{what}"))
        self.targets = sum(int((batch["labels"] != -100).sum()) for batch in valid)

        def look(loop: Loop) -> None:
            if show is not None:
                self.run.log(loop.state.step, {"samples": show()})
                model.train()

        steps = steps_of(batches, config)
        hooks = [Every(config.eval_every or max(1, steps // 10), look)] if show else []
        train(self.run, model, batches, objective, config, valid=lambda: valid, hooks=hooks)

    def save(self, model: LanguageModel, tokenizer: Tokenizer, *, parent: ModelFolder | None, **sizes: int) -> Path:
        """Write the model folder. `characters` and `size` (bytes) of the held-out text give losses per unit of text."""
        measured = self.run.measured
        nats = measured.get("val_loss", math.nan) * self.targets
        if sizes and not math.isnan(nats):
            measured["nats_per_character"] = round(nats / sizes["characters"], 4)
            measured["bits_per_byte"] = round(nats / math.log(2) / sizes["size"], 4)
        told: dict[str, Any] = {key: value for key, value in measured.items() if key != "preflight"}
        lineage = Lineage(
            verb=self.run.verb,
            recipe=self.run.config.plain(),
            parent=parent.hash if parent else None,
            run=self.run.path.name,
            measured=told,
        )
        generation = {"eos_token_id": sorted(tokenizer.stop_ids), "pad_token_id": tokenizer.pad_id}
        save_tokenizer = partial(tokenizer.save, model_max_length=model.context)
        auto.save(model, self.model_path, lineage=lineage, save_tokenizer=save_tokenizer, generation=generation)
        console.print(tr(f"model folder: {self.model_path}", f"模型文件夹:{self.model_path}"))
        return self.model_path
