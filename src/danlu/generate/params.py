"""What a request asks for, and what it gets."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from danlu.core.config import Config, doc

__all__ = ["Completion", "Event", "SamplingParams"]

FinishReason = Literal["stop", "length", "cancelled"]


class SamplingParams(Config):
    """How to choose the next token, and when to stop."""

    max_tokens: PositiveInt = doc(256, "most tokens to generate", "最多生成的 token 数")
    temperature: NonNegativeFloat = doc(
        0.8, "0: always the best token; 1: as the model thinks", "0:总取最可能的;1:按模型的分布"
    )
    top_k: NonNegativeInt = doc(0, "only the k best; 0: all", "只取最可能的 k 个;0 表示不限")
    top_p: float = doc(1.0, "only the fewest whose mass reaches p", "只取累积概率达到 p 的最少几个", gt=0, le=1)
    min_p: float = doc(
        0.0, "only those at least p times as likely as the best", "只取概率不低于最佳者 p 倍的", ge=0, le=1
    )
    repetition_penalty: PositiveFloat = doc(
        1.0, "above 1: what was seen is less likely", "大于 1 时,出现过的更不容易再出现"
    )
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = doc(
        (), "texts that end the answer (not part of it)", "遇到这些文本即停止(不含在结果中)"
    )
    seed: int | None = doc(None, "the same seed gives the same text", "同一种子得到同样的文本")


@dataclass
class Completion:
    """A finished answer."""

    text: str
    ids: list[int]
    prompt_tokens: int
    finish_reason: FinishReason
    seconds: float = 0.0


@dataclass
class Event:
    """What one step brought to one request: some text, and the completion when it was the last."""

    request: int
    text: str
    completion: Completion | None = field(default=None)
