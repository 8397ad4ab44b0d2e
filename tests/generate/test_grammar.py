"""What llguidance is told of a tokenizer and of a constraint, and how its refusals read."""

import gc
import json
import random
import sys
from typing import Annotated, Any, Literal

import pydantic
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from danlu.core.errors import ConfigError, MissingExtraError
from danlu.generate.grammar import Vocabulary, token_bytes
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tests.conftest import couplets

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    return train_tokenizer(couplets(100), TokenizerConfig(kind="char"))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer([*couplets(100), "don't stop  now\n"] * 3, TokenizerConfig(vocab_size=600))


@pytest.fixture(scope="module")
def sentencepiece() -> Tokenizer:
    tokens = ["<unk>", "</s>", *BYTES, "▁", "a", "b", "▁a", "▁▁", "春"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a"), ("▁", "▁")], byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "</s>"])
    return Tokenizer(backend, {"eos_token": "</s>", "unk_token": "<unk>"})


@pytest.mark.parametrize("kind", ["char", "bpe", "sentencepiece"])
def test_tokens_one_after_another_are_the_text(kind: str, request: pytest.FixtureRequest):
    tokenizer = request.getfixturevalue(kind)
    tokens, draw = token_bytes(tokenizer), random.Random(0)
    assert len(tokens) == tokenizer.vocab_size
    plain = [number for number in range(len(tokens)) if number not in tokenizer.special_ids]
    assert {bytes([byte]) for byte in range(256)} <= {tokens[number] for number in plain}
    whole = 0
    while whole < 100:
        ids = draw.choices(plain, k=draw.randint(1, 6))
        try:
            text = b"".join(tokens[number] for number in ids).decode()
        except UnicodeDecodeError:
            continue  # half a character: how that is shown is the decoder's own choice
        assert tokenizer.decode(ids) in (text, text.removeprefix(" "))
        whole += 1


def test_a_tokenizer_that_joins_by_rule_is_refused():
    backend = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2, "[SEP]": 3}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[UNK]", "[SEP]"])
    with pytest.raises(ConfigError, match="one after another"):
        token_bytes(Tokenizer(backend, {"eos_token": "[SEP]"}))


def test_a_vocabulary_is_read_once_and_forgotten_with_its_tokenizer():
    tokenizer = train_tokenizer(couplets(20), TokenizerConfig(kind="char"))
    assert Vocabulary.of(tokenizer) is Vocabulary.of(tokenizer)
    before = len(Vocabulary._known)
    del tokenizer
    gc.collect()
    assert len(Vocabulary._known) == before - 1


def test_a_constraint_is_compiled_once_and_each_matcher_goes_its_own_way(
    bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    vocabulary, compiled = Vocabulary.of(bpe), []
    plain = Vocabulary._compile
    monkeypatch.setattr(Vocabulary, "_compile", lambda self, *wish: compiled.append(wish) or plain(self, *wish))
    monkeypatch.setattr("danlu.generate.grammar._COMPILED", 3)
    first, second = (vocabulary.matcher("regex", "ab+c") for _ in range(2))
    assert compiled == [("regex", "ab+c")]
    assert first.consume_token(bpe.encode("a")[0])
    assert second.consume_token(bpe.encode("a")[0])
    vocabulary.matcher("choice", ("ab+c",))
    assert len(compiled) == 2
    for number in range(3):
        vocabulary.matcher("regex", f"x{number}")
    vocabulary.matcher("regex", "ab+c")
    assert compiled.count(("regex", "ab+c")) == 2  # the oldest was dropped
    assert len(vocabulary._compiled) == 3


def inside(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"ok": {"type": "string"}, "list": {"type": "array", "items": schema}}}


