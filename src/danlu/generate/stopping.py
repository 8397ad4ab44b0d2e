"""When an answer ends, and what of it may be shown: stop tokens, stop strings across token borders, length."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from danlu.generate.params import FinishReason
from danlu.tokenizer.stream import StreamDecoder

__all__ = ["Answer", "Step"]


class Step(NamedTuple):
    """What a token brought: text that can be shown now; why the answer ends, if it does; is the token part of it?"""

    text: str
    reason: FinishReason | None
    keep: bool


class Answer:
    """The text of an answer that grows by tokens.

    `stop`: strings that end it and are not part of it. No text is shown while it may be the beginning of one. What
    ends first counts, as if the text came character by character: token borders make no difference.
    stop_ids: tokens that end it and are not part of it. min_tokens: before so many tokens neither can.
    """

    def __init__(
        self,
        decoder: StreamDecoder,
        stop: Iterable[str] = (),
        stop_ids: Collection[int] = (),
        min_tokens: int = 0,
    ) -> None:
        self._decoder, self._stop, self._stop_ids = decoder, tuple(stop), frozenset(stop_ids)
        self._early = min_tokens  # tokens still to come before anything may end it
        self._floor = 0  # a stop string that ends within so many characters came too early
        self._told = 0  # characters already shown
        self.text = ""

    def push(self, token: int, *, last: bool = False) -> Step:
        """Add a token; `last`: there is no room for another."""
        reason: FinishReason | None = None
        keep = token not in self._stop_ids or self._early > 0
        if not keep:
            reason = "stop"
            self.text += self._decoder.flush()
        else:
            self.text += self._decoder.push(token)
            if last:
                reason = "length"
                self.text += self._decoder.flush()
            self._early -= 1
            if self._early >= 0:
                self._floor = len(self.text)
        cut = self._cut()
        if cut is not None:
            reason, self.text = "stop", self.text[:cut]
        shown = len(self.text) if reason else len(self.text) - _held_back(self.text, self._stop)
        piece, self._told = self.text[self._told : shown], max(shown, self._told)
        return Step(piece, reason, keep)

    def finish(self) -> str:
        """What is still held back, when the answer ends for another reason (cancelled)."""
        self.text += self._decoder.flush()
        piece, self._told = self.text[self._told :], len(self.text)
        return piece

    def _cut(self) -> int | None:
        """Where the stop string begins that ends first (of several that end there, the longest)."""
        ends = []
        for stop in self._stop:
            at = self.text.find(stop, max(self._told, self._floor - len(stop) + 1))
            if at >= 0:
                ends.append((at + len(stop), at))
        return min(ends)[1] if ends else None


def _held_back(text: str, stops: Iterable[str]) -> int:
    """Length of the longest end of `text` that may yet grow into a stop string."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
