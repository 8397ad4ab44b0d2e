"""From a constraint to a matcher over a tokenizer's vocabulary: what llguidance has to be told, and what it says.

The grammar is one over bytes, so a tokenizer is known by the bytes of its tokens alone and never asked to encode.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import numpy as np

from danlu.core.errors import ConfigError, MissingExtraError
from danlu.core.i18n import tr
from danlu.tokenizer import Tokenizer
from danlu.tokenizer.bpe import byte_alphabet

__all__ = ["Vocabulary", "token_bytes"]

_COMPILED = 256  # constraints remembered for each tokenizer
# Between JSON's marks; bounded, or a weak model writes blanks for ever.
_BLANKS = r"[\x20\x0A\x0D\x09]{1,24}"
# Appended, so that line numbers in messages stay those of the user's grammar. Forced text would have to be encoded.
_OPTIONS = '\n%llguidance {"no_forcing": true}\n'
_META = frozenset(r"\.+*?()|[]{}^$#&-~")  # what a regular expression escapes
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*\\u")  # in JSON text: a character that can only be written so
_GBNF = re.compile(r"^\s*[\w-]+\s*::=", re.MULTILINE)
_OPAQUE = frozenset({"const", "enum", "default", "examples"})  # values, not schemas


class Vocabulary:
    """What llguidance has to know of a tokenizer, and the constraints compiled for it.

    tokens: the bytes of each; words: of a bitmask, int32; only_stops: the bitmask that allows stop tokens alone.
    """

    _known: "WeakKeyDictionary[Tokenizer, Vocabulary]" = WeakKeyDictionary()
    _lock = threading.Lock()

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """The one of this tokenizer. Raises MissingExtraError without llguidance, ConfigError as `token_bytes`."""
        with cls._lock:
            if tokenizer not in cls._known:
                cls._known[tokenizer] = cls(tokenizer)
            return cls._known[tokenizer]

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            import llguidance
        except ImportError:
            raise MissingExtraError("llguidance", "guided") from None
        self._library: ModuleType = llguidance
        self.tokens = token_bytes(tokenizer)
        self.size, self.words = len(self.tokens), -(-len(self.tokens) // 32)
        self.stop_ids = frozenset(tokenizer.stop_ids)
        bits = np.zeros(self.words * 32, np.uint8)
        bits[list(self.stop_ids)] = 1
        self.only_stops = np.packbits(bits, bitorder="little").view(np.int32)
        self._characters = _characters(self.tokens, tokenizer.special_ids)
        wrapper = llguidance.TokenizerWrapper(_Spelling(self.tokens, tokenizer))
        self._tokenizer = llguidance.LLTokenizer(wrapper, n_vocab=self.size, eos_token=sorted(self.stop_ids))
        self._compiled: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def spell(self, token_ids: Sequence[int]) -> str:
        """The text of these tokens, for messages."""
        known = (self.tokens[token] for token in token_ids if 0 <= token < self.size)
        return b"".join(known).decode(errors="replace")

    def matcher(self, kind: str, value: Any) -> Any:
        """A new llguidance.LLMatcher for `value`, a constraint of a `kind` that `Guided` names.

        Raises ConfigError for one that is malformed, not supported, or that no answer in this vocabulary can follow.
        """
        if kind == "json_schema":
            value = _parsed(value)
        key = (kind, json.dumps(value, ensure_ascii=False))
        try:
            key[1].encode()
        except UnicodeEncodeError as error:
            raise _refusal(kind, f"half a character: {error.object[error.start : error.end]!r}") from None
        with self._lock:
            if found := self._compiled.get(key):
                self._compiled.move_to_end(key)
        if not found:
            found = self._compile(kind, value)
            with self._lock:
                self._compiled[key] = found
                if len(self._compiled) > _COMPILED:
                    self._compiled.popitem(last=False)
        return found.deep_copy()

    def _compile(self, kind: str, value: Any) -> Any:
        grammar = self._grammar(kind, value)
        matcher = self._library.LLMatcher(self._tokenizer, grammar + _OPTIONS, log_level=0)
        if matcher.is_error():
            raise self._fault(kind, value, matcher.get_error())
        trial = matcher.deep_copy()
        trial.compute_bitmask()
        if trial.is_error():
            raise ConfigError(
                tr(
                    f"guided.{kind}: no answer in the tokenizer's vocabulary can follow it",
                    f"guided.{kind}:用该分词器的词表写不出符合它的回答",
                ),
                tr("loosen it", "请放宽约束"),
            )
        return matcher

    def _grammar(self, kind: str, value: Any) -> str:
        """The constraint in llguidance's Lark notation."""
        if kind == "choice":
            return self._text("|".join("".join("\\" + c if c in _META else c for c in text) for text in value))
        if kind == "regex":
            if (len(value) - len(value.rstrip("\\"))) % 2:  # would escape the mark that ends it
                raise _refusal(kind, f"column {len(value)}: a backslash that escapes nothing")
            return self._text(value)
        if kind == "grammar":
            try:
                return self._library.grammar_from("gbnf", value) if _GBNF.search(value) else value
            except ValueError as error:
                raise _refusal(kind, " ".join(str(error).split())) from None
        try:
            return _json_grammar(self._schema({"type": "object"} if kind == "json_object" else value))
        except RecursionError as error:
            raise _refusal(kind, str(error)) from None

    def _text(self, regex: str) -> str:
        sayable = ""
        if self._characters is not None:
            sayable = " & /[" + "".join(f"\\u{{{ord(c):x}}}" for c in sorted(self._characters)) + "]*/"
        return f"start: TEXT\nTEXT: /{self._library.regex_to_lark(regex, 'd')}/{sayable}"

    def _schema(self, schema: Any) -> Any:
        """The schema as llguidance understands it best."""
        schema = _rewritten(schema, partial(_open_branches, root=schema))
        if self._characters is not None:
            schema = _rewritten(schema, partial(_sayable, characters=self._characters))
        return schema

    def _fault(self, kind: str, value: Any, message: str) -> ConfigError:
        if kind != "json_schema":
            return _refusal(kind, _reason(message))
        place = _place(self._schema(value), self._library.LLMatcher.validate_grammar)
        return _refusal(kind, f"{place}: {_reason(message)}")


