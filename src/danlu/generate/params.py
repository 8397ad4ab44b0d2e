"""What a request asks for, and what it gets."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.generate.guided import Guided

__all__ = ["Completion", "Event", "FinishReason", "SamplingParams", "TokenLogprob"]

FinishReason = Literal["stop", "length", "cancelled", "error"]
_Text = Annotated[str, Field(min_length=1)]


class SamplingParams(Config):
    """How to choose the next token, and when to stop. Names and meanings are those of vLLM's SamplingParams."""

    max_tokens: PositiveInt = doc(256, "most tokens to generate", "最多生成的 token 数")
    temperature: NonNegativeFloat = doc(
        0.8, "0: always the best token; 1: as the model thinks", "0:总取最可能的;1:按模型的分布"
    )
    top_k: NonNegativeInt = doc(0, "only the k best; 0: all", "只取最可能的 k 个;0 表示不限")
    top_p: float = doc(1.0, "only the fewest whose mass reaches p", "只取累积概率达到 p 的最少几个", gt=0, le=1)
    min_p: float = doc(
        0.0, "only those at least p times as likely as the best", "只取概率不低于最佳者 p 倍的", ge=0, le=1
    )
    typical_p: float = doc(
        1.0,
        "only those of mass p whose surprise is nearest to the expected",
        "只取意外程度最接近期望、概率之和达到 p 的",
        gt=0,
        le=1,
    )
    repetition_penalty: PositiveFloat = doc(
        1.0, "above 1: what was seen is less likely", "大于 1 时,出现过的更不容易再出现"
    )
    presence_penalty: float = doc(
        0.0, "above 0: what was generated is less likely", "大于 0 时,已生成过的更不容易再出现", ge=-2, le=2
    )
    frequency_penalty: float = doc(
        0.0, "above 0: less likely with each time it was generated", "大于 0 时,每生成一次就更不容易再出现", ge=-2, le=2
    )
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = doc(
        {}, "added to the logits of these token ids", "加到这些 token id 的 logit 上的值"
    )
    bad_words: tuple[_Text, ...] = doc((), "texts whose tokens are never written", "永不写出其 token 的文本")
    stop: tuple[_Text, ...] = doc((), "texts that end the answer (not part of it)", "遇到这些文本即停止(不含在结果中)")
    stop_token_ids: tuple[NonNegativeInt, ...] = doc(
        (), "token ids that end the answer (not part of it)", "遇到这些 token id 即停止(不含在结果中)"
    )
    ignore_eos: bool = doc(False, "go on at the model's own end tokens", "遇到模型自己的结束 token 也不停")
    min_tokens: NonNegativeInt = doc(0, "fewest tokens before it may stop", "停止之前至少生成的 token 数")
    n: PositiveInt = doc(1, "answers to one prompt", "一个提示词生成几份回答")
    best_of: PositiveInt | None = doc(
        None, "generate so many, give the n most likely", "生成这么多份,给出其中最可能的 n 份"
    )
    logprobs: NonNegativeInt | None = doc(
        None, "tell each token's log-probability and so many alternatives", "给出每个 token 的对数概率与这么多个备选"
    )
    adapter: str | None = doc(None, "name of a loaded LoRA adapter to use", "所用 LoRA 适配器的名称")
    guided: Guided | None = doc(None, "what an answer must look like", "回答必须符合的形式")
    seed: int | None = doc(None, "the same seed gives the same text", "同一种子得到同样的文本", ge=-(2**63), lt=2**63)

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _ids_as_in_json(cls, value: Any) -> Any:
        """JSON and flags know only names for keys; from Python they may be numbers."""
        if not isinstance(value, dict):
            return value
        told = {str(key): bias for key, bias in value.items()}
        for key in told:
            if not (key.isascii() and key.isdigit()):
                _refuse(f"'{key}' is no token id", f"“{key}”不是 token id")
        return told

    @property
    def biases(self) -> dict[int, float]:
        """`logit_bias` by token id."""
        return {int(token): bias for token, bias in self.logit_bias.items()}

    def only(self, used: Collection[str], en: str, zh: str) -> None:
        """Raise ConfigError when a setting differs from its default that is not `used` by the method called `en`."""
        for name, setting in type(self).model_fields.items():
            if name not in used and getattr(self, name) != setting.default:
                raise ConfigError(
                    tr(f"{en} does not use the setting '{name}'", f"{zh}不使用设置“{name}”"),
                    tr(f"leave it out; used: {', '.join(used)}", f"请去掉它;可用的有:{', '.join(used)}"),
                )

    @field_validator("min_tokens")
    @classmethod
    def _room_for_the_fewest(cls, value: int, told: ValidationInfo) -> int:
        most = told.data.get("max_tokens", value)
        return value if value <= most else _refuse(f"is above max_tokens, {most}", f"大于 max_tokens({most})")

    @field_validator("n", "best_of")
    @classmethod
    def _answers_that_differ(cls, value: int | None, told: ValidationInfo) -> int | None:
        if (value or 1) > 1 and told.data.get("temperature") == 0:
            _refuse(
                "several answers at temperature 0 are all the same: raise temperature, or ask for one",
                "temperature 为 0 时,多份回答完全相同:请提高 temperature,或只要一份",
            )
        least = told.data.get("n", 1)
        if told.field_name == "best_of" and value is not None and value < least:
            _refuse(f"is below n, {least}: there are not so many to give", f"小于 n({least}):没有那么多份可给")
        return value


def _refuse(en: str, zh: str) -> NoReturn:
    raise PydanticCustomError("settings", "{told}", {"told": tr(en, zh)})


class TokenLogprob(NamedTuple):
    """A token's log-probability by the model itself (no temperature, penalty or filter), and the likeliest ones'."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # (id, logprob), the likeliest first


@dataclass
class Completion:
    """A finished answer. `logprobs` and their sum are there when they were asked for, one for each of `ids`."""

    text: str
    ids: list[int]
    prompt_tokens: int
    finish_reason: FinishReason
    seconds: float = 0.0
    logprobs: list[TokenLogprob] | None = None
    cumulative_logprob: float | None = None
    error: DataError | None = None  # why it could not go on, with finish_reason "error"


@dataclass
class Event:
    """What one step brought to one request: some text, and the completion when it was the last."""

    request: int
    text: str
    completion: Completion | None = field(default=None)
