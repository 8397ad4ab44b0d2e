"""Random tokens under a mask: whatever is said, what was asked for comes out, and an independent judge says so."""

import json
import random
import re
import threading
from collections.abc import Iterator
from typing import Any

import jsonschema
import numpy as np
import pydantic
import pytest
import tokenizers
import torch
from tokenizers import decoders, models

from danlu.core.assets import asset_path
from danlu.core.errors import AssetError, ConfigError, DataError
from danlu.generate.grammar import Vocabulary
from danlu.generate.guided import Guide, Guided, MaskWorker
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tests.conftest import couplets, tiny_decoder

_NAMES = ("name", "age", "价格", "a b", "é", 'quo"te', "back\\slash", "tab\t", "😀", "n_1", "Z-9", "<|im_end|>")
_PATTERNS = (
    "^[a-z]{2,5}$",
    r"^\d{3}-\d{4}$",
    "^(red|green|blue)$",
    "[0-9]+",
    "^[A-Z][a-z]*( [A-Z][a-z]*)?$",
    "^.{1,6}$",
    "^[\\u4e00-\\u9fff]{1,3}$",
    "^a+b?$",
    '"\\\\',
)
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")
_VALUES = (None, True, 3, -2.5, "", [1, "a"], {"k": []}, *_NAMES)


# --- schemas ------------------------------------------------------------------------------------------------------


def random_schema(draw: random.Random, depth: int = 3) -> dict[str, Any]:
    """A satisfiable schema, nested `depth` deep at most."""
    leaves = [_string, _integer, _number, _value]
    return draw.choice(leaves * 2 + [_object, _array, _either] * 4 if depth else leaves)(draw, depth)


def _bounds(draw: random.Random, names: tuple[str, str], low: Any, high: Any) -> dict[str, Any]:
    return {name: value for name, value in zip(names, (low, high), strict=True) if draw.random() < 0.6}


def _string(draw: random.Random, depth: int) -> dict[str, Any]:
    low = draw.randint(0, 4)
    rules = (
        _bounds(draw, ("minLength", "maxLength"), low, low + draw.randint(0, 5)),
        {"pattern": draw.choice(_PATTERNS)},
        {"format": draw.choice(_FORMATS)},
    )
    return {"type": "string", **draw.choice(rules)}


def _integer(draw: random.Random, depth: int) -> dict[str, Any]:
    low = draw.randint(-1000, 1000)
    names = draw.choice((("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")))
    found = {"type": "integer", **_bounds(draw, names, low, low + draw.randint(2, 2000))}
    return found if len(found) > 1 else {**found, "multipleOf": draw.randint(2, 12)}


def _number(draw: random.Random, depth: int) -> dict[str, Any]:
    low = draw.randint(-4000, 4000) / 8
    names = draw.choice((("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")))
    return {"type": "number", **_bounds(draw, names, low, low + draw.randint(1, 4000) / 8)}


def _value(draw: random.Random, depth: int) -> dict[str, Any]:
    some = [draw.choice(_VALUES) for _ in range(draw.randint(1, 4))]
    return draw.choice(({"enum": some}, {"const": some[0]}, {"type": draw.choice(("boolean", "null"))}))


def _object(draw: random.Random, depth: int) -> dict[str, Any]:
    names = draw.sample(_NAMES, draw.randint(0, 4))
    return {
        "type": "object",
        "properties": {name: random_schema(draw, depth - 1) for name in names},
        "required": [name for name in names if draw.random() < 0.5],
        **draw.choice(({}, {"additionalProperties": False}, {"additionalProperties": random_schema(draw, 0)})),
    }


def _array(draw: random.Random, depth: int) -> dict[str, Any]:
    low = draw.randint(0, 2)
    found = {"type": "array", "items": random_schema(draw, depth - 1)}
    if draw.random() < 0.2:
        found["prefixItems"] = [random_schema(draw, 0) for _ in range(draw.randint(1, 2))]
    return found | _bounds(draw, ("minItems", "maxItems"), low, low + 2)


