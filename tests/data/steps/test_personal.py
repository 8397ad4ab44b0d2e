"""The step masks, writes pseudonyms or drops, in texts and in messages."""

from collections import Counter
from pathlib import Path

import pytest

from danlu.core.errors import ConfigError, DataError
from danlu.data.step import Drop, make_step, step_config

TEXT = "联系 li@example.com 或 13912345678 。\n\tli@example.com\n"


def apply(row: dict, **settings):
    tally: Counter[str] = Counter()
    step = make_step("personal", step_config("personal", settings))
    return step.apply({"id": "1", "source": "s", **row}, tally), tally


def test_mask():
    row, tally = apply({"text": TEXT})
    assert row == {"id": "1", "source": "s", "text": "联系 <EMAIL> 或 <PHONE> 。\n\t<EMAIL>\n"}
    assert tally == {"email": 2, "phone": 1}


def test_the_same_row_when_there_is_nothing():
    step = make_step("personal", step_config("personal", {}))
    row = {"id": "1", "source": "s", "text": "白日依山尽，黄河入海流。"}
    assert step.apply(row, Counter()) is row


def test_messages():
    messages = [
        {"role": "user", "content": "I am li@example.com"},
        {"role": "assistant", "content": [{"type": "text", "text": "13912345678!"}]},
    ]
    row, tally = apply({"messages": messages})
    assert row["messages"][0]["content"] == "I am <EMAIL>"
    assert row["messages"][1]["content"] == [{"type": "text", "text": "<PHONE>!"}]
    assert messages[0]["content"] == "I am li@example.com"
    assert tally == {"email": 1, "phone": 1}


def test_only_some_kinds():
    row, tally = apply({"text": TEXT}, kinds=["phone"])
    assert row["text"] == TEXT.replace("13912345678", "<PHONE>")
    assert tally == {"phone": 1}


def test_drop():
    dropped, tally = apply({"text": TEXT}, action="drop")
    assert dropped == Drop("personal_data", "email phone")
    assert tally == {"email": 2, "phone": 1}


def test_pseudonym(tmp_path: Path):
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef\n")
    row, _ = apply({"text": TEXT}, action="pseudonym", key_file=str(key))
    first, second = (part.split(">")[0] for part in row["text"].split("<EMAIL:")[1:])
    assert first == second
    assert len(first) == 8


def test_pseudonym_needs_a_secret(tmp_path: Path):
    with pytest.raises(ConfigError, match="secret|密钥"):
        apply({"text": ""}, action="pseudonym")
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(ConfigError, match="3"):
        apply({"text": ""}, action="pseudonym", key_file=str(tmp_path / "short"))
    with pytest.raises(DataError, match="absent"):
        apply({"text": ""}, action="pseudonym", key_file=str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="key_file"):
        apply({"text": ""}, key_file=str(tmp_path / "short"))
