import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import DataError, StorageError
from danlu.data import flow as module
from danlu.data.flow import Flow, compile_passes
from danlu.data.sources import Row
from danlu.data.work import Named

CLEAN = Named("clean", "{}")
EXACT = Named("exact", "{}")


@dataclass
class Texts:
    """Texts as a flow reads them; None stands for what cannot be read."""

    texts: list[str | None]
    time: int = 0
    bad: list[tuple[str, str, bytes]] = field(default_factory=list)

    def files(self) -> dict[str, Any]:
        return {"memory": [len(self.texts), self.time]}

    def rows(self) -> Iterator[Row]:
        for number, text in enumerate(self.texts):
            if text is None:
                self.bad.append((f"memory:{number}", "unreadable", b"\xff"))
            else:
                yield {"id": str(number), "source": "memory", "text": text}

    def summary(self) -> dict[str, Any]:
        return {"rows": len(self.texts)}


def some_texts(count: int = 300) -> list[str | None]:
    choose = random.Random(1)
    return [None if choose.random() < 0.03 else f"text {choose.randrange(200)} \r\n" for _ in range(count)]


def outcome(flow: Flow, reading: Texts) -> tuple[Any, ...]:
    parts = flow.run(reading)
    rows = [row for number in range(flow.count) for row in parts.read(number)]
    funnel = [{**step, "examples": None} for step in flow.funnel()]
    return rows, funnel, list(flow.lost()), list(flow.bad())


def test_passes_are_as_long_as_they_can_be():
    steps = [CLEAN, CLEAN, EXACT, EXACT, CLEAN]
    walks = [(walk.settle, len(walk.rows), walk.keys) for walk in compile_passes(steps)]
    assert walks == [(None, 2, EXACT), (EXACT, 0, EXACT), (EXACT, 1, None)]
    assert compile_passes([]) == []


def test_every_row_is_kept_dropped_or_set_aside(tmp_path):
    texts = some_texts()
    rows, funnel, lost, bad = outcome(Flow(tmp_path / "w", [CLEAN, EXACT], {}, part_bytes=2000), Texts(texts))
    good = [text for text in texts if text is not None]
    assert len(rows) == len(set(good))
    assert [row["text"] for row in rows] == list(dict.fromkeys(text.strip() for text in good))
    assert len(rows) + len(lost) == len(good)
    assert len(bad) == len(texts) - len(good)
    assert orjson.loads(bad[0])["base64"] == "/w=="
    assert [step["step"] for step in funnel] == ["read", "clean", "exact"]
    assert funnel[0]["dropped"] == {"unreadable": len(bad)}
    assert {row["id"] for row in rows} | {row["id"] for row in lost} == {
        str(number) for number, text in enumerate(texts) if text is not None
    }


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c", "d ", "e" * 50, "", None]), min_size=1, max_size=30), st.integers(1, 400)
)
def test_the_size_of_parts_makes_no_difference(texts, part_bytes):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        whole = outcome(Flow(Path(folder) / "a", [CLEAN, EXACT], {}), Texts(list(texts)))
        pieces = outcome(Flow(Path(folder) / "b", [CLEAN, EXACT], {}, part_bytes=part_bytes), Texts(list(texts)))
    assert whole[0] == pieces[0]
    assert sorted(map(str, whole[2])) == sorted(map(str, pieces[2]))
    assert [(step["rows"], step["dropped"]) for step in whole[1]] == [
        (step["rows"], step["dropped"]) for step in pieces[1]
    ]


@pytest.mark.parametrize("engine", ["pool", "ray"])
def test_several_processes_and_ray_give_the_same_bytes(tmp_path, engine):
    alone = outcome(Flow(tmp_path / "a", [CLEAN, EXACT], {}, part_bytes=3000), Texts(some_texts()))
    flow = Flow(tmp_path / "b", [CLEAN, EXACT], {}, workers=2, engine=engine, part_bytes=3000)
    assert outcome(flow, Texts(some_texts())) == alone


@pytest.mark.parametrize("stop", range(0, 60, 3))
def test_stopped_anywhere_it_goes_on_without_losing_or_doubling_a_row(tmp_path, monkeypatch, stop):
    """Each file that is put in its place is a point at which to stop."""
    expected = outcome(Flow(tmp_path / "a", [CLEAN, EXACT], {}, part_bytes=3000), Texts(some_texts()))
    whole, count = os.replace, 0

    def stopping(source, target):
        nonlocal count
        count += 1
        if count == stop:
            raise KeyboardInterrupt
        whole(source, target)

    monkeypatch.setattr(os, "replace", stopping)
    flow = Flow(tmp_path / "b", [CLEAN, EXACT], {}, part_bytes=3000)
    try:
        outcome(flow, Texts(some_texts()))
    except KeyboardInterrupt:
        monkeypatch.setattr(os, "replace", whole)
    else:
        assert count < stop or stop == 0
    again = Flow(tmp_path / "b", [CLEAN, EXACT], {}, part_bytes=3000)
    assert outcome(again, Texts(some_texts())) == expected