def _either(draw: random.Random, depth: int) -> dict[str, Any]:
    if depth == 3 and draw.random() < 0.3:
        following = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
        return {"type": "object", "properties": {"v": random_schema(draw, 0), "next": following}, "required": ["next"]}
    return {"anyOf": [random_schema(draw, depth - 1) for _ in range(draw.randint(1, 3))]}


# --- a speaker without a mind -------------------------------------------------------------------------------------


class Babbler:
    """Says random tokens that the guide allows, rather those that lead to an end."""

    def __init__(self, tokenizer: Tokenizer, seed: int = 0) -> None:
        self.tokenizer, self.tokens = tokenizer, Vocabulary.of(tokenizer).tokens
        self.draw = np.random.default_rng(seed)
        closing = {b'"', b"}", b"]", b'"}', b'"]', b"null", b"0"}
        self.liking = np.array([self._liking(token, token in closing) for token in self.tokens])
        self.liking[list(tokenizer.stop_ids)] = 200
        self.closing = self.liking * (np.array([t in closing for t in self.tokens]) | (self.liking == 200))

    @staticmethod
    def _liking(token: bytes, closing: bool) -> float:
        return (30 if closing else 0.02 if token.isspace() else 1) / (1 + len(token))

    def say(self, guide: Guide, at_most: int = 300) -> str | None:
        """The answer; None when it has no end."""
        said: list[int] = []
        for step in range(at_most):
            allowed = guide.allowed().numpy()
            liking = self.closing if step > at_most / 2 and (allowed & (self.closing > 0)).any() else self.liking
            weights = np.where(allowed, liking, 0)
            token = int(self.draw.choice(len(weights), p=weights / weights.sum()))
            guide.advance(token)
            if token in self.tokenizer.stop_ids:
                assert guide.finished
                return b"".join(self.tokens[token] for token in said).decode()
            said.append(token)
        return None


def keeps_schemas(tokenizer: Tokenizer, number: int, first: int = 0) -> int:
    """Say an answer to each of `number` random schemas; every one that ends is valid. How many did."""
    babbler, ended = Babbler(tokenizer), 0
    for seed in range(first, first + number):
        schema = random_schema(random.Random(seed))
        answer = babbler.say(Guide(Guided(json_schema=schema), tokenizer))
        if answer is not None:
            jsonschema.Draft202012Validator(schema).validate(json.loads(answer))
            ended += 1
    return ended


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    """Characters, and bytes for all others."""
    return train_tokenizer(couplets(300), TokenizerConfig(kind="char"))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    """Byte-level BPE; its tokens cross JSON's marks."""
    draw = random.Random(1)
    texts = [json.dumps({"name": couplets(1, i)[0], "age": draw.randint(0, 99), "tags": ["red"]}) for i in range(300)]
    return train_tokenizer(texts, TokenizerConfig(vocab_size=900))


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    """Characters and nothing for all others."""
    tokens = ["<end>", *dict.fromkeys('abcdeflnrstux 0123456789-.,:{}[]"\\\n春秋')]
    backend = tokenizers.Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(["<end>"])
    return Tokenizer(backend, {"eos_token": "<end>"})


@pytest.fixture(scope="module")
def real() -> Tokenizer:
    try:
        (path,) = asset_path("smollm2-135m-instruct").glob("*.gguf")
    except AssetError as error:
        pytest.skip(str(error))
    return Tokenizer.load(path)


@pytest.fixture
def worker(bpe: Tokenizer) -> Iterator[MaskWorker]:
    made = MaskWorker(bpe.vocab_size + 21)
    yield made
    made.close()


