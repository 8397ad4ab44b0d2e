"""Answers that follow a JSON schema, a regular expression, a list of choices or a grammar: a mask for every token.

The masks are llguidance's: small, without dependencies, fast to compile, and of the libraries compared the only one
whose answers all kept their schemas (xgrammar needs triton and compiles slowly; outlines-core ignores bounds).

An answer is sampled from the model's distribution without the tokens after which it could no longer follow the
constraint (Willard and Louf 2023, "Efficient Guided Generation for Large Language Models"). The constraint is a
grammar over bytes: however a text is cut into tokens, the model chooses.

Regular expressions are written as for Rust: no look-around, no references back; `\\d` is 0 to 9, `\\w` a letter of any
script. JSON schemas are those of draft 2020-12 as far as llguidance knows them; what it does not know is refused, never
ignored. Properties come in the schema's order. Names of additional properties may repeat, and the last one counts,
which a `minProperties` beyond the required ones does not foresee.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from danlu.core.config import Config, doc
from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.generate.grammar import Vocabulary
from danlu.tokenizer import Tokenizer

__all__ = ["Guide", "Guided", "MaskWorker", "PendingMask"]

_KINDS = ("json_schema", "regex", "choice", "grammar", "json_object")
_ALL = -1  # a word of a bitmask with every bit set


class Guided(Config):
    """What an answer must look like: exactly one of these."""

    json_schema: dict[str, Any] | str | None = doc(None, "a JSON schema, or its text", "JSON Schema,或其文本")
    regex: str | None = doc(None, "a regular expression that the whole answer matches", "整个回答必须匹配的正则表达式")
    choice: tuple[str, ...] | None = doc(None, "the answer is one of these texts", "回答是这些文本之一", min_length=1)
    grammar: str | None = doc(None, "a grammar: Lark's notation, or GBNF ('::=')", "语法:Lark 写法,或 GBNF(“::=”)")
    json_object: bool = doc(False, "any JSON object", "任意 JSON 对象")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = self._given()
        if len(given) != 1:
            names, found = ", ".join(_KINDS), ", ".join(given) or "-"
            message = tr(f"give exactly one of {names}; found {found}", f"请在 {names} 中恰好给出一项;现有 {found}")
            raise PydanticCustomError("guided", message)  # pyright: ignore[reportArgumentType]
        return self

    def _given(self) -> list[str]:
        return [name for name in _KINDS if getattr(self, name) not in (None, False)]

    @property
    def kind(self) -> str:
        """Which of them was given."""
        return self._given()[0]


# lesson: guide
class Guide:
    """One answer under way, and which tokens may come next.

    Raises ConfigError, naming the place, for a constraint that is malformed, not supported, or that this tokenizer
    cannot begin to spell; MissingExtraError without llguidance. Guides of the same tokenizer and constraint share
    what was compiled. Not to be advanced while a MaskWorker computes its mask.
    """

    def __init__(self, guided: Guided, tokenizer: Tokenizer) -> None:
        self.vocabulary, self.guided = Vocabulary.of(tokenizer), guided
        self.error: DataError | None = None
        self._matcher = self._begin()
        self._ids: list[int] = []
        self._stopped = False

    @property
    def complete(self) -> bool:
        """What was said satisfies the constraint; a stop token may come."""
        return self.error is None and self._matcher.is_accepting()

    @property
    def finished(self) -> bool:
        """Nothing but a stop token may come, or it has come: the answer can end without another forward pass."""
        return self._stopped or self._matcher.is_stopped()

    def allowed(self) -> Tensor:
        """Which tokens may come next. bool [V], V the tokenizer's vocabulary.

        Raises DataError where this vocabulary cannot spell any continuation.
        """
        row = np.empty((1, self.vocabulary.words), np.int32)
        self.fill(row[0])
        if self.error:
            raise self.error
        return _unpack(torch.from_numpy(row), self.vocabulary.size)[0]

    def fill(self, row: NDArray[np.int32]) -> None:
        """Write the mask into `row`, int32 [ceil(V / 32)], contiguous: bit i % 32 of word i // 32 is token i.

        Where no token may come, `error` is set and only stop tokens are allowed, so that the rest of a batch goes on.
        """
        if not self._stopped and self.error is None:
            self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)  # without the GIL
            if not self._matcher.is_error():
                return
            self.error = self._dead_end()
        row[:] = self.vocabulary.only_stops

    def advance(self, token_id: int) -> None:
        """Say a token.

        Raises DataError for one that may not come; the guide then stands where it stood, unless `error` is set.
        """
        if not self._try(token_id):
            if self.error:
                raise self.error
            token, said = self.vocabulary.spell([token_id]), self._said()
            raise DataError(
                tr(
                    f"token {token_id} {token!r} breaks the constraint after {said!r}",
                    f"在 {said!r} 之后,token {token_id} {token!r} 不符合约束",
                )
            )

    def rollback(self, tokens: int) -> None:
        """Take the last `tokens` tokens back, a stop token included, and the error that they led to."""
        if not 0 <= tokens <= len(self._ids):
            raise ValueError(f"cannot take back {tokens} of {len(self._ids)} tokens")
        seen = tokens - (self._stopped and tokens > 0)  # the matcher never sees a stop token
        self._stopped = self._stopped and tokens == 0
        del self._ids[len(self._ids) - tokens :]
        if self.error:  # a matcher that met a dead end has to begin again
            self.error, self._matcher = None, self._begin()
            self._matcher.consume_tokens(self._ids)
        elif seen:
            self._matcher.rollback(seen)

    # end lesson

    def fill_draft(self, rows: NDArray[np.int32], draft: Sequence[int]) -> None:
        """Masks before each token of a draft and after its last. rows: int32 [len(draft) + 1, ceil(V / 32)].

        The guide stays where it is. Rows behind a token that may not come, or behind a stop token, allow
        everything: such a token is refused or ends the answer, so nobody looks.
        """
        rows[1:] = _ALL
        self.fill(rows[0])
        if self.error:
            return
        said = 0
        for row, token in zip(rows[1:], draft, strict=True):
            if not self._try(token):
                break
            said += 1
            if self._stopped:
                break
            self.fill(row)
        self.rollback(said)

    def _begin(self) -> Any:
        return self.vocabulary.matcher(self.guided.kind, getattr(self.guided, self.guided.kind))

    def _try(self, token_id: int) -> bool:
        if self._stopped or self.error or not 0 <= token_id < self.vocabulary.size:
            return False
        if token_id in self.vocabulary.stop_ids:
            self._stopped = self._matcher.is_accepting()
            if not self._stopped:
                return False
        elif self._matcher.try_consume_tokens([token_id]) != 1:
            if self._matcher.is_error():  # a limit of the matcher, not of the constraint
                self.error = self._dead_end()
            return False
        self._ids.append(token_id)
        return True

    def _said(self) -> str:
        return self.vocabulary.spell(self._ids[-20:])

    def _dead_end(self) -> DataError:
        reason, said = self._matcher.get_error().partition("\n")[0], self._said()
        if "NoExtension" not in reason:
            return DataError(tr(f"the constraint is too complex: {reason}", f"约束过于复杂:{reason}"))
        return DataError(
            tr(
                f"no token of this vocabulary continues {said!r} under the constraint",
                f"在约束之下,词表中没有 token 能接在 {said!r} 之后",
            ),
            tr(
                "use a tokenizer with byte tokens, or ask for other characters",
                "请使用带字节 token 的分词器,或改用别的字符",
            ),
        )


class PendingMask:
    """Masks that are being computed."""

    def __init__(self, future: "Future[Tensor]", width: int, device: torch.device) -> None:
        self._future, self._width, self._device = future, width, device

    def result(self) -> Tensor:
        """Wait for them. bool [rows, width] on the device, False where a token may not come.

        Look at the guides' `error` afterwards: a row whose guide has one allows stop tokens only.
        """
        found = self._future.result()
        # To an accelerator only the bits travel, an eighth of the mask, and are unpacked in the caller's stream.
        return found if found.dtype == torch.bool else _unpack(found.to(self._device), self._width)


class MaskWorker:
    """Computes masks in a thread of its own, so that they are ready when the forward pass is.

    width: the logits' last dimension; ids beyond the tokenizer's vocabulary are never allowed in a guided row.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.width, self.device = width, torch.device(device)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="danlu-masks")

    def start(self, guides: Sequence[Guide | None], drafts: Sequence[Sequence[int]] | None = None) -> PendingMask:
        """Begin the masks of all rows; None allows everything. The guides may not be advanced before `result`.

        With `drafts`, each guide has `len(draft) + 1` rows, one after another: before each of the draft's tokens and
        after the last (see `Guide.fill_draft`).
        """
        own = [()] * len(guides) if drafts is None else list(drafts)
        return PendingMask(self._pool.submit(self._compute, list(guides), own), self.width, self.device)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    def _compute(self, guides: Sequence[Guide | None], drafts: Sequence[Sequence[int]]) -> Tensor:
        bits = np.zeros((sum(len(draft) + 1 for draft in drafts), -(-self.width // 32)), np.int32)
        first = 0
        for guide, draft in zip(guides, drafts, strict=True):
            rows = bits[first : first + len(draft) + 1]
            first += len(rows)
            if guide is None:
                rows[:] = _ALL
                continue
            own = np.empty((len(rows), guide.vocabulary.words), np.int32)
            guide.fill_draft(own, draft)
            words = min(own.shape[1], rows.shape[1])
            rows[:, :words] = own[:, :words]
        packed = torch.from_numpy(bits)
        return _unpack(packed, self.width) if self.device.type == "cpu" else packed


def _unpack(bits: Tensor, width: int) -> Tensor:
    """int32 [R, words] -> bool [R, width]."""
    parts = bits.view(torch.uint8)
    if bits.device.type == "cpu":  # NumPy has it built in, ten times as fast
        return torch.from_numpy(np.unpackbits(parts.numpy(), axis=1, bitorder="little").view(bool)[:, :width])
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return ((parts[:, :, None] >> places) & 1).bool().flatten(1)[:, :width]
