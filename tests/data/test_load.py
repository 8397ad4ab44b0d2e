import json

import pytest

from danlu.core.errors import DataError
from danlu.data.clean import CleanConfig
from danlu.data.load import FEW, clean_rows, cut_if_few, is_prepared, load_split
from danlu.data.sources import ReadReport


def texts(rows):
    return [row["text"] for row in rows]


def test_raw_documents_are_split_without_overlap_and_always_alike(tmp_path):
    for number in range(60):
        (tmp_path / f"{number:02}.txt").write_text(f"Document {number}.\nIts second line.\n", encoding="utf-8")
    train, valid = load_split(tmp_path, "train"), load_split(tmp_path, "valid")
    assert (len(train), len(valid)) == (57, 3)
    assert not set(texts(train)) & set(texts(valid))
    assert load_split(tmp_path, "valid") == valid
    assert load_split(tmp_path, "valid", seed=1) != valid
    test = load_split(tmp_path, "test", test=0.1)
    rest = load_split(tmp_path, "train", test=0.1) + load_split(tmp_path, "valid", test=0.1)
    assert len(test) == 6
    assert sorted(texts(test + rest)) == sorted(texts(train + valid))


def test_equal_documents_do_not_lie_on_both_sides(tmp_path):
    rows = [json.dumps({"text": f"document {number % 30}"}) for number in range(90)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    train, valid = (texts(load_split(tmp_path, split, valid=5)) for split in ("train", "valid"))
    assert (len(train), len(valid)) == (25, 5)


@pytest.mark.parametrize("line", ["The quick brown fox, number {}, runs.\n", "第{}回里说的是另一件事情，且听下文。\n"])
def test_one_long_text_is_cut_so_that_some_is_held_out(tmp_path, line):
    whole = "".join(line.format(number) for number in range(500))
    (tmp_path / "book.txt").write_text(whole, encoding="utf-8")
    train, valid = texts(load_split(tmp_path, "train")), texts(load_split(tmp_path, "valid"))
    assert FEW < len(train) + len(valid) <= 44
    assert len(valid) == 2
    held = {one for chunk in valid for one in chunk.splitlines()}
    assert not held & {one for chunk in train for one in chunk.splitlines()}
    assert sum(len(chunk.splitlines()) for chunk in train + valid) == 500


def test_a_text_too_small_to_split_says_so(tmp_path):
    (tmp_path / "a.txt").write_text("Too short.", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_split(tmp_path, "train")
    assert caught.value.do


def test_a_folder_with_splits_is_read_as_it_is(tmp_path):
    for split, text in (("train", " a "), ("valid", "b")):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"text": text}), encoding="utf-8")
    assert is_prepared(tmp_path)
    assert load_split(tmp_path, "train") == [{"text": " a "}]
    with pytest.raises(DataError, match="test"):
        load_split(tmp_path, "test")
    with pytest.raises(DataError, match=r"train\.jsonl:1"):
        load_split(tmp_path, "train", columns=["messages"])


def test_raw_sources_have_no_test_split_unless_asked(tmp_path):
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="test"):
        load_split(tmp_path, "test")


def test_chats_are_cleaned_and_never_cut():
    row = {"messages": [{"role": "user", "content": "a\r\nb"}, {"role": "assistant", "content": "c\x00 "}], "tag": 1}
    (clean,) = clean_rows(iter([row]), CleanConfig())
    assert [message["content"] for message in clean["messages"]] == ["a\nb", "c"]
    assert cut_if_few([clean]) == [clean]
    assert row["messages"][0]["content"] == "a\r\nb"


def test_rows_left_empty_and_doubles_are_dropped_and_counted():
    from collections import Counter

    funnel = Counter()
    rows = [{"text": text} for text in ("a", "\x00", "a ", "b")]
    assert texts(clean_rows(iter(rows), CleanConfig(), funnel=funnel)) == ["a", "b"]
    assert funnel == {"documents": 4, "cleaned": 3, "distinct": 2}
    assert texts(clean_rows(iter(rows), CleanConfig(), dedup=False)) == ["a", "a", "b"]
    with pytest.raises(DataError):
        list(clean_rows(iter([{"text": "\x00"}]), CleanConfig()))


def test_undecodable_bytes_are_told_once(tmp_path, capsys):
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_bytes(b"some text %d \xff" % number)
    report = ReadReport()
    rows = load_split(tmp_path, "train", report=report)
    load_split(tmp_path, "valid")
    error = capsys.readouterr().err
    assert report.undecodable_bytes == 30
    assert error.count("00.txt") == 1
    assert "30" in error
    assert not any("\ufffd" in row["text"] for row in rows)
