import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tests.tokenizer.corpus import AWKWARD, CHINESE, ENGLISH, texts


def metaspace() -> Tokenizer:
    """A sentence-piece-like tokenizer: a space before the first word which decoding drops, bytes for the rest."""
    tokens = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehlorw", "lo"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[("l", "o")], byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.add_special_tokens(["<s>", "</s>"])
    return Tokenizer(backend, {"eos_token": "</s>", "bos_token": "<s>"})


TOKENIZERS = {
    "char": train_tokenizer(texts(), TokenizerConfig(kind="char", vocab_size=400)),
    "bpe": train_tokenizer(texts(), TokenizerConfig(kind="bpe", vocab_size=500)),
    "metaspace": metaspace(),
}
each = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def stream(tokenizer: Tokenizer, ids: list[int], skip_special: bool = True) -> list[str]:
    decoder = tokenizer.stream_decoder(skip_special)
    return [*(decoder.push(token) for token in ids), decoder.flush()]


@each
@settings(max_examples=150, deadline=None)
@given(data=st.data(), skip=st.booleans())
def test_any_ids_join_to_what_decode_gives(tokenizer: Tokenizer, data: st.DataObject, skip: bool):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 2) | st.integers(0, 260), max_size=30))
    assert "".join(stream(tokenizer, ids, skip)) == tokenizer.decode(ids, skip)


@each
@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_any_text_comes_in_whole_characters(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text)
    parts = stream(tokenizer, ids)
    assert "".join(parts) == tokenizer.decode(ids)
    assert sum(part.count("\ufffd") for part in parts) == text.count("\ufffd")


@each
@pytest.mark.parametrize("text", [CHINESE, ENGLISH, *AWKWARD], ids=lambda text: ascii(text[:8]))
def test_texts(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text)
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


def test_text_comes_as_soon_as_it_is_whole():
    tokenizer = TOKENIZERS["char"]
    assert stream(tokenizer, tokenizer.encode("河水")) == ["河", "水", ""]
    assert stream(tokenizer, tokenizer.encode("龘水")) == ["", "", "", "龘水", ""]  # bytes wait for their end
    tokenizer = TOKENIZERS["bpe"]
    assert stream(tokenizer, tokenizer.encode("龘\n")) == ["", "", "龘", "\n", ""]


def test_half_a_character_at_the_end_is_shown():
    for name in ("char", "bpe"):
        tokenizer = TOKENIZERS[name]
        ids = tokenizer.encode("春龘")[:-1]
        parts = stream(tokenizer, ids)
        assert parts[0] == "春"
        assert set(parts[-1]) == {"\ufffd"}
        assert parts[1:-1] == [""] * (len(ids) - 1)


def test_special_tokens_are_skipped_or_shown():
    tokenizer = TOKENIZERS["char"]
    ids = [*tokenizer.encode("春"), tokenizer.eos_id]
    assert "".join(stream(tokenizer, ids)) == "春"
    assert "".join(stream(tokenizer, ids, skip_special=False)) == "春<|endoftext|>"


def test_two_streams_do_not_mix():
    tokenizer = TOKENIZERS["bpe"]
    first, second = tokenizer.stream_decoder(), tokenizer.stream_decoder()
    cut = tokenizer.encode("龘")
    assert first.push(cut[0]) == ""
    assert second.push(tokenizer.encode("a")[0]) == "a"
    assert first.push(cut[1]) + first.push(cut[2]) == "龘"
