import json
import os

import pytest

from danlu.core.errors import ConfigError, DataError
from danlu.data.reading import SourceOptions, Sources
from tests.data.poetry import write_many

DEFAULT = SourceOptions(kind="auto", split_by="file", encoding="auto")


@pytest.fixture
def places(tmp_path):
    (tmp_path / "a" / "inner").mkdir(parents=True)
    (tmp_path / "a" / "one.txt").write_text("one", encoding="utf-8")
    (tmp_path / "a" / "inner" / "two.txt").write_bytes(
        "第二篇文档,用另一种编码写成,够长才能认得出来。".encode("gb18030")
    )
    (tmp_path / "b.jsonl").write_text('{"content": "three", "other": 1}\n{"x": 2}\n', encoding="utf-8")
    return [tmp_path / "a", tmp_path / "b.jsonl"]


def test_each_source_is_read_in_its_own_way_and_rows_say_where_they_come_from(places):
    about = {str(places[1]): SourceOptions(columns=["text=content"])}
    sources = Sources(places, about, DEFAULT)
    rows = list(sources.rows())
    assert [(row["id"], row["source"]) for row in rows] == [
        ("a/inner/two.txt", "a"),
        ("a/one.txt", "a"),
        ("b.jsonl/b.jsonl:1", "b.jsonl"),
    ]
    assert rows[0]["text"].startswith("第二篇")
    assert rows[2] == {"id": "b.jsonl/b.jsonl:1", "source": "b.jsonl", "text": "three"}
    ((place, reason, raw),) = sources.bad
    assert (place, reason) == ("b.jsonl/b.jsonl:2", "missing_column")
    assert json.loads(raw) == {"x": 2}
    told = sources.summary()
    assert told["a"]["files"] == 2
    assert told["a"]["encodings"].get("gb18030") == 1
    assert told["b.jsonl"]["bad"] == {"missing_column": 1}


def test_what_is_told_of_the_sources_is_the_same_for_a_copy_of_them(places, tmp_path):
    def told():
        sources = Sources(places[:1], {}, DEFAULT)
        list(sources.rows())
        return sources.summary(), sources.files()

    before, files = told()
    os.utime(places[0] / "one.txt", ns=(1, 1))
    again, changed = told()
    assert again == before
    assert changed != files


def test_names_that_clash_are_told_apart(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder / "same").mkdir(parents=True)
        (tmp_path / folder / "same" / "a.txt").write_text(folder, encoding="utf-8")
    sources = Sources([tmp_path / "x" / "same", tmp_path / "y" / "same"], {}, DEFAULT)
    assert [row["id"] for row in sources.rows()] == ["same/a.txt", "same+/a.txt"]


def test_poems_are_read_as_poems(tmp_path):
    folder = write_many(tmp_path / "poems", 40)
    sources = Sources([folder], {}, SourceOptions(kind="poems"))
    rows = list(sources.rows())
    assert {"id", "source", "text", "messages", "title", "group"} <= set(rows[0])
    assert sources.summary()["poems"]["poems"]["poems"] == 40


def test_so_many_and_no_more(places):
    assert len(list(Sources(places, {}, SourceOptions(columns=None), max_documents=1).rows())) == 1


def test_options_for_what_is_no_source_are_an_error(places):
    with pytest.raises(ConfigError, match="nowhere"):
        Sources(places, {"nowhere": SourceOptions()}, DEFAULT)


def test_a_source_of_which_nothing_can_be_read_is_named(places):
    with pytest.raises(DataError, match=r"b\.jsonl"):
        list(Sources(places[1:], {}, DEFAULT).rows())
