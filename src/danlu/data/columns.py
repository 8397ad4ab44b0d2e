"""Tables of Arrow: parquet files, and data sets in Hugging Face's form, streamed."""

import base64
import io
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from typing import Any

from danlu.core.errors import DataError, MissingExtraError
from danlu.core.i18n import tr
from danlu.data.content import TABLE_LIMIT, Content, FoundRow
from danlu.data.faults import Fault

__all__ = ["plain", "read_hub", "read_parquet"]

_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 256  # few, because one value of a dictionary page may stand in every row


def read_parquet(content: Content) -> Iterator[FoundRow]:
    """The rows of a parquet file; one within an archive is held in memory and may be 16 times the limit of a row.

    Raises Fault for a damaged file, MissingExtraError without pyarrow.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "data") from None
    source = content.path or io.BytesIO(content.whole(TABLE_LIMIT))
    number = 0
    try:
        with parquet.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False, memory_map=False) as file:
            told = file.metadata
            sizes = [told.row_group(group).total_byte_size for group in range(told.num_row_groups)]
            each = max(1, sum(sizes) // max(1, told.num_rows))
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // each))
            for batch in file.iter_batches(batch_size=rows, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {name: plain(value) for name, value in row.items()}, b""
    except (ArrowException, OSError, ValueError, OverflowError, UnicodeDecodeError) as error:
        raise Fault("damaged", str(error)[:300]) from None


def plain(value: Any) -> Any:
    """The value as JSON has it: times in ISO form, bytes in base64, decimals and spans as texts, NaN and infinity as None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return _as_text(value)


def _as_text(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def read_hub(spec: str) -> Iterator[FoundRow]:
    """The rows of 'org/name', of 'org/name@config', of 'org/name:split' (default: train), or of a local folder of data files.

    They are streamed by `datasets`, which runs no code of the data set. Raises DataError when that fails, MissingExtraError
    without `datasets`.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "hub") from None
    place, _, split = spec.partition(":")
    place, _, config = place.partition("@")
    try:
        found: Any = datasets.load_dataset(place, config or None, split=split or "train", streaming=True)
        names = [
            name for name, kind in (found.features or {}).items() if isinstance(kind, datasets.Image | datasets.Audio)
        ]
        for number, row in enumerate(found.remove_columns(names) if names else found, 1):
            yield number, {str(name): plain(value) for name, value in row.items()}, b""
    except Exception as error:  # whatever the network, the hub and a dozen file readers can raise
        raise DataError(
            tr(f"cannot read hf:{spec}: {type(error).__name__}: {error}", f"无法读取 hf:{spec}:{type(error).__name__}:{error}"),
            tr("does it exist, and is there a network? a split is named as hf:org/name:split",
               "它存在吗?网络通吗?划分写作 hf:org/name:split"),
        ) from None  # fmt: skip
