"""What an augmenter is, and how rows become more rows: deterministic for each row, labels kept, never the row itself again.

A variant has all columns of its row but for what was rewritten; `augmented` names the method, `id` is its own, and
`group` is that of its row, so that whoever splits the rows later keeps them on one side. Augment the training side
only: a variant of a test row in training is a leak.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.sources import Row

__all__ = ["IMAGE_METHODS", "TEXT_METHODS", "Augmenter", "ImageFolders", "augment_rows", "variants"]

# The verb's methods and the file in augmenters/ that each is in.
TEXT_METHODS = {
    "synonyms": "synonyms",
    "swap": "edits",
    "delete": "edits",
    "insert": "edits",
    "homophones": "lookalikes",
    "shapes": "lookalikes",
    "typos": "lookalikes",
    "back-translation": "back_translation",
}
IMAGE_METHODS = dict.fromkeys(("rotate", "crop", "flip", "colour", "cutout"), "images")
_BATCH = 256  # rows given to an augmenter at a time

Content = tuple[Any, ...]  # what an augmenter rewrites of a row: its text, its user's messages, or its image


class ImageFolders(NamedTuple):
    """Where images are: rows name them relative to `base`; new ones are written into `made`, called `name` under `base`."""

    base: Path
    made: Path
    name: str


class Augmenter(Protocol):
    """Rewrites contents of one kind: texts, or images as uint8 arrays [H, W, C].

    `augment` returns one result for each content, drawing all its chance from the content's own generator; what it
    cannot change it returns as it is. `tries` is how often to ask again, with other numbers, when a result is no new
    one (1 for those that draw none).
    """

    @property
    def kind(self) -> Literal["text", "image"]: ...

    @property
    def tries(self) -> int: ...

    def augment(self, contents: Sequence[Any], randoms: Sequence[Random]) -> list[Any]: ...


def variants(
    contents: Sequence[Content], ids: Sequence[str], augmenter: Augmenter, method: str, copies: int, seed: int
) -> list[list[Content]]:
    """Up to `copies` results for each content, all different from it and from each other.

    They depend on (`seed`, `method`, id, content) alone, not on the other contents nor on their order.
    """
    found: list[list[Content]] = [[] for _ in contents]
    seen = [{_key(content)} for content in contents]
    for attempt in range(augmenter.tries):
        open_ = [(place, copy) for place in range(len(ids)) for copy in range(copies - len(found[place]))]
        parts, randoms = [], []
        for place, copy in open_:
            random = Random(f"{seed}/{method}/{ids[place]}/{attempt}/{copy}")
            parts += contents[place]
            randoms += [random] * len(contents[place])
        results = iter(augmenter.augment(parts, randoms) if parts else [])
        for place, _ in open_:
            result = tuple(islice(results, len(contents[place])))
            if (key := _key(result)) not in seen[place]:
                seen[place].add(key)
                found[place].append(result)
    return found


def augment_rows(
    rows: Iterable[Row],
    augmenters: Mapping[str, Augmenter],
    *,
    copies: int = 1,
    seed: int = 0,
    keep: bool = True,
    tally: Counter[str] | None = None,
    folders: ImageFolders | None = None,
) -> Iterator[Row]:
    """Each row (unless not `keep`), then up to `copies` variants of it by each augmenter, by name of method.

    Text methods rewrite `text`, or what the user says in `messages`; image methods read the file `image`
    and write a PNG as `folders` say. `tally` counts `rows`, each method's variants, and, as METHOD_unchanged,
    those that were asked for and would have been their row again. Raises DataError for a row without what a method needs.
    """
    tally = Counter() if tally is None else tally
    stream = iter(rows)
    while batch := list(islice(stream, _BATCH)):
        batch = [row if "id" in row else row | {"id": _hash(repr(row))} for row in batch]
        made: list[list[Row]] = [[] for _ in batch]
        for method, augmenter in augmenters.items():
            read, write = _IMAGES if augmenter.kind == "image" else _TEXTS
            contents = [read(row, folders) for row in batch]
            results = variants(contents, [str(row["id"]) for row in batch], augmenter, method, copies, seed)
            for row, rows_made, new in zip(batch, made, results, strict=True):
                for copy, content in enumerate(new):
                    named = {"id": f"{row['id']}-{method}-{copy}", "group": row.get("group", row["id"])}
                    rows_made.append(write(row | named | {"augmented": method}, content, folders))
                tally[method] += len(new)
                tally[f"{method}_unchanged"] += copies - len(new)
        for row, rows_made in zip(batch, made, strict=True):
            tally["rows"] += 1
            if keep:
                yield {"group": row["id"]} | row
            yield from rows_made


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _key(content: Content) -> Any:
    return tuple((part.shape, part.tobytes()) if isinstance(part, np.ndarray) else part for part in content)


def _read_text(row: Row, _: Any) -> Content:
    if isinstance(row.get("text"), str):
        return (row["text"],)
    if isinstance(row.get("messages"), list):
        return tuple(row["messages"][place]["content"] for place in _said(row))
    raise DataError(
        tr(f"row {row['id']} has no text to rewrite", f"第 {row['id']} 行没有可改写的文本"),
        tr("text methods need 'text' or 'messages'", "文本类方法需要 text 或 messages"),
    )


def _write_text(row: Row, content: Content, _: Any) -> Row:
    if isinstance(row.get("text"), str):
        return row | {"text": content[0]}
    messages = list(row["messages"])
    for place, text in zip(_said(row), content, strict=True):
        messages[place] = messages[place] | {"content": text}
    return row | {"messages": messages}


def _said(row: Row) -> list[int]:
    """Where the user's words stand in the messages: the answers are labels and stay."""
    return [
        place
        for place, message in enumerate(row["messages"])
        if isinstance(message, dict) and message.get("role") == "user" and isinstance(message.get("content"), str)
    ]


def _read_image(row: Row, folders: ImageFolders | None) -> Content:
    from danlu.data.augmenters.images import load

    if not isinstance(row.get("image"), str) or folders is None:
        raise DataError(
            tr(f"row {row['id']} names no image", f"第 {row['id']} 行没有图像"),
            tr("image methods need 'image', the path of a file", "图像类方法需要 image：图像文件的路径"),
        )
    return (load(folders.base / row["image"]),)


def _write_image(row: Row, content: Content, folders: ImageFolders | None) -> Row:
    from danlu.data.augmenters.images import save

    assert folders is not None
    file = f"{_hash(str(row['id']))}.png"
    save(content[0], folders.made / file)
    return row | {"image": f"{folders.name}/{file}"}


_Pair = tuple[Callable[[Row, Any], Content], Callable[[Row, Content, Any], Row]]
_TEXTS: _Pair = (_read_text, _write_text)
_IMAGES: _Pair = (_read_image, _write_image)
