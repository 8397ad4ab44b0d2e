"""The tokenizer and the chat template that a GGUF file carries, giving the ids that llama.cpp gives.

Two kinds are read. 'gpt2' is byte-level BPE with its merges written out; how text is cut before merging is only
named (`tokenizer.ggml.pre`), so the cuts are listed here. 'llama' is SentencePiece's BPE: a score for every token,
the best-scored pair is merged first, and a character that is no token is spelt in bytes as <0xE4>.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

from danlu.core.errors import ConfigError, FolderError
from danlu.core.gguf import GGUF
from danlu.tokenizer.tokenizer import Tokenizer

__all__ = ["PRE", "SPACE", "config_of", "load_gguf_tokenizer", "pre_name"]

SPACE = "▁"  # SentencePiece writes a space so
_UNKNOWN, _CONTROL, _USER, _UNUSED = 2, 3, 4, 5  # tokenizer.ggml.token_type
_LONGEST = 1000  # characters of a token; every way to cut it in two is tried
_ROLES = {"eos_token": "eos", "bos_token": "bos", "unk_token": "unknown", "pad_token": "padding"}

_SUFFIXES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _pattern(digits: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(_SUFFIXES + _WORDS + digits + _REST), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _threes() -> pre_tokenizers.PreTokenizer:
    return _pattern(r"|\p{N}{1,3}")


def _ones() -> pre_tokenizers.PreTokenizer:
    return _pattern(r"|\p{N}")


# llama.cpp's names for ways to cut text. The first name of a way is the one that an export writes.
PRE: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": _gpt2,
    **dict.fromkeys(("phi-2", "mpt", "olmo", "jais", "roberta-bpe"), _gpt2),
    "smollm": _digits,
    **dict.fromkeys(("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _digits),
    "llama-bpe": _threes,
    **dict.fromkeys(("llama3", "llama-v3", "dbrx", "smaug-bpe"), _threes),
    "qwen2": _ones,
    **dict.fromkeys(("stablelm2", "hunyuan", "megrez", "deepseek-r1-qwen"), _ones),
}
_WHOLE_WORDS_FIRST = {"llama-bpe", "llama3", "llama-v3"}  # a piece that is a token as it stands is not merged


def pre_name(backend: tokenizers.Tokenizer) -> str | None:
    """llama.cpp's name for the way this byte-level tokenizer cuts text; None when it has none."""
    own = json.loads(backend.to_str())["pre_tokenizer"]
    for name, make in PRE.items():
        known = tokenizers.Tokenizer(models.BPE())
        known.pre_tokenizer = make()
        if _same_cut(own, json.loads(known.to_str())["pre_tokenizer"]):
            return name
    return None


def _same_cut(one: Any, other: Any) -> bool:
    """Equal but for `trim_offsets`, which changes no id."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = (one.keys() | other.keys()) - {"trim_offsets"}
        return all(_same_cut(one.get(key), other.get(key)) for key in keys)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_cut, one, other))
    return one == other


def load_gguf_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer of a GGUF file.

    Raises FolderError for a damaged file, and for a kind of tokenizer or a way to cut text that is not implemented.
    """
    file = GGUF(path)
    kind = file.value("tokenizer.ggml.model", str)
    if kind not in ("gpt2", "llama"):
        file.refuse(
            f"tokenizer '{kind}' is not implemented (implemented: gpt2, llama)",
            f"尚未实现分词器“{kind}”(已实现:gpt2、llama)",
        )
    tokens = file.value("tokenizer.ggml.tokens", list)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if not tokens or len(vocabulary) < len(tokens) or max(map(len, tokens)) > _LONGEST:
        file.refuse("its vocabulary has a token twice, one too long, or none", "词表为空,或有重复、过长的词元")
    types = _column(file, "token_type", len(tokens), 1)
    backend = (_byte_level if kind == "gpt2" else _sentencepiece)(file, vocabulary)
    special = [token for token, type_ in zip(tokens, types, strict=True) if type_ in (_CONTROL, _UNKNOWN)]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    own = [token for token, type_ in zip(tokens, types, strict=True) if type_ == _USER and token]
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in own])
    try:
        return Tokenizer(backend, config_of(file))
    except ConfigError as error:
        raise FolderError(f"{path}: {error.what}", error.do) from None


def config_of(file: GGUF) -> dict[str, Any]:
    """What `tokenizer_config.json` would hold: the named tokens, the chat template, the context."""
    tokens = file.value("tokenizer.ggml.tokens", list)
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for role, name in _ROLES.items():
        key = f"tokenizer.ggml.{name}_token_id"
        if key not in file.metadata:
            continue
        number = file.value(key, int)
        if not 0 <= number < len(tokens):
            file.refuse(f"{key} is {number}, beyond the vocabulary", f"{key} 为 {number},超出词表")
        config[role] = tokens[number]
    for key in ("add_bos_token", "add_eos_token"):
        if f"tokenizer.ggml.{key}" in file.metadata:
            config[key] = file.value(f"tokenizer.ggml.{key}", bool)
    if "tokenizer.chat_template" in file.metadata:
        config["chat_template"] = file.value("tokenizer.chat_template", str)
    length = file.metadata.get(f"{file.metadata.get('general.architecture')}.context_length")
    if type(length) is int:
        config["model_max_length"] = length
    return config


def _column(file: GGUF, name: str, length: int, default: float) -> list[Any]:
    """A number for each token."""
    found = file.metadata.get(f"tokenizer.ggml.{name}")
    if found is None:
        return [default] * length
    if isinstance(found, list | str | int | float) or len(found) != length:
        file.refuse(f"tokenizer.ggml.{name} does not fit the vocabulary", f"tokenizer.ggml.{name} 与词表不符")
    return found.tolist()


def _byte_level(file: GGUF, vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    pre = file.value("tokenizer.ggml.pre", str, "gpt-2")
    if pre not in PRE:
        file.refuse(
            f"the pre-tokenizer '{pre}' is not implemented (implemented: {', '.join(PRE)})",
            f"尚未实现预分词方式“{pre}”(已实现:{', '.join(PRE)})",
        )
    merges = []
    for line in file.value("tokenizer.ggml.merges", list):
        left, _, right = line.partition(" ")
        if left not in vocabulary or right not in vocabulary or left + right not in vocabulary:
            file.refuse(f"the merge {line[:80]!r} is not of the vocabulary", f"合并规则 {line[:80]!r} 不在词表中")
        merges.append((left, right))
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre in _WHOLE_WORDS_FIRST))
    backend.pre_tokenizer = PRE[pre]()
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(file: GGUF, vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    """Scores become the order of merges: all ways to put a token together have its rank."""
    scores = _column(file, "scores", len(vocabulary), 0.0)
    types = _column(file, "token_type", len(vocabulary), 1)
    plain = {token for token, number in vocabulary.items() if types[number] not in (_CONTROL, _UNKNOWN, _UNUSED)}
    merges = [
        (token[:cut], token[cut:])
        for token in sorted(plain, key=lambda token: (-scores[vocabulary[token]], vocabulary[token]))
        for cut in range(1, len(token))
        if token[:cut] in plain and token[cut:] in plain
    ]
    unknown = next((token for token, number in vocabulary.items() if types[number] == _UNKNOWN), None)
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = file.value("tokenizer.ggml.add_space_prefix", bool, True)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "first" if prefix else "never", split=False)
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return backend