# --- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_random_tokens_keep_random_schemas(kind: str, request: pytest.FixtureRequest):
    assert keeps_schemas(request.getfixturevalue(kind), 60) >= 55


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_random_tokens_keep_a_thousand_random_schemas(kind: str, request: pytest.FixtureRequest):
    assert keeps_schemas(request.getfixturevalue(kind), 1000, first=1000) >= 930


@pytest.mark.slow
def test_a_real_vocabulary_keeps_a_thousand_random_schemas(real: Tokenizer):
    assert keeps_schemas(real, 1000, first=2000) >= 930


REGEXES = (
    r"\d{4}-\d{2}-\d{2}",
    r"^(yes|no|maybe)$",
    r"[a-z]+@[a-z]+\.(com|org)",
    r"#?[0-9a-f]{6}//",
    "春{1,3}[山水]?。",
    r"(?:[A-Z][a-z]{0,3} ){2}\.",
    r"a.b\\c/d",
    r"-?(0|[1-9]\d{0,5})(\.\d{1,3})?",
    r"x?",
)


@pytest.mark.parametrize("kind", ["char", "bpe"])
@pytest.mark.parametrize("regex", REGEXES)
def test_answers_match_a_regular_expression(regex: str, kind: str, request: pytest.FixtureRequest):
    tokenizer = request.getfixturevalue(kind)
    babbler, ended = Babbler(tokenizer), 0
    for _ in range(10):
        answer = babbler.say(Guide(Guided(regex=regex), tokenizer), 200)
        if answer is not None:
            assert re.fullmatch(regex, answer)
            ended += 1
    assert ended >= 8


CHOICES = ("yes", "no", "", "春山", "春", 'say "no"\\', "a.b*c", "<a>/[b]{2}", "one\ntwo\t", "😀|x", "~#&-^$", "(?i)")


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_answers_are_choices_and_every_choice_can_come(kind: str, request: pytest.FixtureRequest):
    tokenizer = request.getfixturevalue(kind)
    babbler = Babbler(tokenizer)
    babbler.liking[list(tokenizer.stop_ids)] = 1
    said = {babbler.say(Guide(Guided(choice=CHOICES), tokenizer)) for _ in range(400)}
    assert said == set(CHOICES)


LARK = """
start: sum
sum: product (("+" | "-") product)*
product: NUMBER ("*" NUMBER)*
NUMBER: /[1-9][0-9]?/
"""
GBNF = """
root ::= number (("+" | "-" | "*") number)*
number ::= [1-9] [0-9]?
"""


@pytest.mark.parametrize("grammar", [LARK, GBNF], ids=["lark", "gbnf"])
def test_answers_follow_a_grammar(grammar: str, bpe: Tokenizer):
    babbler = Babbler(bpe)
    answers = [babbler.say(Guide(Guided(grammar=grammar), bpe)) for _ in range(60)]
    assert all(re.fullmatch(r"[1-9]\d?([+*-][1-9]\d?)*", answer) for answer in answers if answer is not None)
    assert len(set(answers) - {None}) > 10


def test_any_json_object(bpe: Tokenizer):
    babbler = Babbler(bpe)
    answers = [babbler.say(Guide(Guided(json_object=True), bpe)) for _ in range(30)]
    found = [json.loads(answer) for answer in answers if answer is not None]
    assert len(found) > 20
    assert all(isinstance(value, dict) for value in found)


def test_blanks_come_to_an_end(bpe: Tokenizer):
    guide = Guide(Guided(json_object=True), bpe)
    guide.advance(bpe.encode("{")[0])
    (blank,) = bpe.encode(" ")
    for _ in range(24):
        guide.advance(blank)
    assert not guide.allowed()[blank]


