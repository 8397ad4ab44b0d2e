import json
from collections import Counter

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, trainers

from danlu.core.errors import ConfigError, DataError
from danlu.tokenizer.bpe import BytePairEncoding, byte_alphabet, count_words, learn_merges, merge_pair
from danlu.tokenizer.pretokenize import byte_level
from tests.tokenizer.corpus import AWKWARD, CHINESE, ENGLISH, standard_library


def library(corpus: list[str], vocab_size: int, min_frequency: int) -> tokenizers.Tokenizer:
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = byte_level()
    trained.decoder = decoders.ByteLevel()
    alphabet = list(byte_alphabet().values())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(corpus, trainer)
    return trained


def merges_of(trained: tokenizers.Tokenizer) -> list[tuple[bytes, ...]]:
    byte_of = {character: byte for byte, character in byte_alphabet().items()}
    merges = json.loads(trained.to_str())["model"]["merges"]
    return [tuple(bytes(byte_of[character] for character in part) for part in pair) for pair in merges]


def assert_equal_to_library(corpus: list[str], vocab_size: int, min_frequency: int) -> BytePairEncoding:
    theirs = library(corpus, vocab_size, min_frequency)
    ours = BytePairEncoding.train(corpus, vocab_size, min_frequency)
    assert ours.merges == merges_of(theirs)
    assert len(ours.tokens) == theirs.get_vocab_size()
    for text in corpus:
        ids = ours.encode(text)
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids) == text
    return ours


def test_merges_worked_by_hand():
    # aab ×3, ab ×2: the pairs are (a, a) 3 times and (a, b) 5 times; then (a, ab) 3 times.
    tokens = [b"a", b"b"]
    words = [[0, 0, 1], [0, 1]]
    assert learn_merges(words, [3, 2], tokens, size=10, least=1) == [(0, 1), (0, 2)]
    assert tokens == [b"a", b"b", b"ab", b"aab"]
    assert words == [[3], [2]]


def test_equal_frequency_takes_the_smaller_ids():
    tokens = [b"a", b"b", b"c"]
    assert learn_merges([[2, 1], [0, 2], [0, 1]], [4, 4, 4], tokens, size=4, least=1) == [(0, 1)]


def test_least_frequency_and_size_stop():
    assert learn_merges([[0, 1]], [2], [b"a", b"b"], size=10, least=3) == []
    assert learn_merges([[0, 1, 0]], [2], [b"a", b"b"], size=2, least=1) == []


def test_merge_pair_counts_neighbours():
    symbols = [9, 1, 2, 1, 2, 8]
    changes = merge_pair(symbols, (1, 2), 3)
    assert symbols == [9, 3, 3, 8]
    before = Counter([(9, 1), (1, 2), (2, 1), (1, 2), (2, 8)])
    after = Counter([(9, 3), (3, 3), (3, 8)])
    wanted = {pair: after[pair] - before[pair] for pair in before | after if pair != (1, 2)}
    assert {pair: change for pair, change in changes.items() if change} == wanted


def test_runs_are_merged_from_the_left():
    symbols = [1, 1, 1]
    merge_pair(symbols, (1, 1), 2)
    assert symbols == [2, 1]


@pytest.mark.parametrize(("vocab_size", "min_frequency"), [(300, 1), (700, 2), (1200, 1)])
def test_equals_the_library_on_chinese_and_english(vocab_size: int, min_frequency: int):
    ours = assert_equal_to_library([CHINESE, ENGLISH], vocab_size, min_frequency)
    learnt = [token.decode(errors="replace") for token in ours.tokens]
    assert "，" in learnt  # three bytes have become a character


def test_equals_the_library_on_source_code():
    corpus = standard_library()
    ours = assert_equal_to_library(corpus, 1500, 2)
    assert " self" in [token.decode(errors="replace") for token in ours.tokens]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(alphabet="ab=\n 春天1", max_size=40) | st.text(alphabet="ab", max_size=60), max_size=6),
    st.integers(256, 330),
    st.integers(1, 3),
)
def test_equals_the_library_on_any_corpus(corpus: list[str], vocab_size: int, min_frequency: int):
    assert_equal_to_library(corpus, vocab_size, min_frequency)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_survives(text: str):
    assert TRAINED.decode(TRAINED.encode(text)) == text
    assert TRAINED.encode(text) == THEIRS.encode(text).ids


@pytest.mark.parametrize("text", AWKWARD, ids=ascii)
def test_awkward_text_survives(text: str):
    assert TRAINED.decode(TRAINED.encode(text)) == text
    assert TRAINED.encode(text) == THEIRS.encode(text).ids


def test_half_a_character_is_shown_as_such():
    ids = TRAINED.encode("龘")  # in no merge, so three bytes
    assert len(ids) == 3
    assert TRAINED.decode(ids[:2]) == "\ufffd"


def test_words_are_counted_in_bytes():
    assert count_words(["a b a", " b"]) == {b"a": 1, b" b": 2, b" a": 1}


def test_alphabet_is_one_visible_character_a_byte():
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert all(character.isprintable() and not character.isspace() for character in alphabet.values())
    assert alphabet[ord("A")] == "A"
    assert alphabet[ord(" ")] == "Ġ"
    assert alphabet[ord("\n")] == "Ċ"


def test_no_room_for_the_bytes():
    with pytest.raises(ConfigError, match="255"):
        BytePairEncoding.train(["a"], 255)


def test_merge_of_what_is_no_token():
    with pytest.raises(DataError, match="xy"):
        BytePairEncoding([b"a", b"xy"], [(b"a", b"xy")])


TRAINED = BytePairEncoding.train([CHINESE, ENGLISH], 600)
THEIRS = library([CHINESE, ENGLISH], 600, 1)
