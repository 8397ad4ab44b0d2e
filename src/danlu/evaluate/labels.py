"""Tokens as people can read them, and the tokens of a text as a model is given them."""

from collections.abc import Sequence
from functools import lru_cache

from danlu.core.errors import ContextError, DataError
from danlu.core.i18n import tr
from danlu.tokenizer import Tokenizer
from danlu.tokenizer.bpe import byte_alphabet

__all__ = ["label", "labels", "tokens_of"]

_VISIBLE = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"})
_PART = "¹²³⁴"  # of a character that several tokens spell


def label(tokenizer: Tokenizer, number: int) -> str:
    """One token: its text with blanks made visible; bytes that are no whole character as <E6 98>."""
    text = tokenizer.decode([number], skip_special=False)
    if text and "\ufffd" not in text:
        return text.translate(_VISIBLE)
    name = tokenizer.backend.id_to_token(number) or f"<{number}>"
    known = _bytes_by_character()
    if name and all(character in known for character in name):
        return f"<{' '.join(f'{known[character]:02X}' for character in name)}>"
    return name.translate(_VISIBLE)


@lru_cache(maxsize=1)
def _bytes_by_character() -> dict[str, int]:
    return {character: byte for byte, character in byte_alphabet().items()}


def labels(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """`label` of each token of a text; where several spell one character, that character and which part it is: 春¹ 春²."""
    found: list[str] = []
    while len(found) < len(ids):
        at = len(found)
        size = next((size for size in range(1, 5) if _whole(tokenizer, ids[at : at + size])), 0)
        if size > 1:
            text = tokenizer.decode(ids[at : at + size], skip_special=False).translate(_VISIBLE)
            found += [text + part for part in _PART[:size]]
        else:
            found.append(label(tokenizer, ids[at]))
    return found


def _whole(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    return "\ufffd" not in tokenizer.decode(ids, skip_special=False)


def tokens_of(tokenizer: Tokenizer, text: str, context: int, *, framed: bool = False, least: int = 1) -> list[int]:
    """The ids of `text`: framed as an encoder reads it, else behind the token that begins a document, if there is one.

    Raises DataError for a text of fewer than `least` tokens, ContextError for one beyond the model's context.
    """
    if framed:
        ids = tokenizer.encode_framed([text])[0].ids
    else:
        begins = tokenizer.bos_id is not None and tokenizer.config.get("add_bos_token")
        ids = [*([tokenizer.bos_id] if tokenizer.bos_id is not None and begins else []), *tokenizer.encode(text)]
    if len(ids) < least:
        raise DataError(
            tr(f"the text has {len(ids)} tokens, {least} are needed", f"文本只有 {len(ids)} 个 token,需要 {least} 个"),
            tr("give a longer text", "请给出更长的文本"),
        )
    if len(ids) > context:
        raise ContextError(
            tr(
                f"the text has {len(ids)} tokens, the model's context is {context}",
                f"文本有 {len(ids)} 个 token,模型上下文为 {context}",
            ),
            tr("give a shorter text", "请缩短文本"),
        )
    return ids
