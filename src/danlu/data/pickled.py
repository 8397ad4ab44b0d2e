"""Tables that lie in Python's pickle format, read without unpickling: only texts, numbers and plain containers are understood.

`pickletools.genops` tells the instructions; the few that build plain values are followed here, and any other (those that
import, call or build objects among them) is refused. So nothing in the file can run.
"""

import math
import pickletools
from collections.abc import Callable, Iterator
from typing import Any

from danlu.data.faults import Fault

__all__ = ["read_pickle"]

_CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
    **{"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict},
}
_VALUES = {
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_MARK = object()


def read_pickle(data: bytes) -> Iterator[dict[str, Any]]:
    """The rows of a table: a list of dictionaries, or columns, as a dictionary or a sequence of lists of one length.

    Columns without names are called '0', '1'... Values are texts, numbers, None or lists of those. Raises Fault
    `bad_table` for anything else.
    """
    table = _Machine().run(data)
    if isinstance(table, list) and table and all(isinstance(row, dict) for row in table):
        rows = iter(table)
    else:
        columns = (
            table if isinstance(table, dict) else dict(enumerate(table)) if isinstance(table, list | tuple) else {}
        )
        lists = list(columns.values())
        if not lists or not all(isinstance(one, list | tuple) and len(one) == len(lists[0]) for one in lists):
            raise Fault("bad_table", "neither rows nor columns")
        rows = (dict(zip(columns, cells, strict=True)) for cells in zip(*lists, strict=True))
    for row in rows:
        yield {str(name): _plain(value) for name, value in row.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    if isinstance(value, list | tuple) and depth < 3:
        if len(value) > 100_000:
            raise Fault("bad_table", "a list within a row is too long")
        return [_plain(part, depth + 1) for part in value]
    if isinstance(value, dict | list | tuple):
        raise Fault("bad_table", "nested")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class _Machine:
    """The stack and the memo of a pickle, for plain values."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        try:
            for code, value, _ in pickletools.genops(data):
                if code.name == "STOP":
                    return self._stack.pop()
                self._step(code.name, value)
        except Fault:
            raise
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
            raise Fault("bad_table", f"{type(error).__name__}: {error}"[:200]) from None
        raise Fault("bad_table", "it does not end")

    def _step(self, name: str, value: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            if isinstance(value, str) and not value.isascii():
                value = value.encode("utf-8", "replace").decode()  # genops lets lone surrogates through
            if isinstance(value, int) and value.bit_length() > 64:
                raise ValueError("a number of more than 64 bits")
            stack.append(value)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUTS:
            self._memo[int(value)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _GETS:
            stack.append(self._memo[int(value)])
        elif name not in ("PROTO", "FRAME"):
            self._container(name)

    def _container(self, name: str) -> None:
        stack = self._stack
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "APPEND":
            item = stack.pop()
            self._top(list).append(item)
        elif name == "SETITEM":
            item, key = stack.pop(), stack.pop()
            self._top(dict)[key] = item
        elif name in ("APPENDS", "SETITEMS", "TUPLE", "LIST", "DICT"):
            items = self._since_mark()
            if name == "APPENDS":
                self._top(list).extend(items)
            elif name == "SETITEMS":
                self._top(dict).update(zip(items[::2], items[1::2], strict=True))
            else:
                made = dict(zip(items[::2], items[1::2], strict=True)) if name == "DICT" else items
                stack.append(tuple(items) if name == "TUPLE" else made)
        else:
            raise Fault("bad_table", f"it wants to {name}")

    def _since_mark(self) -> list[Any]:
        at = next(at for at in range(len(self._stack) - 1, -2, -1) if at < 0 or self._stack[at] is _MARK)
        if at < 0:
            raise IndexError("no mark")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise TypeError(f"no {kind.__name__} on the stack")
        return self._stack[-1]