def interrupted(tmp_path, texts):
    """A flow that stopped after it had read some parts."""
    flow = Flow(tmp_path / "w", [CLEAN, EXACT], {"a": 1}, part_bytes=3000)
    flow._plan(texts)
    numbers = flow._read(texts)
    for _ in range(2):
        next(numbers)
    numbers.close()
    return flow


def test_a_source_that_changed_is_named(tmp_path):
    interrupted(tmp_path, Texts(some_texts()))
    with pytest.raises(DataError, match="memory"):
        Flow(tmp_path / "w", [CLEAN, EXACT], {"a": 1}, part_bytes=3000).run(Texts(some_texts(), time=5))
    texts = some_texts()
    texts[3] = "another"
    with pytest.raises(DataError, match="part 0|第 0 部分"):
        Flow(tmp_path / "w", [CLEAN, EXACT], {"a": 1}, part_bytes=3000).run(Texts(texts))


def test_another_recipe_begins_anew(tmp_path):
    interrupted(tmp_path, Texts(some_texts()))
    rows, *_ = outcome(Flow(tmp_path / "w", [EXACT], {"a": 2}), Texts(["x ", "y"], time=1))
    assert [row["text"] for row in rows] == ["x ", "y"]


def test_a_folder_of_somebody_else_is_not_removed(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "chapter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="not danlu|不是 danlu"):
        Flow(tmp_path / "w", [CLEAN], {}).run(Texts(["a"]))
    assert (tmp_path / "w" / "chapter.txt").read_text(encoding="utf-8") == "mine"


def test_what_another_recipe_left_behind_is_not_taken_for_done(tmp_path):
    """A worker that outlived its parent may still write into the folder."""
    first = Flow(tmp_path / "w", [CLEAN], {"a": 1})
    first.run(Texts(["a ", "b "]))
    stale = (tmp_path / "w" / "01" / "00000.json").read_bytes()
    second = Flow(tmp_path / "w", [EXACT], {"a": 2})
    second._plan(Texts(["a ", "b "]))
    (tmp_path / "w" / "01").mkdir()
    (tmp_path / "w" / "01" / "00000.json").write_bytes(stale)
    (tmp_path / "w" / "01" / "00000.jsonl").write_bytes(b"")
    rows, *_ = outcome(second, Texts(["a ", "b "]))
    assert [row["text"] for row in rows] == ["a ", "b "]


def test_standard_input_is_read_anew(tmp_path):
    class Piped(Texts):
        def files(self):
            return {"stdin": None}

    flow = Flow(tmp_path / "w", [CLEAN], {})
    flow._plan(Piped(["old"]))
    list(flow._read(Piped(["old"])))
    rows, *_ = outcome(Flow(tmp_path / "w", [CLEAN], {}), Piped(["new"]))
    assert [row["text"] for row in rows] == ["new"]


def test_a_part_cut_short_is_named(tmp_path):
    flow = interrupted(tmp_path, Texts(some_texts()))
    file = flow.parts(0).rows_file(1)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"00001\.jsonl"):
        Flow(tmp_path / "w", [CLEAN, EXACT], {"a": 1}, part_bytes=3000).run(Texts(some_texts()))


def test_a_full_disk_is_named_and_the_same_command_goes_on(tmp_path, monkeypatch):
    expected = outcome(Flow(tmp_path / "a", [CLEAN, EXACT], {}, part_bytes=3000), Texts(some_texts()))
    whole = os.replace
    left = [9]

    def full(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="disk is full|磁盘已满"):
        Flow(tmp_path / "b", [CLEAN, EXACT], {}, part_bytes=3000).run(Texts(some_texts()))
    monkeypatch.setattr(os, "replace", whole)
    assert outcome(Flow(tmp_path / "b", [CLEAN, EXACT], {}, part_bytes=3000), Texts(some_texts())) == expected


def test_parts_that_are_no_longer_needed_are_removed(tmp_path):
    flow = Flow(tmp_path / "w", [CLEAN, EXACT], {}, part_bytes=3000)
    flow.run(Texts(some_texts()))
    left = {file.parent.name for file in flow.folder.rglob("*.jsonl") if ".bad." not in file.name}
    assert left == {"02"}
    assert module.PART_BYTES > 1_000_000
