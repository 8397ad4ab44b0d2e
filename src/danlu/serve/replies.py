"""What clients get back: OpenAI's objects, whole or in chunks."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from danlu.generate.params import Completion

__all__ = ["Reply", "usage_of"]


def usage_of(prompts: Sequence[Sequence[int]], completions: Sequence[Completion]) -> dict[str, int]:
    """Tokens of the prompts, each counted once however many answers it got, and of all answers."""
    asked = sum(map(len, prompts))
    made = sum(len(completion.ids) for completion in completions)
    return {"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made}


@dataclass(frozen=True)
class Reply:
    """The frame around one answer: a chat's (`chat`) or a plain text's.

    With `usage`, chunks carry the field `usage`: null in all but the last, as `stream_options.include_usage` wants it.
    """

    chat: bool
    model: str
    fingerprint: str
    usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    number: str = field(default_factory=lambda: uuid.uuid4().hex)

    def _frame(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": ("chatcmpl-" if self.chat else "cmpl-") + self.number,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
            **more,
        }

    def whole(self, completions: Sequence[Completion], usage: dict[str, int]) -> dict[str, Any]:
        """The answer in one piece; one choice for each completion."""
        choices = []
        for index, done in enumerate(completions):
            message = {"role": "assistant", "content": done.text, "refusal": None}
            content = {"message": message} if self.chat else {"text": done.text}
            choices.append({"index": index, **content, "logprobs": None, "finish_reason": done.finish_reason})
        return self._frame("chat.completion" if self.chat else "text_completion", choices, usage=usage)

    def opening(self, index: int) -> list[dict[str, Any]]:
        """A chat's stream begins each choice with its role; a text's with nothing."""
        return [self._chunk(index, {"role": "assistant", "content": "", "refusal": None})] if self.chat else []

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A chunk of text."""
        return self._chunk(index, {"content": text} if self.chat else text)

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        """The chunk that ends a choice."""
        return self._chunk(index, {} if self.chat else "", reason)

    def counted(self, usage: dict[str, int]) -> dict[str, Any]:
        """The last chunk, when usage was asked for."""
        return self._frame(self._chunk_kind, [], usage=usage)

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _chunk(self, index: int, content: Any, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta" if self.chat else "text": content, "logprobs": None, "finish_reason": reason}
        return self._frame(self._chunk_kind, [choice], **({"usage": None} if self.usage else {}))
