"""Text that grows token by token: what a server sends while the model is still writing."""

from collections.abc import Collection

import tokenizers

__all__ = ["StreamDecoder"]

_UNFINISHED = "\ufffd"


class StreamDecoder:
    """Turns ids into text as they come; never half a character, and all of it joined is what `decode` gives.

    `skip` are ids that give no text (special tokens), `held` those of single bytes, whose meaning depends on the
    bytes that follow.
    """

    def __init__(self, backend: tokenizers.Tokenizer, skip: Collection[int], held: Collection[int]) -> None:
        self._backend, self._skip, self._held = backend, skip, held
        # Some decoders treat the first token apart (the space before a word), so the last tokens that gave text
        # stay in the window, and what they gave is cut off.
        self._window: list[int] = []
        self._given = 0  # tokens of the window that have given their text

    def push(self, token: int) -> str:
        """The text which `token` completes; empty while a character or a run of bytes is unfinished."""
        if token in self._skip or self._backend.id_to_token(token) is None:  # a model may have spare ids
            return ""
        self._window.append(token)
        if token in self._held:
            return ""
        text = self._pending()
        return "" if text.endswith(_UNFINISHED) else self._give(text)

    def flush(self) -> str:
        """What is left at the end; bytes that never became a character come out as U+FFFD."""
        return self._give(self._pending())

    def _decode(self, ids: list[int]) -> str:
        return self._backend.decode(ids, skip_special_tokens=False) if ids else ""

    def _pending(self) -> str:
        return self._decode(self._window)[len(self._decode(self._window[: self._given])) :]

    def _give(self, text: str) -> str:
        if text:
            self._window = self._window[self._given :]
            self._given = len(self._window)
        return text
