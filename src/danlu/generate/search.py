"""Which search makes the answers of `danlu generate`, where it is not the engine: beams, or one of the contrastive two."""

from pathlib import Path
from typing import Literal, NamedTuple

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.generate.beam import beam_search
from danlu.generate.choose import Row
from danlu.generate.contrastive import check_alike, contrastive_decoding, contrastive_search
from danlu.generate.engine import Engine, Prompt
from danlu.generate.params import Completion, SamplingParams

__all__ = ["Search"]

_CANDIDATES = 5  # of contrastive search, when top_k does not say
Method = Literal["beams", "amateur", "penalty_alpha"]


class Search(NamedTuple):
    """The settings that pick a search; at their defaults there is none. They are described in `generate.Config`."""

    beams: int = 1
    length_penalty: float = 1.0
    amateur: Path | None = None
    alpha: float = 0.1
    beta: float | None = None
    penalty_alpha: float = 0.0

    def method(self) -> Method | None:
        """The setting that picks one. Raises ConfigError for two, and for what belongs to one that was not picked."""
        asked = [name for name in ("beams", "amateur", "penalty_alpha") if self._set(name)]
        if len(asked) > 1:
            raise ConfigError(
                tr(f"{asked[0]} and {asked[1]} are different searches", f"{asked[0]} 与 {asked[1]} 是不同的搜索方法"),
                tr("take one of them", "请只用其中之一"),
            )
        for name, needs in (("length_penalty", "beams"), ("alpha", "amateur"), ("beta", "amateur")):
            if self._set(name) and needs not in asked:
                raise ConfigError(
                    tr(f"{name} means nothing without {needs}", f"没有 {needs} 时,{name} 没有意义"),
                    tr(f"give {needs} as well, or leave it out", f"请同时给出 {needs},或去掉它"),
                )
        return asked[0] if asked else None  # pyright: ignore[reportReturnType]

    def answers(self, engine: Engine, prompt: Prompt, params: SamplingParams, n: int) -> list[Completion]:
        """`n` answers by the search that was picked, with the engine's model. Raises ConfigError, ContextError."""
        method, ids = self.method(), engine.fitting(prompt)
        model, tokenizer = engine.model, engine.tokenizer
        if method == "beams":
            return self._beams(engine, ids, params, n)
        if method == "amateur":
            assert self.amateur is not None
            other = Engine.open(self.amateur, engine.config)
            check_alike(tokenizer, other.tokenizer)
            params = params.model_copy(update={"n": n if n > 1 else params.n})
            return contrastive_decoding(model, other.model, tokenizer, ids, params, alpha=self.alpha, beta=self.beta)
        if n > 1:
            raise ConfigError(
                tr(f"contrastive search has one answer, not {n}", f"对比搜索只有一份回答,而不是 {n} 份"),
                tr("leave out n", "请去掉 n"),
            )
        top_k = params.top_k or _CANDIDATES
        return [contrastive_search(model, tokenizer, ids, params, penalty_alpha=self.penalty_alpha, top_k=top_k)]

    def _beams(self, engine: Engine, ids: list[int], params: SamplingParams, n: int) -> list[Completion]:
        params.only(("max_tokens", "stop_token_ids", "ignore_eos", "seed"), "beam search", "束搜索")
        if n > self.beams:
            raise ConfigError(
                tr(f"{self.beams} beams do not give {n} answers", f"{self.beams} 个束给不出 {n} 份回答"),
                tr(f"give beams={n} or more", f"请令 beams 不小于 {n}"),
            )
        row = Row.of(params, ids, engine.tokenizer, engine.model.output_weight.shape[0])
        found = beam_search(
            engine.model,
            ids,
            num_beams=self.beams,
            max_tokens=params.max_tokens,
            stop_ids=row.stop_ids,
            length_penalty=self.length_penalty,
        )
        return [Completion(engine.tokenizer.decode(one.ids), one.ids, len(ids), one.reason) for one in found[:n]]

    def _set(self, name: str) -> bool:
        return getattr(self, name) != self._field_defaults[name]
