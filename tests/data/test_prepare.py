import json
import subprocess
import sys
import time

import pytest

from danlu.core.errors import ConfigError, DataError
from danlu.core.files import hash_path, sha256_file
from danlu.data.prepare import Config, run
from tests.data.poetry import write_many


def prepare(out, source, **settings):
    return run(Config.parse({"out": str(out), "source": str(source), **settings}))


def rows_of(out):
    return {
        name: [json.loads(line) for line in (out / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("train", "valid", "test")
    }


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:02}.txt").write_text(f"Text number {number % 90}.\r\n", encoding="utf-8")
    return folder


def test_texts_are_cleaned_deduplicated_split_and_described(tmp_path, documents, capsys):
    summary = prepare(tmp_path / "out", documents, valid=0.1, test=5)
    rows = rows_of(tmp_path / "out")
    assert {name: len(found) for name, found in rows.items()} == {"train": 76, "valid": 9, "test": 5}
    everything = [row for found in rows.values() for row in found]
    assert all(set(row) == {"id", "source", "text"} for row in everything)
    assert len({row["id"] for row in everything}) == 90
    assert sorted(row["text"] for row in everything) == sorted(f"Text number {number}." for number in range(90))
    assert [(step["step"], step["rows"]) for step in summary["funnel"]] == [
        ("read", 100),
        ("clean", 100),
        ("exact", 90),
    ]
    assert summary["funnel"][2]["dropped"] == {"duplicate": 10}
    assert json.loads((tmp_path / "out" / "data.json").read_text(encoding="utf-8")) == summary
    for name, described in summary["splits"].items():
        file = tmp_path / "out" / f"{name}.jsonl"
        assert described["sha256"] == sha256_file(file)
        assert described["rows"] == len(rows[name])
    assert "90" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "README.md", "data.html", "data.json", "dropped.jsonl", "test.jsonl", "train.jsonl", "valid.jsonl",
    ]  # fmt: skip
    dropped = [
        json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert dropped[0] == {"id": "texts/90.txt", "step": "exact", "reason": "duplicate", "detail": "texts/00.txt"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "texts"]


def test_same_input_and_settings_give_the_same_bytes(tmp_path, documents):
    prepare(tmp_path / "a", documents)
    prepare(tmp_path / "b", documents)
    assert hash_path(tmp_path / "a") == hash_path(tmp_path / "b")
    prepare(tmp_path / "b", documents, seed=1)  # over the old one
    assert hash_path(tmp_path / "a") != hash_path(tmp_path / "b")


def test_poems_share_neither_line_nor_test_title_across_the_splits(tmp_path):
    source = write_many(tmp_path / "poems", 2000)
    summary = prepare(tmp_path / "out", source, kind="poems", valid=100, test=100)
    rows = rows_of(tmp_path / "out")
    counts = summary["sources"]["poems"]["poems"]
    assert counts["poems"] == 2000
    assert summary["splits"]["test"]["rows"] == summary["splits"]["valid"]["rows"] == 100
    lines = {name: {line for row in found for line in row["lines"]} for name, found in rows.items()}
    titles = {name: {row["title"] for row in found} for name, found in rows.items()}
    assert not lines["train"] & lines["valid"]
    assert not lines["train"] & lines["test"]
    assert not lines["valid"] & lines["test"]
    assert not titles["train"] & titles["test"]
    left_out = summary["funnel"][-1]["dropped"]["too_near_to_test"]
    assert left_out + sum(len(found) for found in rows.values()) == counts["distinct"]
    assert set(rows["train"][0]) == {"id", "source", "text", "messages", "title", "form", "lines", "group"}


def test_max_documents(tmp_path, documents):
    summary = prepare(tmp_path / "out", documents, max_documents=40)
    assert summary["funnel"][0]["rows"] == 40
    assert sum(split["rows"] for split in summary["splits"].values()) == 40
    poems = prepare(tmp_path / "out", write_many(tmp_path / "poems", 200), kind="poems", max_documents=50, test=0)
    assert poems["funnel"][0]["rows"] == 50


def test_few_documents_are_cut_into_chunks(tmp_path):
    (tmp_path / "book.txt").write_text("".join(f"Line {n} of a book.\n" for n in range(900)), encoding="utf-8")
    summary = prepare(tmp_path / "out", tmp_path / "book.txt")
    assert summary["funnel"][-1]["step"] == "chunks"
    assert 30 < summary["funnel"][-1]["rows"] <= 44
    assert all(split["rows"] >= 1 for split in summary["splits"].values())


def test_named_columns_are_kept_under_their_new_names(tmp_path):
    rows = [{"content": f"text {n}", "label": n % 2, "other": n} for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    prepare(tmp_path / "out", tmp_path / "a.jsonl", columns=["text=content", "label"])
    assert all(
        set(row) == {"id", "source", "text", "label"} for found in rows_of(tmp_path / "out").values() for row in found
    )


def test_undecodable_bytes_are_counted_in_the_description(tmp_path, documents, capsys):
    (documents / "zz.txt").write_bytes(b"good \xff\xfe text")
    summary = prepare(tmp_path / "out", documents)
    assert summary["sources"]["texts"]["undecodable_bytes"] == 2
    assert "zz.txt" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\xff\xfe\xff\xfe"])
def test_nothing_to_learn_from_is_an_error_and_leaves_nothing(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError):
        prepare(tmp_path / "out", tmp_path / "a.txt")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "a.txt").read_bytes() == content


def test_a_failure_leaves_the_earlier_result(tmp_path, documents):
    prepare(tmp_path / "out", documents)
    before = hash_path(tmp_path / "out")
    with pytest.raises(DataError, match="nothing is left|没有剩下"):
        prepare(tmp_path / "out", documents, steps=[{"clean": {"min_characters": 1000}}])
    assert hash_path(tmp_path / "out") == before


def test_what_cannot_be_read_is_set_aside_with_its_reason(tmp_path, documents, capsys):
    (documents / "zz.jsonl").write_text('{"text": "good"}\n{"body": 1}\n{', encoding="utf-8")
    summary = prepare(tmp_path / "out", documents)
    assert sum(summary["funnel"][0]["dropped"].values()) == 2
    aside = [
        json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [bad["place"] for bad in aside] == ["texts/zz.jsonl:2", "texts/zz.jsonl:3"]
    assert aside[0]["text"].strip() == '{"body": 1}'
    assert "quarantine.jsonl" in capsys.readouterr().out


def test_a_source_of_which_nothing_can_be_read_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": 1}\n' * 30, encoding="utf-8")
    with pytest.raises(DataError, match="missing_column 30"):
        prepare(tmp_path / "out", tmp_path / "a.jsonl")


def test_a_folder_of_something_else_is_not_replaced(tmp_path, documents):
    with pytest.raises(DataError, match="texts"):
        prepare(documents, documents)
    assert len(list(documents.iterdir())) == 100


def test_missing_source(tmp_path):
    with pytest.raises(DataError, match="absent"):
        prepare(tmp_path / "out", tmp_path / "absent")


def test_settings():
    with pytest.raises(ConfigError, match="split_by"):
        Config.parse({"out": "x", "split_bye": "line"})
    with pytest.raises(ConfigError, match="'near'"):
        Config.parse({"out": "x", "steps": [{"nearr": {}}]})
    with pytest.raises(ConfigError, match="threshold"):
        Config.parse({"out": "x", "steps": [{"near": {"treshold": 0.7}}]})
    named = Config.parse({"out": "x", "steps": ["clean", {"exact": {"fold": True}}]}).named()
    assert [step.name for step in named] == ["clean", "exact"]
    assert json.loads(named[1].settings) == {"fold": True}


@pytest.mark.parametrize("engine", ["pool", "ray"])
def test_processes_and_ray_write_the_same_bytes(tmp_path, documents, engine):
    steps = ["clean", "exact", {"near": {}}, "paragraphs"]
    prepare(tmp_path / "a", documents, steps=steps, workers=1, part_mb=0.001)
    prepare(tmp_path / "b", documents, steps=steps, workers=2, part_mb=0.001, engine=engine)
    assert hash_path(tmp_path / "a") == hash_path(tmp_path / "b")


def test_personal_data_that_is_taken_out_stands_in_no_report(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(30):
        text = f"Write to person{number}@example.com,   please.  \r\n" + "x" * (number % 3)
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    steps = [{"clean": {"min_characters": 37}}, "exact", "personal"]
    summary = prepare(tmp_path / "out", folder, steps=steps)
    assert any(step["examples"] for step in summary["funnel"])
    for file in (tmp_path / "out").iterdir():
        assert "@example.com" not in file.read_text(encoding="utf-8"), file.name
    assert "<EMAIL>" in (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8")


def test_a_set_is_not_written_into_its_own_source(tmp_path, documents):
    with pytest.raises(DataError, match="inside|之中"):
        prepare(documents / "out", documents)


def test_a_wrong_column_is_told_before_all_is_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": 1}\n' * 30_000, encoding="utf-8")
    with pytest.raises(DataError, match="missing_column 10000"):
        prepare(tmp_path / "out", tmp_path / "a.jsonl")


def test_columns_that_rows_have_anyway_are_refused(tmp_path, documents):
    with pytest.raises(ConfigError, match="uid=id"):
        prepare(tmp_path / "out", documents, columns=["text", "id"])


def test_killed_at_any_time_the_same_command_goes_on(tmp_path, documents):
    """A real process, killed; what is there at last is what an undisturbed one makes."""
    prepare(tmp_path / "whole", documents, steps=["clean", "exact"], part_mb=0.0005)
    command = [
        sys.executable, "-m", "danlu", "data", "prepare", "--source", str(documents), "--out", str(tmp_path / "out"),
        "--part-mb", "0.0005", "--workers", "2",
    ]  # fmt: skip
    killed = 0
    for wait in (0.6, 0.9, 1.2, 1.5, 2.0):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(wait)
            killed += process.poll() is None
            process.kill()
    assert killed
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert hash_path(tmp_path / "out") == hash_path(tmp_path / "whole")
    assert not (tmp_path / "out.work").exists()


@pytest.mark.slow
def test_the_poetry_asset(tmp_path):
    """99,998 legible quatrains, as ASSETS.md counts; no component of shared lines is large."""
    from danlu.core.assets import pull

    pull("chinese-poetry")
    summary = prepare(tmp_path / "out", "chinese-poetry", valid=1000, test=1000)
    funnel = summary["sources"]["chinese-poetry"]["poems"]
    assert (funnel["poems"], funnel["quatrains"], funnel["legible"]) == (311_855, 100_852, 99_998)
    assert funnel["distinct"] > 90_000
    assert summary["assets"][0]["licence"] == "MIT"
    rows = rows_of(tmp_path / "out")
    assert (len(rows["valid"]), len(rows["test"])) == (1000, 1000)
    assert not {row["title"] for row in rows["train"]} & {row["title"] for row in rows["test"]}
    assert len({row["title"] for row in rows["test"]}) >= 200