@pytest.mark.parametrize("seed", range(4))
def test_a_model_of_no_use_answers_in_form(seed: int, bpe: Tokenizer, worker: MaskWorker):
    """Greedy, from random weights, with logits wider than the vocabulary: two rows with and one without a guide."""
    schema = {
        "type": "object",
        "properties": {
            "word": {"type": "string", "maxLength": 6},
            "n": {"type": "integer", "minimum": -9, "maximum": 99},
        },
        "required": ["word", "n"],
        "additionalProperties": False,
    }
    model = tiny_decoder(worker.width, seed=seed, max_position_embeddings=512)
    guides = [Guide(Guided(json_schema=schema), bpe), Guide(Guided(choice=("red", "green")), bpe), None]
    ids = torch.tensor([bpe.encode("n")] * 3)
    answers: list[list[int]] = [[], [], []]
    for _ in range(300):
        pending = worker.start(guides)
        with torch.inference_mode():
            logits = model.logits(model.hidden({"input_ids": ids})[:, -1])
        tokens = logits.masked_fill(~pending.result(), float("-inf")).argmax(-1)
        assert tokens[2] == logits[2].argmax()
        for guide, answer, token in zip(guides, answers, tokens.tolist(), strict=True):
            if guide and not guide.finished:
                guide.advance(token)
                answer.append(token)
        if all(guide.finished for guide in guides if guide):
            break
        ids = torch.cat([ids, tokens[:, None]], 1)
    said, choice, _ = (bpe.decode(answer) for answer in answers)
    jsonschema.validate(json.loads(said), schema)
    assert choice in ("red", "green")


# --- the mask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_the_mask_is_every_token_that_some_answer_has_next(kind: str, request: pytest.FixtureRequest):
    """Against enumeration: the answers are few, so each token can be tried against each of them."""
    tokenizer = request.getfixturevalue(kind)
    answers = [b"red", b"reed", "春山".encode(), "春水来".encode(), b'"name": 1', b""]
    tokens, special = Vocabulary.of(tokenizer).tokens, tokenizer.special_ids
    draw = random.Random(0)
    for _ in range(40):
        guide = Guide(Guided(choice=[answer.decode() for answer in answers]), tokenizer)
        said = b""
        while True:
            expected = {
                number
                for number, token in enumerate(tokens)
                if token and number not in special and any(answer.startswith(said + token) for answer in answers)
            }
            expected |= set(tokenizer.stop_ids) if said in answers else set()
            assert set(guide.allowed().nonzero().flatten().tolist()) == expected
            assert guide.complete == (said in answers)
            assert guide.finished == (expected == set(tokenizer.stop_ids))
            token = draw.choice(sorted(expected))
            guide.advance(token)
            if token in tokenizer.stop_ids:
                break
            said += tokens[token]
        assert guide.finished
        assert set(guide.allowed().nonzero().flatten().tolist()) == set(tokenizer.stop_ids)


def test_a_token_that_may_not_come_changes_nothing(bpe: Tokenizer):
    guide = Guide(Guided(regex="[ab]{3}"), bpe)
    a, x = bpe.encode("a")[0], bpe.encode("x")[0]
    guide.advance(a)
    before = guide.allowed()
    for token in (x, bpe.eos_id, bpe.vocab_size + 7):
        with pytest.raises(DataError, match=f"{token} .*'a'"):
            guide.advance(token)
        assert torch.equal(guide.allowed(), before)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_rollback_is_as_if_it_had_not_been_said(kind: str, request: pytest.FixtureRequest):
    tokenizer = request.getfixturevalue(kind)
    babbler, draw = Babbler(tokenizer), random.Random(3)
    backs = 0
    for seed in range(30):
        guide = Guide(Guided(json_schema=random_schema(random.Random(seed))), tokenizer)
        masks, said = [guide.allowed()], []
        for _ in range(80):
            weights = masks[-1].numpy() * babbler.liking
            token = int(babbler.draw.choice(len(weights), p=weights / weights.sum()))
            guide.advance(token)
            said.append(token)
            masks.append(guide.allowed())
            if token in tokenizer.stop_ids or draw.random() < 0.2:
                back = draw.randint(1, len(said))
                guide.rollback(back)
                del said[len(said) - back :], masks[len(masks) - back :]
                guide.rollback(0)
                assert torch.equal(guide.allowed(), masks[-1])
                backs += 1
    assert backs > 200
    with pytest.raises(ValueError, match="cannot take back 9999"):
        guide.rollback(9999)


