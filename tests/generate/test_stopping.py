"""Where an answer ends; the reference looks at the whole text, character by character."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.generate.stopping import Answer, Step
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer


class Spelling:
    """A decoder whose tokens are any texts: a token is a place in `pieces`."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def push(self, token: int) -> str:
        return self.pieces[token]

    def flush(self) -> str:
        return ""


def written(answer: Answer, tokens: list[int]) -> tuple[list[str], Step]:
    """The pieces shown until it ends, or until the last token, and the last step."""
    shown = []
    for number, token in enumerate(tokens):
        step = answer.push(token, last=number + 1 == len(tokens))
        shown.append(step.text)
        if step.reason:
            return shown, step
    raise AssertionError("it did not end")


def first_stop(text: str, stops: list[str]) -> int | None:
    """Where the text is cut when it comes character by character."""
    for end in range(len(text) + 1):
        found = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if found:
            return min(found)
    return None


@settings(max_examples=400, deadline=None)
@given(
    pieces=st.lists(st.text("ab山", max_size=4), min_size=1, max_size=12),
    stops=st.lists(st.text("ab山", min_size=1, max_size=4), max_size=3),
)
def test_token_borders_make_no_difference(pieces: list[str], stops: list[str]):
    text = "".join(pieces)
    answer = Answer(Spelling(pieces), stops)  # pyright: ignore[reportArgumentType]
    shown, step = written(answer, list(range(len(pieces))))
    cut = first_stop(text, stops)
    assert answer.text == (text if cut is None else text[:cut])
    assert "".join(shown) == answer.text
    assert step.reason == ("length" if cut is None else "stop")
    so_far = ""
    for number, piece in enumerate(shown[:-1]):  # what was shown early never had to be taken back
        so_far += piece
        read = "".join(pieces[: number + 1])
        assert read.startswith(so_far)
        assert len(read) - len(so_far) < max(map(len, stops), default=1)


@pytest.fixture(scope="module")
def by_bytes() -> Tokenizer:
    """Chinese characters are three tokens each."""
    return train_tokenizer(["abc"], TokenizerConfig(kind="bpe", vocab_size=270))


@pytest.mark.parametrize("stop", ["山", "。\n", "水，山", "ab"])
def test_a_stop_string_in_bytes_is_found_when_its_last_byte_comes(by_bytes: Tokenizer, stop: str):
    ids = by_bytes.encode(f"春水{stop}后来")
    answer = Answer(by_bytes.stream_decoder(), [stop])
    steps = []
    for token in ids:
        steps.append(answer.push(token))
        if steps[-1].reason:
            break
    assert len(steps) == len(by_bytes.encode(f"春水{stop}"))
    assert (answer.text, steps[-1].reason) == ("春水", "stop")
    assert [step.text for step in steps if step.text] == ["春", "水"]
    assert all(step.keep for step in steps)


def test_half_a_character_is_never_shown_and_comes_out_at_the_end(by_bytes: Tokenizer):
    half = by_bytes.encode("山")[:2]
    answer = Answer(by_bytes.stream_decoder())
    assert answer.push(half[0]) == ("", None, True)
    step = answer.push(half[1], last=True)
    assert (step.reason, step.text) == ("length", answer.text)
    assert set(answer.text) == {"\ufffd"}


def test_a_beginning_that_does_not_go_on_is_shown_after_all():
    answer = Answer(Spelling(["ab", "c", "d"]), ["abcx"])  # pyright: ignore[reportArgumentType]
    assert [answer.push(token).text for token in range(3)] == ["", "", "abcd"]


def test_what_was_held_back_is_shown_when_it_ends_otherwise():
    pieces = ["x", "ab", ""]
    for end in ("length", "stop", "cancelled"):
        answer = Answer(Spelling(pieces), ["abc"], stop_ids=[2])  # pyright: ignore[reportArgumentType]
        assert answer.push(0).text == "x"
        if end == "length":
            assert answer.push(1, last=True) == ("ab", "length", True)
            continue
        assert answer.push(1).text == ""
        assert end == "cancelled" or answer.push(2) == ("ab", "stop", False)
        assert answer.finish() == ("ab" if end == "cancelled" else "")
        assert answer.text == "xab"


def test_a_stop_token_is_no_part_of_the_answer(tokenizer: Tokenizer):
    ids = tokenizer.encode("春山")
    answer = Answer(tokenizer.stream_decoder(), stop_ids=[*tokenizer.stop_ids, ids[1]])
    assert answer.push(ids[0]) == ("春", None, True)
    assert answer.push(ids[1]) == ("", "stop", False)
    assert answer.text == "春"


def test_nothing_ends_it_before_min_tokens():
    def ends_at(pieces: list[str], fewest: int, **wish) -> tuple[int, str]:
        answer = Answer(Spelling(pieces), min_tokens=fewest, **wish)  # pyright: ignore[reportArgumentType]
        shown, _ = written(answer, list(range(len(pieces))))
        return len(shown), answer.text

    five = ["a", "b", "a", "b", "c"]
    assert ends_at(five, 0, stop=["ab"]) == (2, "")
    assert ends_at(five, 2, stop=["ab"]) == (4, "ab")  # the first came too early
    assert ends_at(five, 1, stop=["ab"]) == (2, "")  # it ends with the second token
    assert ends_at(five, 4, stop=["ab"]) == (5, "ababc")
    assert ends_at(five, 3, stop=["bab"]) == (4, "a")  # it begins early and ends late enough
    assert ends_at(["a", "", "b"], 0, stop_ids=[1]) == (2, "a")
    assert ends_at(["a", "", "b"], 2, stop_ids=[1]) == (3, "ab")
