"""From a folder, prepared or raw, to the rows of one split."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.data.clean import CleanConfig, clean_text
from danlu.data.dedup import Deduplicator, content_hash
from danlu.data.progress import track
from danlu.data.sources import ReadReport, Row, SplitBy, read_rows
from danlu.data.split import SPLITS, assign, chunk_texts, split_size

__all__ = ["FEW", "PIECES", "clean_rows", "cut_if_few", "is_prepared", "load_split", "warn_undecodable"]

FEW = 20  # with fewer documents than this, texts are cut so that some of them can be held out
PIECES = 40


def load_split(
    path: Path | str | Sequence[Path | str],
    split: Literal["train", "valid", "test"],
    *,
    seed: int = 0,
    valid: float = 0.05,
    test: float = 0.0,
    columns: Sequence[str] | None = None,
    split_by: SplitBy = "file",
    encoding: str = "utf-8",
    clean: CleanConfig | None = None,
    report: ReadReport | None = None,
) -> list[Row]:
    """The rows of one split.

    A folder written by `danlu data prepare` (or any with train.jsonl and valid.jsonl) is read as it is. Anything
    else that `read_rows` reads is cleaned, freed of exact duplicates and split on the fly: `valid` and `test` are
    fractions below 1 or counts; the same arguments give the same split. Fewer than `FEW` documents of plain
    text are cut into about `PIECES` chunks of lines first, so that something can be held out.

    Raises DataError for an empty corpus, one too small to split, or a split that does not exist.
    """
    report = ReadReport() if report is None else report
    if isinstance(path, str | Path) and is_prepared(Path(path)):
        file = Path(path) / f"{split}.jsonl"
        if not file.exists():
            raise DataError(
                tr(f"{path} has no {split}.jsonl", f"{path} 中没有 {split}.jsonl"),
                tr("prepare it again: danlu data prepare", "请重新准备:danlu data prepare"),
            )
        return list(read_rows(file, columns=columns, report=report))
    if split == "test" and not test:
        raise DataError(
            tr(f"{path} has no test split", f"{path} 没有测试集"),
            tr(
                "make one: danlu data prepare --source ... --out ...",
                "请先划分:danlu data prepare --source ... --out ...",
            ),
        )
    rows = read_rows(path, columns=columns, split=split_by, encoding=encoding, report=report)
    rows = cut_if_few(list(clean_rows(rows, clean or CleanConfig())))
    if split == "train":
        warn_undecodable(report)
    sizes = [split_size(wish, len(rows)) for wish in (valid, test)]
    chosen = assign([content_hash(_content(row)) for row in rows], valid=sizes[0], test=sizes[1], seed=seed)
    return [row for row, side in zip(rows, chosen.side, strict=True) if side == SPLITS.index(split)]


def is_prepared(path: Path) -> bool:
    """True for a folder that holds its splits as files."""
    return (path / "train.jsonl").is_file() and (path / "valid.jsonl").is_file()


def clean_rows(
    rows: Iterator[Row], config: CleanConfig, *, dedup: bool = True, funnel: Counter[str] | None = None
) -> Iterator[Row]:
    """Clean `text` and the contents of `messages`; drop rows left empty and exact duplicates; count in `funnel`.

    Raises DataError when nothing is left.
    """
    funnel = Counter() if funnel is None else funnel
    seen, start = Deduplicator(), funnel["distinct"]
    for row in track(rows, None, tr("reading documents", "读取文档")):
        funnel["documents"] += 1
        cleaned = _clean(row, config)
        if not _content(cleaned):
            continue
        funnel["cleaned"] += 1
        if not dedup or seen.is_new(_content(cleaned)):
            funnel["distinct"] += 1
            yield cleaned
    if funnel["distinct"] == start:
        raise DataError(
            tr("nothing is left of the documents after cleaning", "清洗之后没有剩下任何文档"),
            tr("are they text in the encoding named by --encoding?", "它们是文本吗?编码是否与 --encoding 一致?"),
        )


def cut_if_few(rows: list[Row]) -> list[Row]:
    """Fewer than `FEW` rows of text alone, cut into about `PIECES` chunks of lines; other rows as they are."""
    if len(rows) >= FEW or any(set(row) - {"id", "source", "part"} != {"text"} for row in rows):
        return rows
    chunks = (chunk.strip("\n") for chunk in chunk_texts([row["text"] for row in rows], PIECES))
    told = {name: rows[0][name] for name in ("source",) if rows and name in rows[0]}
    named = "id" in rows[0] if rows else False
    cut = [chunk for chunk in chunks if chunk.strip()]
    return [({"id": f"chunk/{number}"} if named else {}) | told | {"text": text} for number, text in enumerate(cut)]


def warn_undecodable(report: ReadReport) -> None:
    """Tell on standard error how many bytes could not be decoded, and where."""
    if report.undecodable_bytes:
        count = report.undecodable_bytes
        lines = [
            tr(
                f"warning: {count} bytes could not be decoded and were left out:",
                f"注意:有 {count} 个字节无法解码,已略去:",
            ),
            *report.places,
        ]
        print("\n  ".join(lines), file=sys.stderr)


def _clean(row: Row, config: CleanConfig) -> Row:
    row = dict(row)
    if "text" in row:
        row["text"] = clean_text(row["text"], config)
    if "messages" in row:
        row["messages"] = [_clean_message(message, config) for message in row["messages"]]
    return row


def _clean_message(message: Any, config: CleanConfig) -> Any:
    if isinstance(message, dict) and isinstance(message.get("content"), str):
        return message | {"content": clean_text(message["content"], config)}
    return message


def _content(row: Row) -> str:
    """What makes a row that row: its text, else what is said in it."""
    if "text" in row:
        return row["text"]
    return "\n".join(
        str(message.get("content", "")) for message in row.get("messages", []) if isinstance(message, dict)
    )
