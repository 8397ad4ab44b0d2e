"""Learning a vocabulary from text: every common character a token, or byte-level byte-pair encoding."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import AddedToken, decoders, models, trainers

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.tokenizer.bpe import byte_alphabet
from danlu.tokenizer.chat import CHATML
from danlu.tokenizer.markup import check_text
from danlu.tokenizer.pretokenize import byte_level
from danlu.tokenizer.tokenizer import Tokenizer

__all__ = ["SPECIAL_TOKENS", "TokenizerConfig", "train_tokenizer"]

# Ids 0 to 3 of every tokenizer that danlu trains.
SPECIAL_TOKENS = {
    "eos_token": "<|endoftext|>",
    "turn_start": "<|im_start|>",
    "turn_end": "<|im_end|>",
    "pad_token": "<|pad|>",
}
# In a vocabulary of characters each is one token, at its end: else every turn would spell them letter by letter.
_ROLES = ("system", "user", "assistant")
_FIXED = len(SPECIAL_TOKENS) + 256  # specials, then one token a byte


class TokenizerConfig(Config):
    """What kind of vocabulary to learn."""

    kind: Literal["char", "bpe"] = doc(
        "bpe",
        "'char': each common character is a token (Chinese verse); 'bpe': frequent byte sequences (any text)",
        "char:每个常用字一个词元(适合诗词);bpe:常见的字节序列成为词元(适合各种文本)",
    )
    vocab_size: int = doc(8192, "at most so many tokens", "词元数上限", ge=_FIXED + len(_ROLES))
    min_frequency: int = doc(2, "what is seen less often is spelt in bytes", "出现次数低于此数的，用字节拼写", ge=1)
    chat_template: str = doc(
        "default",
        "'default' (ChatML), 'none', or the path of a Jinja file",
        "default(ChatML)、none,或 Jinja 文件的路径",
    )


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Learn a vocabulary from `texts`; the same texts give the same files, byte for byte.

    Ids are laid out as special tokens, the 256 bytes, then characters by falling frequency (equal ones by code
    point) and the names of roles, or merges in the order they were learnt. Every text can be encoded, and decodes
    to itself. Raises DataError when `texts` hold no text, ConfigError when the chat template is missing or unusable.
    """
    template = _chat_template(config.chat_template)
    seen = _NotEmpty(texts)
    backend = _train_char(seen, config) if config.kind == "char" else _train_bpe(seen, config)
    if not seen.characters:
        raise DataError(
            tr("the corpus has no text to learn a tokenizer from", "语料中没有可供训练分词器的文本"),
            tr("check the path and the column", "请检查路径与列名"),
        )
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **{name: token for name, token in SPECIAL_TOKENS.items() if name.endswith("_token")},
    }
    if template is not None:
        settings["chat_template"] = template
    return Tokenizer(backend, settings)


class _NotEmpty:
    """Passes texts on, checked, and counts what went through."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts, self.characters = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            yield check_text(text)


def _specials() -> list[AddedToken]:
    return [AddedToken(text, special=True, normalized=False) for text in SPECIAL_TOKENS.values()]


def _train_char(texts: Iterable[str], config: TokenizerConfig) -> tokenizers.Tokenizer:
    """A BPE without merges: what is not a character of the vocabulary falls apart into bytes, as <0xE4>."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    common = [character for character, count in counts.items() if count >= config.min_frequency]
    common.sort(key=lambda character: (-counts[character], character))
    tokens = [*SPECIAL_TOKENS.values(), *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += common[: config.vocab_size - _FIXED - len(_ROLES)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(_specials())
    backend.add_tokens([AddedToken(role, normalized=False) for role in _ROLES])
    return backend


def _train_bpe(texts: Iterable[str], config: TokenizerConfig) -> tokenizers.Tokenizer:
    """Byte-level BPE; `danlu.tokenizer.bpe` learns the same merges in readable Python."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = byte_level()
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=_specials(),
        initial_alphabet=list(byte_alphabet().values()),
        show_progress=False,
    )
    backend.train_from_iterator(iter(texts), trainer)
    return backend


def _chat_template(choice: str) -> str | None:
    if choice == "default":
        return CHATML
    if choice == "none":
        return None
    try:
        return Path(choice).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            tr(f"chat_template: cannot read {choice}: {error}", f"chat_template:无法读取 {choice}：{error}"),
            tr("give 'default', 'none' or the path of a Jinja file", "请用 default、none 或 Jinja 文件的路径"),
        ) from None
