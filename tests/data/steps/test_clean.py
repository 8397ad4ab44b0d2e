from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.clean import CleanConfig
from danlu.data.step import Drop, make_step, step_config
from danlu.data.steps.clean import Config, Step


def row(text: str) -> dict:
    return {"id": "1", "source": "s", "text": text}


def test_cleans_the_text_and_keeps_what_is_clean():
    step, tally = Step(Config()), Counter()
    clean = row("你好，世界。")
    assert step.apply(clean, tally) is clean
    assert step.apply(row("e\u0301\r\nb \x00"), tally) == row("é\nb")
    assert tally == {"changed": 1}


@pytest.mark.parametrize("text", ["", "  \n\t", "\u200b", "\ufffd\ufffda"])
def test_drops_what_is_empty(text: str):
    assert step_drop(row(text)) == Drop("empty")


def step_drop(given_row: dict) -> object:
    return Step(Config()).apply(given_row, Counter())


def test_min_characters_holds_for_all_messages_together():
    chat = {
        "id": "1",
        "source": "s",
        "messages": [{"role": "user", "content": "早 "}, {"role": "assistant", "content": "早上好"}],
    }
    kept = Step(CleanConfig(min_characters=5)).apply(chat, Counter())
    assert isinstance(kept, dict)
    assert [message["content"] for message in kept["messages"]] == ["早", "早上好"]
    assert chat["messages"][0]["content"] == "早 ", "the row given must not change"
    assert Step(CleanConfig(min_characters=6)).apply(chat, Counter()) == Drop("empty")


def test_a_message_left_empty_drops_the_row():
    chat = {
        "id": "1",
        "source": "s",
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "\u200b"}],
    }
    assert step_drop(chat) == Drop("empty")


def test_parts_of_a_message_are_cleaned():
    parts = [{"type": "text", "text": "a\x00"}, {"type": "image", "url": "x"}]
    kept = step_drop({"id": "1", "source": "s", "messages": [{"role": "user", "content": parts}]})
    assert isinstance(kept, dict)
    assert kept["messages"][0]["content"] == [{"type": "text", "text": "a"}, {"type": "image", "url": "x"}]


def test_is_a_step_by_name_with_the_options_of_clean_config():
    step = make_step("clean", step_config("clean", {"unicode": "NFKC"}))
    assert step.apply(row("ｘ"), Counter()) == row("x")  # pyright: ignore[reportAttributeAccessIssue]


@settings(deadline=None)
@given(st.text())
def test_never_fails_and_is_idempotent(text: str):
    step = Step(Config())
    once = step.apply(row(text), Counter())
    if isinstance(once, dict):
        assert step.apply(once, Counter()) is once
