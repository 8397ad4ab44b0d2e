"""What the steps that rewrite text share: going through a row, scripts, half surrogate pairs."""

import re
from collections.abc import Callable
from typing import Any

from danlu.data.sources import Row
from danlu.data.step import content

__all__ = ["HAN", "HANGUL", "KANA", "emptied", "encodable", "is_code", "rewrite"]

# The inside of a character class: unified ideographs with extension A, 〇, compatibility ideographs, planes 2 and 3.
HAN = "\u3400-\u4dbf\u4e00-\u9fff\u3007\uf900-\ufaff\U00020000-\U000323af"
KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
HANGUL = "\u1100-\u11ff\uac00-\ud7a3"

_SURROGATE = re.compile("[\ud800-\udfff]")


def rewrite(row: Row, change: Callable[[str], str]) -> Row:
    """The row with its text, or every content of its messages, changed; the same object when nothing changed.

    A content is a string or a list of parts of which some are `{"type": "text", "text": ...}`.
    """
    if "text" in row:
        text = change(row["text"])
        row = row if text == row["text"] else {**row, "text": text}
    messages = row.get("messages")
    if not isinstance(messages, list):
        return row
    changed = [_message(message, change) for message in messages]
    return row if all(new is old for new, old in zip(changed, messages, strict=True)) else {**row, "messages": changed}


def _message(message: Any, change: Callable[[str], str]) -> Any:
    said = message.get("content") if isinstance(message, dict) else None
    if isinstance(said, str):
        new: Any = change(said)
    elif isinstance(said, list):
        new = [_part(part, change) for part in said]
    else:
        return message
    return message if new == said else {**message, "content": new}


def _part(part: Any, change: Callable[[str], str]) -> Any:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return {**part, "text": change(part["text"])}
    return part


def is_code(row: Row) -> bool:
    """Whether the language step called the row program code, in which prose has no rules."""
    return row.get("lang") == "code"


def encodable(text: str) -> str:
    """The text with half surrogate pairs replaced one for one by U+FFFD, so that positions stay; mostly the text itself."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def emptied(before: Row, after: Row) -> bool:
    """Whether the rewriting left nothing: of the text, or of a message that said something."""
    if after is before or "text" in before:
        return not content(after).strip()
    pairs = zip(before["messages"], after["messages"], strict=True)
    return any(old is not new and not content({"messages": [new]}).strip() for old, new in pairs)