WRONG: list[tuple[str, Any, str]] = [
    ("json_schema", '{"type":\n "object",}', r"line 2, column \d+: "),
    ("json_schema", "[1]", "#: schema must be an object"),
    ("json_schema", {"type": "strin"}, "#: Invalid type: strin"),
    ("json_schema", inside({"type": "foo"}), "#/properties/list/items: Invalid type: foo"),
    (
        "json_schema",
        inside({"type": "array", "uniqueItems": True}),
        '#/properties/list/items: not supported: "uniqueItems"',
    ),
    ("json_schema", inside({"anyOf": [{}, {"not": {}}]}), '#/properties/list/items/anyOf/1: .*"not"'),
    ("json_schema", inside({"$ref": "#/$defs/no"}), "#/properties/list/items: .*/no"),
    ("json_schema", inside({"type": "string", "format": "zip"}), "#/properties/list/items: .*zip"),
    ("json_schema", inside({"type": "string", "pattern": "a("}), r"#/properties/list/items: 'a\(', column 2: unclosed"),
    ("json_schema", inside({"type": "integer", "minimum": "a"}), "#/properties/list/items: .*minimum"),
    ("json_schema", {"$defs": {"x": {"enum": []}}, "$ref": "#/$defs/x"}, r"#/\$defs/x: Unsat"),
    ("json_schema", {"type": "integer", "minimum": 5, "maximum": 3}, "#: Unsat.*greater"),
    ("json_schema", {"x-guidance": {"lenient": True}, "not": {}}, '#: .*"not"'),
    ("json_schema", {"x-guidance": 5}, "#: .*invalid type"),
    ("json_schema", {"default": float("nan")}, "not JSON compliant"),
    ("json_schema", {"default": {1, 2}}, "set"),
    ("regex", "ab(c", r"'ab\(c', column 3: unclosed group"),
    ("regex", "(?=a)b", "column 1: look-around"),
    ("regex", r"(a)\1", "column 4: backreferences"),
    ("regex", "ab\\", "column 3: a backslash"),
    ("regex", r"a\bb", "look"),
    ("grammar", 'start: "a" b\nb: foo', "line 2, column 4: unknown name"),
    ("grammar", 'begin: "a"', "no start rule"),
    ("grammar", 'start: "a" (', "line 1, column"),
    ("grammar", 'root ::= "a" (', "GBNF"),
    ("grammar", 'start: start "a"', "no answer"),
    ("json_schema", '{"const": "\\ud83d"}', "half a character"),
    ("regex", "a\ud83d", "half a character"),
    ("choice", ["a", "\ude00"], "half a character"),
]


@pytest.mark.parametrize(("kind", "value", "message"), WRONG)
def test_a_refusal_names_the_place(kind: str, value: Any, message: str, bpe: Tokenizer):
    with pytest.raises(ConfigError, match=message) as caught:
        Vocabulary.of(bpe).matcher(kind, value)
    assert caught.value.what.startswith(f"guided.{kind}: ")
    assert "\n" not in caught.value.what
    assert caught.value.do


def test_what_is_too_deep_is_an_error(bpe: Tokenizer):
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"items": deep}
    some: dict[str, Any] = {}
    for _ in range(400):
        some = {"items": some}
    for schema in (deep, "[" * 100_000, some):
        with pytest.raises(ConfigError, match="guided.json_schema"):
            Vocabulary.of(bpe).matcher("json_schema", schema)


def test_without_llguidance_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match=r"danlu\[guided\]"):
        Vocabulary.of(train_tokenizer(couplets(5), TokenizerConfig(kind="char")))


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = pydantic.Field(ge=1, le=9)


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    puppies: "list[Dog]"


class Owner(pydantic.BaseModel):
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")] | None
    name: str | None = None


def test_schemas_as_pydantic_writes_them(bpe: Tokenizer):
    """A union told apart by a field is `oneOf` over references."""
    schema = Owner.model_json_schema()
    dog = '{"kind": "dog", "puppies": [{"kind": "dog", "puppies": []}]}'
    for answer in ('{"pet": null}', '{"pet": {"kind": "cat", "lives": 9}, "name": "春"}', f'{{"pet": {dog}}}'):
        Owner.model_validate_json(answer)
        matcher = Vocabulary.of(bpe).matcher("json_schema", schema)
        assert matcher.consume_tokens(bpe.encode(answer))
        assert matcher.is_accepting()
    matcher = Vocabulary.of(bpe).matcher("json_schema", schema)
    assert not matcher.consume_tokens(bpe.encode('{"pet": {"kind": "cat", "puppies"'))


def test_a_union_that_may_overlap_is_refused(bpe: Tokenizer):
    schema = {"$defs": {"a/b": {"type": "string"}}, "oneOf": [{"$ref": "#/$defs/a~1b"}, {"const": "x"}]}
    with pytest.raises(ConfigError, match="#: oneOf.*anyOf"):
        Vocabulary.of(bpe).matcher("json_schema", schema)
    schema["oneOf"][1] = {"const": 1}
    assert Vocabulary.of(bpe).matcher("json_schema", schema).consume_tokens(bpe.encode('"y"'))


def test_a_property_comes_once(bpe: Tokenizer):
    schema = {"properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}, "type": "object"}
    for answer, can in (
        ('{"a":1,"b":"x"}', True),
        ('{"a":1,"a":"x"}', False),
        ('{"\\u0061":"x"}', False),
        ('{"b":1', False),
    ):
        assert Vocabulary.of(bpe).matcher("json_schema", schema).consume_tokens(bpe.encode(answer)) == can


def test_control_characters_can_be_asked_for(bpe: Tokenizer):
    schema = {"enum": ["x\x01", "\\u0001"]}
    for answer in ('"x\\u0001"', '"\\\\u0001"'):
        assert json.loads(answer) in schema["enum"]
        matcher = Vocabulary.of(bpe).matcher("json_schema", schema)
        assert matcher.consume_tokens(bpe.encode(answer))
        assert matcher.is_accepting()
