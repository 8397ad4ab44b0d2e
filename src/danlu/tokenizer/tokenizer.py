"""Text to token ids and back, chats to ids with a mask of what the assistant says; Hugging Face files on disk."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray

from danlu.core.errors import ConfigError, DataError, FolderError
from danlu.core.files import read_json
from danlu.core.gguf import is_gguf
from danlu.core.i18n import tr
from danlu.tokenizer.chat import ChatTemplate, Messages
from danlu.tokenizer.markup import Piece, check_text
from danlu.tokenizer.stream import StreamDecoder

__all__ = ["Rendered", "Tokenizer"]

TOKENIZER_FILE, CONFIG_FILE, TEMPLATE_FILE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_SEE_CONFIG = tr(f"see the tokens named in {CONFIG_FILE}", f"请检查 {CONFIG_FILE} 中写的词元")
_SHORT = 12  # characters of a piece worth remembering
_UNLIMITED = 10**9  # transformers writes 1e30 for a context that is not known


class Rendered(NamedTuple):
    """A chat as tokens: `mask[i]` is 1 where the assistant has to produce `ids[i]`, its end of turn included."""

    ids: list[int]
    mask: list[int]


class Tokenizer:
    """A trained tokenizer with its special tokens and its chat template.

    `backend` is the compiled tokenizer; `config` holds what `tokenizer_config.json` does: eos_token (required: it
    ends a document), pad_token (eos_token where absent), bos_token, chat_template, model_max_length, and whatever
    else a foreign folder brought, which is kept. Raises ConfigError when a token of it is not in the vocabulary
    or its chat template is unusable.
    """

    FILES = (TOKENIZER_FILE, CONFIG_FILE, TEMPLATE_FILE)

    def __init__(self, backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
        self.backend, self.config = backend, dict(config)
        backend.no_truncation()
        backend.no_padding()
        added = backend.get_added_tokens_decoder()
        self._special = {token.content: number for number, token in added.items() if token.special}
        self._greedy = {token.content: token for token in added.values() if token.lstrip or token.rstrip}
        self.special_ids = frozenset(self._special.values())
        self.vocab_size: int = backend.get_vocab_size()

        tokens = _named_tokens(config)
        eos = self._id(tokens, "eos_token")
        if eos is None:  # BERT's vocabularies close a text with [SEP]
            eos = self._id(tokens, "sep_token")
        if eos is None:
            raise ConfigError(tr("the tokenizer has no eos_token", "分词器没有 eos_token"), _SEE_CONFIG)
        pad = self._id(tokens, "pad_token")
        self.eos_id: int = eos
        self.pad_id: int = eos if pad is None else pad
        self.bos_id: int | None = self._id(tokens, "bos_token")
        self.mask_id: int | None = self._id(tokens, "mask_token")
        unknown = self._id(tokens, "unk_token")
        self._forbidden = self.special_ids - {unknown}

        # A twin that reads special tokens as the letters they are spelt with, and one of it for text inside a chat:
        # some tokenizers put a space before the first word.
        self._literal = _copy(backend)
        self._literal.encode_special_tokens = True
        self._inner = _without_prefix(self._literal)
        # A template writes the same few words ("user\n") in every chat.
        self._inner_short = lru_cache(maxsize=1024)(partial(self._plain, self._inner))

        template = _template_of(config)
        self._chat = ChatTemplate(template, self._special, tokens) if template is not None else None
        end = self._special[self._chat.turn_end] if self._chat and self._chat.turn_end else eos
        self.stop_ids: tuple[int, ...] = tuple(sorted({eos, end}))

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self.backend, self.config)

    def _id(self, tokens: Mapping[str, str], name: str) -> int | None:
        if name not in tokens:
            return None
        number = self.backend.token_to_id(tokens[name])
        if number is None:
            text = tokens[name]
            raise ConfigError(
                tr(f"{name} {text!r} is not in the vocabulary", f"{name} {text!r} 不在词表中"), _SEE_CONFIG
            )
        return number

    # Files

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open the tokenizer of a model folder, danlu's or anyone's in Hugging Face format, or of a GGUF file.

        Raises FolderError naming the file that is missing or damaged.
        """
        folder = Path(folder)
        if is_gguf(folder):
            return import_module("danlu.tokenizer.gguf").load_gguf_tokenizer(folder)
        if not folder.is_dir():
            raise FolderError(tr(f"no such folder: {folder}", f"没有这个文件夹：{folder}"))
        config = read_json(folder / CONFIG_FILE)
        if not isinstance(config, dict):
            raise FolderError(tr(f"{folder / CONFIG_FILE} is no mapping", f"{folder / CONFIG_FILE} 不是“键: 值”结构"))
        file = folder / TOKENIZER_FILE
        read_json(file)  # its errors name the place; those of the library do not
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing more precise
            raise FolderError(tr(f"{file} is no tokenizer: {error}", f"{file} 不是可用的分词器：{error}")) from None
        template = folder / TEMPLATE_FILE
        if template.is_file():
            try:
                config["chat_template"] = template.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise FolderError(tr(f"{template} is damaged: {error}", f"{template} 已损坏：{error}")) from None
        try:
            return cls(backend, config)
        except ConfigError as error:
            raise FolderError(f"{folder}: {error.what}", error.do) from None

    def save(self, folder: Path, model_max_length: int | None = None) -> None:
        """Write tokenizer.json and tokenizer_config.json into `folder`, which exists.

        `model_max_length` is the context of the model it is saved with, in tokens.
        """
        folder = Path(folder)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **self.config}
        if model_max_length is not None:
            config["model_max_length"] = model_max_length
        (folder / TOKENIZER_FILE).write_text(self.backend.to_str(pretty=True), encoding="utf-8")
        text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
        (folder / TEMPLATE_FILE).unlink(missing_ok=True)  # one of an earlier save would win over ours

    def with_special(self, names: Sequence[str]) -> "Tokenizer":
        """The same with `names` as further special tokens; those it has already stay where they are."""
        backend = _copy(self.backend)
        backend.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in names])
        listed = [*self.config.get("additional_special_tokens", ()), *names]
        return Tokenizer(backend, {**self.config, "additional_special_tokens": list(dict.fromkeys(listed))})

    @property
    def model_max_length(self) -> int | None:
        """The context, in tokens, of the model this tokenizer came with; None when it does not say."""
        length = self.config.get("model_max_length")
        return int(length) if length is not None and length < _UNLIMITED else None

    # Text

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids of `text`; no token is added in front or behind.

        With `special`, special tokens spelt in the text become those tokens: for text that danlu wrote itself.
        Without, `<|im_end|>` is ten letters like any other. Raises DataError for half a character.
        """
        if special:
            return self.backend.encode(check_text(text), add_special_tokens=False).ids
        return self._plain(self._literal, text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, on all cores."""
        for text in texts:
            check_text(text)
        encoded = [found.ids for found in self._literal.encode_batch_fast(list(texts), add_special_tokens=False)]
        for ids in encoded:
            self._refuse_special(ids)
        return encoded

    def encode_arrays(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """`encode` of many texts end to end: ids uint32 [N], and the length of each text in tokens, int64 [len(texts)].

        The same as `encode_batch`, with less for Python to do for each token.
        """
        for text in texts:
            check_text(text)
        found = [one.ids for one in self._literal.encode_batch_fast(list(texts), add_special_tokens=False)]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        ids = np.fromiter(chain.from_iterable(found), np.uint32, int(lengths.sum()))
        for forbidden in self._forbidden:
            if (ids == forbidden).any():
                self._refuse_special([forbidden])
        return ids, lengths

    def encode_framed(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        """Texts as an encoder reads them, with the tokens that the tokenizer puts around them: [CLS], [SEP].

        An Encoding has `ids`, `offsets` (the characters [start, end) that each token spells) and `special_tokens_mask`.
        """
        for text in texts:
            check_text(text)
        found = self._literal.encode_batch(list(texts))
        for one in found:
            self._refuse_special([n for n, added in zip(one.ids, one.special_tokens_mask, strict=True) if not added])
        return found

    def _plain(self, backend: tokenizers.Tokenizer, text: str) -> list[int]:
        ids = backend.encode(check_text(text), add_special_tokens=False).ids
        self._refuse_special(ids)
        return ids

    def _refuse_special(self, ids: list[int]) -> None:
        """A vocabulary in which plain text gives a special token, so that users could forge one, is not usable."""
        if not self._forbidden.isdisjoint(ids):
            name = self.backend.id_to_token(next(number for number in ids if number in self._forbidden))
            raise DataError(
                tr(
                    f"this tokenizer makes the special token {name} of plain text",
                    f"该分词器把普通文本变成了特殊词元 {name}",
                ),
                tr("remove it from the text", "请从文本中去掉它"),
            )

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special)

    def stream_decoder(self, skip_special: bool = True) -> StreamDecoder:
        """A decoder to push ids into one by one; see `StreamDecoder`."""
        numbers = (self.backend.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        held = {number for number in numbers if number is not None}
        return StreamDecoder(self.backend, self.special_ids if skip_special else (), held)

    # Chats

    @property
    def has_chat(self) -> bool:
        """Whether there is a chat template to `render` with."""
        return self._chat is not None

    def chat_text(self, messages: Messages, add_generation_prompt: bool = False, **variables: Any) -> str:
        """The chat as text, for people to look at; to train or to generate use `render`."""
        return self._template().text(messages, add_generation_prompt, **variables)

    # lesson: render
    def render(self, messages: Messages, add_generation_prompt: bool = False, **variables: Any) -> Rendered:
        """The chat as token ids, and the mask of what the assistant has to produce.

        Special tokens come from the template only, whatever the messages spell. The ids of a prompt (rendered with
        `add_generation_prompt`) are the beginning of the ids of the same chat with the answer. `variables` go to
        the template (`tools=...`). Raises ConfigError without a usable template, DataError for unusable messages.
        """
        pieces = self._template().pieces(messages, add_generation_prompt, **variables)
        ids: list[int] = []
        mask: list[int] = []
        for number, piece in enumerate(self._eaten(pieces) if self._greedy else pieces):
            new = self._piece_ids(piece, first=number == 0)
            ids += new
            mask += [int(piece.assistant)] * len(new)
        return Rendered(ids, mask)

    def _piece_ids(self, piece: Piece, first: bool) -> list[int]:
        if piece.special:
            return [self._special[piece.text]]
        if first:
            return self._plain(self._literal, piece.text)
        return self._inner_short(piece.text) if len(piece.text) <= _SHORT else self._plain(self._inner, piece.text)

    # end lesson

    def _template(self) -> ChatTemplate:
        if self._chat is None:
            raise ConfigError(
                tr("this tokenizer has no chat template", "该分词器没有聊天模板"),
                tr("add chat_template.jinja to its folder", "请在其文件夹中加入 chat_template.jinja"),
            )
        return self._chat

    def _eaten(self, pieces: list[Piece]) -> Iterator[Piece]:
        """Some foreign special tokens swallow the blanks beside them (`lstrip`, `rstrip`)."""
        for number, piece in enumerate(pieces):
            text = piece.text
            if not piece.special:
                before = self._greedy.get(pieces[number - 1].text) if number else None
                after = self._greedy.get(pieces[number + 1].text) if number + 1 < len(pieces) else None
                text = text.lstrip() if before and before.rstrip and pieces[number - 1].special else text
                text = text.rstrip() if after and after.lstrip and pieces[number + 1].special else text
            yield piece._replace(text=text)


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """eos_token and its like; a foreign file may write a token as a mapping with its content."""
    tokens = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, Mapping) else value
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    return tokens


def _template_of(config: Mapping[str, Any]) -> str | None:
    """The chat template; of several named ones, as old folders have, the default."""
    template = config.get("chat_template")
    if isinstance(template, list):
        template = next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
    if template is not None and not isinstance(template, str):
        raise ConfigError(tr("chat_template is no text", "chat_template 不是文本"), _SEE_CONFIG)
    return template


def _copy(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(backend.to_str())


def _without_prefix(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """`backend` itself, or a twin of it, for text that does not stand at the beginning."""
    text = backend.to_str()
    changed = text.replace('"prepend_scheme":"first"', '"prepend_scheme":"never"')
    if changed == text:
        return backend
    twin = tokenizers.Tokenizer.from_str(changed)
    twin.encode_special_tokens = True
    return twin
