from pathlib import Path

import pytest

from danlu.core.errors import ContextError, DataError
from danlu.evaluate.labels import label, labels, tokens_of
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer


@pytest.fixture(scope="module")
def bytes_only() -> Tokenizer:
    """Every byte is a token of its own, but for a few words of English."""
    return train_tokenizer(["the cat sat on the mat " * 20], TokenizerConfig(kind="bpe", vocab_size=280))


def test_blanks_are_seen(tokenizer: Tokenizer):
    ids = tokenizer.encode("春 山\n")
    assert labels(tokenizer, ids) == ["春", "␣", "山", "⏎"]
    assert label(tokenizer, tokenizer.eos_id).startswith("<")


def test_a_character_of_several_tokens(bytes_only: Tokenizer):
    ids = bytes_only.encode("a春😀")
    assert labels(bytes_only, ids) == ["a", "春¹", "春²", "春³", "😀¹", "😀²", "😀³", "😀⁴"]
    assert label(bytes_only, ids[1]) == "<E6>"
    assert labels(bytes_only, ids[2:3]) == ["<98>"]  # its beginning is missing
    assert labels(bytes_only, ids[1:3] + ids[:1]) == ["<E6>", "<98>", "a"]
    assert labels(bytes_only, []) == []


def test_the_tokens_of_a_text(tokenizer: Tokenizer):
    assert tokens_of(tokenizer, "春水", 64) == tokenizer.encode("春水")
    with pytest.raises(ContextError, match="64"):
        tokens_of(tokenizer, "春" * 65, 64)
    with pytest.raises(DataError, match="2"):
        tokens_of(tokenizer, "春", 64, least=2)


def test_the_token_that_begins_a_document(tokenizer: Tokenizer, tmp_path: Path):
    begins = Tokenizer(tokenizer.backend, {**tokenizer.config, "bos_token": tokenizer.config["eos_token"], "add_bos_token": True})  # fmt: skip
    assert tokens_of(begins, "春", 64) == [tokenizer.eos_id, *tokenizer.encode("春")]
    silent = Tokenizer(tokenizer.backend, {**tokenizer.config, "bos_token": tokenizer.config["eos_token"]})
    assert tokens_of(silent, "春", 64) == tokenizer.encode("春")