class _Spelling:
    """What llguidance asks of a tokenizer."""

    def __init__(self, tokens: list[bytes], tokenizer: Tokenizer) -> None:
        self.tokens, self.special_token_ids = tokens, sorted(tokenizer.special_ids)
        self.eos_token_id, self.bos_token_id = tokenizer.eos_id, tokenizer.bos_id

    def __call__(self, text: str) -> list[int]:
        raise NotImplementedError("guided generation never encodes")


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes that each token adds to the text; V of them, empty for an id without a token.

    Raises ConfigError for a tokenizer whose text is not its tokens one after another, such as WordPiece.
    """
    backend = tokenizer.backend
    decoder = json.dumps(json.loads(backend.to_str())["decoder"], ensure_ascii=False)
    byte_of = {character: byte for byte, character in byte_alphabet().items()} if '"ByteLevel"' in decoder else {}

    def spelt(token: str | None) -> bytes:
        if not token:
            return b""
        if all(character in byte_of for character in token):
            return bytes(byte_of[character] for character in token)
        if '"ByteFallback"' in decoder and (byte := _BYTE.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        return (token.replace("▁", " ") if "▁" in decoder else token).encode()

    tokens = [spelt(backend.id_to_token(number)) for number in range(tokenizer.vocab_size)]
    plain = [i for i, token in enumerate(tokens) if i not in tokenizer.special_ids and _is_text(token)]
    sample = plain[:: max(1, len(plain) // 100)]
    joined = b"".join(tokens[i] for i in sample).decode()
    if tokenizer.decode(sample, skip_special=False).lstrip(" ") != joined.lstrip(" "):
        raise ConfigError(
            tr(
                "guided: this tokenizer's text is not its tokens one after another, so no mask can follow it",
                "guided:该分词器的文本不是由词元依次拼接而成,无法计算约束",
            ),
            tr("use a byte-level, SentencePiece or character tokenizer", "请使用字节级、SentencePiece 或字符级分词器"),
        )
    return tokens


def _is_text(token: bytes) -> bool:
    try:
        return bool(token.decode())
    except UnicodeDecodeError:
        return False


def _characters(tokens: list[bytes], special: frozenset[int]) -> frozenset[str] | None:
    """The characters that can be said where not all can; None too where longer tokens have characters of their own."""
    plain = {token for number, token in enumerate(tokens) if number not in special}
    if all(bytes([byte]) in plain for byte in range(256)):
        return None
    texts = [token.decode() for token in plain if _is_text(token)]
    single = frozenset(text for text in texts if len(text) == 1)
    return single if single.issuperset("".join(texts)) else None


def _parsed(schema: Any) -> Any:
    """The schema as plain values; text is read as JSON."""
    try:
        if isinstance(schema, str):
            schema = json.loads(schema)
        json.dumps(schema, allow_nan=False)
    except json.JSONDecodeError as error:
        raise _refusal("json_schema", f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal("json_schema", str(error)) from None
    return schema


def _json_grammar(schema: Any) -> str:
    if isinstance(schema, dict) and isinstance(own := schema.get("x-guidance", {}), dict):
        # What a schema asks for is never ignored, whatever it says of itself.
        options = {"whitespace_pattern": _BLANKS, **own, "lenient": False, "coerce_one_of": False}
        if not _CONTROL.search(json.dumps(schema, ensure_ascii=False)):
            # A name may be written as "\\u0061", which is not seen to be the property "a"; only these have to be.
            options["json_allowed_escapes"] = 'nrbtf\\"'
        schema = {**schema, "x-guidance": options}
    return f"start: %json {json.dumps(schema)}"


def _rewritten(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The schema with every mapping in it changed, the innermost first."""
    if isinstance(schema, list):
        return [_rewritten(part, change) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return change({key: part if key in _OPAQUE else _rewritten(part, change) for key, part in schema.items()})


def _sayable(schema: dict[str, Any], characters: frozenset[str]) -> dict[str, Any]:
    """Without the enum values that the vocabulary cannot spell, unless none is left."""
    if not isinstance(values := schema.get("enum"), list):
        return schema
    kept = [value for value in values if characters.issuperset(json.dumps(value, ensure_ascii=False))]
    return {**schema, "enum": kept or values}


def _open_branches(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    """What `oneOf` refers to written in its place: llguidance has to see that only one of them can hold."""
    if not isinstance(branches := schema.get("oneOf"), list):
        return schema
    return {**schema, "oneOf": [_followed(branch, root) for branch in branches]}


def _followed(branch: Any, root: Any) -> Any:
    if not isinstance(branch, dict) or branch.keys() != {"$ref"} or not str(branch["$ref"]).startswith("#/"):
        return branch
    found = root
    for part in branch["$ref"].removeprefix("#/").split("/"):
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return branch  # llguidance says that it is not there
        found = found[name]
    return found


def _place(schema: Any, validate: Any) -> str:
    """A JSON pointer to the smallest part of `schema` that is at fault in the same way."""
    fault = _reason(validate(_json_grammar(schema)))
    shared = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema, dict) and key in schema}
    pointer = "#"
    while part := next((part for part in _parts(schema) if _fails(part[1], shared, fault, validate)), None):
        pointer, schema = pointer + part[0], part[1]
    return pointer