# --- many rows, in a thread ---------------------------------------------------------------------------------------


def test_all_rows_at_once_are_the_rows_one_by_one(bpe: Tokenizer, worker: MaskWorker):
    wishes = [Guided(regex="[0-9]+"), Guided(json_object=True), Guided(choice=("red", "green"))]
    guides = [Guide(wish, bpe) for wish in wishes]
    mask = worker.start([guides[0], None, *guides[1:]]).result()
    assert mask.shape == (4, bpe.vocab_size + 21)
    assert mask.dtype == torch.bool
    assert mask[1].all()
    for row, guide in zip((0, 2, 3), guides, strict=True):
        assert torch.equal(mask[row, : bpe.vocab_size], guide.allowed())
        assert not mask[row, bpe.vocab_size :].any()


def test_rows_of_a_draft_are_the_masks_on_its_way(bpe: Tokenizer, worker: MaskWorker):
    guide, other = Guide(Guided(regex="(ab)*c?"), bpe), Guide(Guided(choice=("ab",)), bpe)
    a, b, c, x = (bpe.encode(letter)[0] for letter in "abcx")
    for draft in ([a, b, c], [a, x, b], [c, bpe.eos_id, a], [], [bpe.eos_id]):
        mask = worker.start([other, guide], [[], draft]).result()[:, : bpe.vocab_size]
        assert len(mask) == len(draft) + 2
        assert torch.equal(mask[0], other.allowed())
        alone, open_ = Guide(Guided(regex="(ab)*c?"), bpe), True
        for row, token in zip(mask[1:], [*draft, None], strict=True):
            assert torch.equal(row, alone.allowed() if open_ else torch.ones_like(row))
            open_ = open_ and token is not None and bool(row[token]) and token not in bpe.stop_ids
            if open_ and token is not None:
                alone.advance(token)
        assert torch.equal(guide.allowed(), Guide(Guided(regex="(ab)*c?"), bpe).allowed())


def test_masks_are_computed_beside_other_work(bpe: Tokenizer, worker: MaskWorker, monkeypatch: pytest.MonkeyPatch):
    """`start` comes back while the thread is still held up."""
    go, threads, plain = threading.Event(), set(), Guide.fill

    def held(guide: Guide, row: np.ndarray) -> None:
        threads.add(threading.current_thread())
        assert go.wait(60)
        plain(guide, row)

    monkeypatch.setattr(Guide, "fill", held)
    pending = worker.start([Guide(Guided(regex="[ab]"), bpe) for _ in range(3)])
    go.set()
    assert pending.result().sum() == 6
    assert threads
    assert threading.current_thread() not in threads


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_mask_on_a_gpu_is_that_on_the_cpu(bpe: Tokenizer, worker: MaskWorker):
    guides = [Guide(Guided(json_object=True), bpe), None]
    there = MaskWorker(worker.width, "cuda")
    mask = there.start(guides).result()
    there.close()
    assert mask.is_cuda
    assert torch.equal(mask.cpu(), worker.start(guides).result())


# --- what cannot be said ------------------------------------------------------------------------------------------


def test_characters_that_the_vocabulary_lacks_are_not_said(letters: Tokenizer):
    babbler = Babbler(letters)
    babbler.liking[letters.eos_id] = 1
    regexes = {"aé|ab": {"ab"}, "[春夏秋冬]": {"春", "秋"}, "(é|x|ü|rüst)c?": {"x", "xc"}}
    for regex, expected in regexes.items():
        assert {babbler.say(Guide(Guided(regex=regex), letters)) for _ in range(40)} == expected
    assert {babbler.say(Guide(Guided(choice=("dé", "de", "夏")), letters)) for _ in range(20)} == {"de"}
    schema = {"type": "object", "properties": {"a": {"enum": ["dé", "de", "夏"]}}, "required": ["a"]}
    answers = [babbler.say(Guide(Guided(json_schema=schema), letters)) for _ in range(40)]
    assert {json.loads(answer)["a"] for answer in answers if answer is not None} == {"de"}


