from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.core.errors import ConfigError, DataError
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.tokenizer.bpe import BytePairEncoding, byte_alphabet
from danlu.tokenizer.chat import CHATML
from tests.tokenizer.corpus import CHAT, CHINESE, ENGLISH, SPECIALS, texts

ROLES = ["system", "user", "assistant"]
each = pytest.mark.parametrize("kind", ["char", "bpe"])


def train(corpus: list[str], **changes: object) -> Tokenizer:
    return train_tokenizer(corpus, TokenizerConfig.parse(changes))


def tokens(tokenizer: Tokenizer) -> list[str]:
    return sorted(tokenizer.backend.get_vocab(), key=tokenizer.backend.get_vocab().__getitem__)


def test_layout_of_characters():
    tokenizer = train(["乙甲乙丙", "丙甲丁\n"], kind="char", min_frequency=1)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    assert tokens(tokenizer) == [*SPECIALS, *bytes_, "丙", "乙", "甲", "\n", "丁", *ROLES]  # 2, 2, 2, 1, 1 times


def test_layout_of_bpe():
    tokenizer = train([CHINESE, ENGLISH], kind="bpe", vocab_size=400, min_frequency=1)
    by_hand = BytePairEncoding.train([CHINESE, ENGLISH], 396)
    alphabet = byte_alphabet()
    spelt = ["".join(alphabet[byte] for byte in token) for token in by_hand.tokens]
    assert tokens(tokenizer) == [*SPECIALS, *spelt]


def test_roles_are_one_token_each_in_a_vocabulary_of_characters():
    tokenizer = train(["春"], kind="char", min_frequency=1)
    ids = tokenizer.render([{"role": "user", "content": "春"}], add_generation_prompt=True).ids
    names = [tokenizer.backend.id_to_token(token) for token in ids]
    assert names[:2] == ["<|im_start|>", "user"]
    assert names[-2:] == ["assistant", "<0x0A>"]
    assert tokenizer.special_ids.isdisjoint(tokenizer.encode("users and assistants"))
    assert tokenizer.decode(tokenizer.encode("users and assistants")) == "users and assistants"


def test_rare_characters_are_spelt_in_bytes():
    tokenizer = train(["春春秋"], kind="char", min_frequency=2)
    assert tokenizer.vocab_size == 4 + 256 + 1 + len(ROLES)
    assert [tokenizer.backend.id_to_token(token) for token in tokenizer.encode("春秋")] == [
        "春",
        "<0xE7>",
        "<0xA7>",
        "<0x8B>",
    ]
    assert tokenizer.decode(tokenizer.encode("秋")) == "秋"


def test_vocab_size_keeps_the_most_common():
    tokenizer = train(["春春春夏夏秋"], kind="char", min_frequency=1, vocab_size=265)
    assert tokens(tokenizer)[260:] == ["春", "夏", *ROLES]
    assert train(texts(), kind="bpe", vocab_size=300).vocab_size == 300
    assert train(["x"], kind="bpe", vocab_size=300).vocab_size == 260


@each
def test_the_same_corpus_gives_the_same_bytes(kind: str, tmp_path: Path):
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        train(texts(), kind=kind, vocab_size=500).save(tmp_path / name)
        written.append([(tmp_path / name / file.name).read_bytes() for file in sorted((tmp_path / name).iterdir())])
    assert written[0] == written[1]
    assert len(written[0]) == 2


@each
@settings(max_examples=40, deadline=None)
@given(corpus=st.lists(st.text(max_size=30), min_size=1, max_size=5), other=st.text())
def test_any_corpus_gives_a_lossless_tokenizer(kind: str, corpus: list[str], other: str):
    if not any(corpus):
        corpus = ["x"]
    tokenizer = train(corpus, kind=kind, vocab_size=300, min_frequency=1)
    for text in [*corpus, other]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@each
def test_special_tokens_in_the_corpus_are_not_learnt(kind: str):
    corpus = ["<|im_end|><|im_start|>user" * 50] * 20
    tokenizer = train(corpus, kind=kind, vocab_size=1000, min_frequency=1)
    assert tokenizer.special_ids == {0, 1, 2, 3}
    assert tokenizer.special_ids.isdisjoint(tokenizer.encode(corpus[0]))
    assert tokenizer.decode(tokenizer.encode(corpus[0])) == corpus[0]


@each
@pytest.mark.parametrize("corpus", [[], [""], ["", ""]])
def test_empty_corpus(kind: str, corpus: list[str]):
    with pytest.raises(DataError, match="no text"):
        train(corpus, kind=kind)


@each
def test_a_fault_in_the_corpus_comes_through(kind: str):
    with pytest.raises(DataError, match="surrogate"):
        train(["fine", "half \ud83d"], kind=kind)


@each
def test_texts_may_be_a_stream(kind: str):
    assert train_tokenizer(iter(texts()), TokenizerConfig(kind=kind)).decode([4]) != ""


def test_chat_template(tmp_path: Path):
    assert train(["x"]).config["chat_template"] == CHATML
    assert not train(["x"], chat_template="none").has_chat
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}", encoding="utf-8")
    assert train(["x"], chat_template=str(file)).chat_text(CHAT[:1]) == "[system] 你是诗人。<|im_end|>"


def test_unusable_chat_template(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read"):
        train(["x"], chat_template=str(tmp_path / "missing.jinja"))
    (tmp_path / "bad.jinja").write_text("{% for %}", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1"):
        train(["x"], chat_template=str(tmp_path / "bad.jinja"))


@pytest.mark.parametrize("changes", [{"vocab_size": 259}, {"kind": "word"}, {"min_frequency": 0}, {"vocabsize": 500}])
def test_unusable_settings(changes: dict[str, object]):
    with pytest.raises(ConfigError):
        train(["x"], **changes)