def _fails(part: Any, shared: dict[str, Any], fault: str, validate: Any) -> bool:
    found = validate(_json_grammar({**shared, **part} if isinstance(part, dict) else part))
    return bool(found) and _reason(found) == fault


def _parts(schema: Any) -> Iterator[tuple[str, Any]]:
    """(pointer, schema) of the schemas directly inside a schema."""
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key in ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames"):
            inside = [(f"/{key}", value)]
        elif isinstance(value, dict) and key in ("properties", "patternProperties", "$defs", "definitions"):
            inside = [(f"/{key}/{name}", part) for name, part in value.items()]
        elif isinstance(value, list) and key in ("anyOf", "allOf", "oneOf", "prefixItems"):
            inside = [(f"/{key}/{number}", part) for number, part in enumerate(value)]
        else:
            continue
        yield from ((pointer, part) for pointer, part in inside if isinstance(part, dict))


def _reason(message: str) -> str:
    """The one line of llguidance's message that says what is wrong, with the column of a regular expression."""
    if parsed := re.search(r"regex parse error:\n    (.*)\n    ( *)\^+\nerror: (.*)", message):
        return f"{parsed[1]!r}, column {len(parsed[2]) + 1}: {parsed[3]}"
    line = message.strip().partition("\n")[0]
    line = re.sub(r"^(?:at )?\d+\(\d+\): (?=invalid regex|failed to compile)", "", line)  # a place in our own grammar
    line = re.sub(r"^(?:at )?(\d+)\((\d+)\): ", r"line \1, column \2: ", line)
    line = line.removeprefix("failed to compile JSON schema: ")
    if line.startswith("oneOf"):
        return tr("oneOf, two parts of which may hold together; write anyOf", "oneOf 中可能有两项同时成立;请改用 anyOf")
    if keys := re.fullmatch(r"Unimplemented keys: \[(.*)\]", line):
        return tr(f"not supported: {keys[1]}", f"不支持:{keys[1]}")
    return line


def _refusal(kind: str, what: str) -> ConfigError:
    remedy = {
        "json_schema": tr(
            "correct the schema, or leave out what is not supported", "请改正 JSON Schema,或去掉不支持的部分"
        ),
        "regex": tr("correct the regular expression", "请改正正则表达式"),
    }
    other = tr("correct the grammar; it is written in Lark's notation or GBNF", "请改正语法;写法为 Lark 或 GBNF")
    return ConfigError(tr(f"guided.{kind}: {what}", f"guided.{kind} 不可用:{what}"), remedy.get(kind, other))