@pytest.mark.parametrize("guided", [{"regex": "é+"}, {"choice": ["é", "夏"]}, {"grammar": 'start: "é"'}])
def test_nothing_that_can_be_said_is_an_error(guided: dict[str, Any], letters: Tokenizer):
    with pytest.raises(ConfigError, match=rf"guided\.{next(iter(guided))}: no answer"):
        Guide(Guided(**guided), letters)


def test_a_dead_end_ends_one_row_only(letters: Tokenizer):
    guided = Guided(json_schema={"type": "object", "properties": {"a": {"const": "dé"}}, "required": ["a"]})
    guide, other = Guide(guided, letters), Guide(Guided(regex="a+"), letters)
    for letter in '{"a":"d':
        guide.advance(letters.encode(letter)[0])
    worker = MaskWorker(letters.vocab_size)
    mask = worker.start([guide, other]).result()
    assert mask[0].nonzero().flatten().tolist() == list(letters.stop_ids)
    assert torch.equal(mask[1], other.allowed())
    assert guide.error is not None
    assert '{"a":"d' in str(guide.error)
    assert not guide.complete
    with pytest.raises(DataError, match="no token of this vocabulary continues"):
        guide.allowed()
    guide.rollback(3)  # before the value: the draft is refused, the guide goes on
    assert guide.error is None
    mask = worker.start([guide], [letters.encode(':"d')]).result()
    worker.close()
    assert guide.error is None
    assert mask[3].nonzero().flatten().tolist() == list(letters.stop_ids)
    assert guide.allowed()[letters.encode(":")[0]]


def test_what_is_too_complex_is_an_error_of_one_row(bpe: Tokenizer):
    """Each of a thousand optional properties may be the first: more than the matcher will follow at once."""
    properties = {f"p{number}": {"type": "null"} for number in range(1000)}
    guide = Guide(Guided(json_schema={"type": "object", "properties": properties}), bpe)
    (brace,) = bpe.encode("{")
    rows = np.empty((2, -(-bpe.vocab_size // 32)), np.int32)
    guide.fill_draft(rows, [brace])
    assert guide.error is None
    assert guide.allowed()[brace]
    with pytest.raises(DataError, match="too complex"):
        guide.advance(brace)
    assert guide.error is not None


# --- settings -----------------------------------------------------------------------------------------------------


def test_exactly_one_constraint():
    assert Guided(json_schema={}).kind == "json_schema"
    for values in ({}, {"regex": "a", "json_object": True}, {"choice": []}):
        with pytest.raises(pydantic.ValidationError):
            Guided(**values)
    with pytest.raises(ConfigError, match="request: .*exactly one of json_schema, .*found regex, json_object"):
        Guided.parse({"regex": "a", "json_object": True}, "request")


def test_a_schema_may_be_text(bpe: Tokenizer):
    schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 1}
    one, other = (Guide(Guided(json_schema=given), bpe) for given in (schema, json.dumps(schema)))
    assert torch.equal(one.allowed(), other.allowed())


def test_a_model_with_another_tokenizer_is_not_confused(char: Tokenizer, bpe: Tokenizer):
    guided = Guided(regex="春+")
    for tokenizer in (char, bpe, char):
        guide = Guide(guided, tokenizer)
        spring = tokenizer.encode("春")[0]
        assert set(guide.allowed().nonzero().flatten().tolist()) >= {spring}
        assert len(guide.allowed()) == tokenizer.vocab_size
