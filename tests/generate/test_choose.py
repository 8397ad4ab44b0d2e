"""Against transformers' processors, row by row and from all ids again at each step, as nobody should do it."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from danlu.core.errors import ConfigError
from danlu.generate import choose
from danlu.generate.choose import Chooser, Row, forbidden_next
from danlu.generate.params import SamplingParams
from danlu.tokenizer import Tokenizer

VOCAB, END = 24, 0
BAD = ((7,), (3, 4), (5, 5, 6))

WISHES: list[dict[str, Any]] = [
    {"temperature": 0},
    {},
    {"repetition_penalty": 1.6, "temperature": 0},
    {"presence_penalty": 1.5, "frequency_penalty": 0.7, "top_k": 6},
    {"logit_bias": {"9": 3.0, "10": -100.0}, "repetition_penalty": 0.8, "top_p": 0.8},
    {"min_tokens": 6, "logit_bias": {"0": 20.0}, "typical_p": 0.7},
    {"frequency_penalty": -1.0, "min_p": 0.1, "temperature": 1.7, "top_k": 9},
    {"temperature": 0, "min_tokens": 3, "logit_bias": {"0": 50.0}, "presence_penalty": 2.0},
]


def a_row(number: int, prompt: list[int], **more: Any) -> Row:
    params = SamplingParams(**{"temperature": 1.0, "seed": number, **WISHES[number % len(WISHES)], **more})
    generator = torch.Generator().manual_seed(number)
    bad = BAD if number % 2 else ()
    return Row(params, list(prompt), len(prompt), generator, (END,), bad)


def naive(logits: Tensor, row: Row, generator: torch.Generator) -> int:
    """The token of one row: bias, bad words, least length, penalties, warpers, draw."""
    own, ids = row.params, torch.tensor([row.ids])
    answer = row.ids[row.prompt_tokens :]
    logits = logits[None].clone()
    processors: list[Any] = []
    if own.biases:
        processors.append(transformers.SequenceBiasLogitsProcessor({(t,): b for t, b in own.biases.items()}))
    if row.bad_words:
        processors.append(transformers.NoBadWordsLogitsProcessor([list(word) for word in row.bad_words], [END]))
    if own.min_tokens:
        processors.append(transformers.MinNewTokensLengthLogitsProcessor(row.prompt_tokens, own.min_tokens, END))
    processors.append(transformers.RepetitionPenaltyLogitsProcessor(own.repetition_penalty))
    for processor in processors:
        logits = processor(ids, logits)
    for token in set(answer):
        logits[0, token] -= own.presence_penalty + own.frequency_penalty * answer.count(token)
    if own.temperature == 0:
        return int(logits.argmax())
    warpers: list[Any] = [transformers.TemperatureLogitsWarper(float(own.temperature))]
    warpers += [transformers.TopKLogitsWarper(own.top_k)] if own.top_k else []
    warpers += [transformers.TopPLogitsWarper(own.top_p), transformers.MinPLogitsWarper(own.min_p)]
    warpers += [transformers.TypicalLogitsWarper(own.typical_p)] if own.typical_p < 1 else []
    for warper in warpers:
        logits = warper(ids, logits)
    passed = logits.softmax(-1).double().cumsum(-1)[0] > torch.rand(1, generator=generator).double()
    return int(passed.nonzero()[0])


def test_every_row_gets_what_it_would_get_alone_while_rows_come_and_go():
    draw = torch.Generator().manual_seed(5)
    chooser, rows, twins = Chooser(), [], {}
    for step in range(40):
        if step % 3 == 0:  # one comes
            number = step // 3
            rows.append(a_row(number, torch.randint(1, VOCAB, (5,), generator=draw).tolist()))
            twins[rows[-1]] = torch.Generator().manual_seed(number)
        if step % 7 == 6:  # one leaves, the last takes its place
            rows[1] = rows[-1]
            rows.pop()
        logits = torch.randn(len(rows), VOCAB, generator=draw) * 2
        before = logits.clone()
        wanted = [naive(own, row, twins[row]) for own, row in zip(logits, rows, strict=True)]
        assert chooser.choose(logits, rows).tokens.tolist() == wanted, step
        assert torch.equal(logits, before)
        for row, token in zip(rows, wanted, strict=True):
            row.ids.append(token)
    assert len(rows) > len(WISHES) / 2


def test_nothing_is_built_twice_and_plain_greedy_is_one_argmax(monkeypatch: pytest.MonkeyPatch):
    chooser, rows = Chooser(), [a_row(2, [1, 2]), a_row(3, [1, 2])]
    logits = torch.randn(2, VOCAB)
    chooser.choose(logits, rows)
    batch = chooser._batch
    assert batch is not None
    history = batch.history
    assert history is not None
    for row in rows:
        row.ids.append(8)
    chooser.choose(logits, rows)
    assert chooser._batch is batch
    assert batch.history is history
    assert history.times[history.token == 8].tolist() == [1, 1]

    monkeypatch.setattr(choose, "sample", None)
    plain = [a_row(0, [1]), a_row(0, [2])]
    assert torch.equal(chooser.choose(logits, plain).tokens, logits.argmax(-1))
    assert chooser._batch is not None
    assert chooser._batch.edited(logits) is logits


def test_an_answer_that_is_set_back_is_counted_again():
    """A speculative engine takes tokens back."""
    chooser, row = Chooser(), a_row(0, [1, 2], presence_penalty=2.0, repetition_penalty=3.0)
    logits = torch.zeros(1, VOCAB)
    row.ids += [5, 6, 7]
    chooser.choose(logits, [row])
    row.ids[3:] = []
    logits[0, 6], logits[0, 5] = 1.0, 8.9
    assert chooser.choose(logits, [row]).tokens.item() == 6  # 5 has 8.9 / 3 - 2 left, 6 is free again


def test_what_is_not_allowed_is_never_chosen():
    torch.manual_seed(0)
    logits = torch.randn(4, VOCAB)
    allowed = torch.zeros(4, VOCAB, dtype=torch.bool)
    allowed[:, [2, 3]] = True
    rows = [a_row(number, [1]) for number in range(4)]
    for _ in range(10):
        assert set(Chooser().choose(logits, rows, allowed).tokens.tolist()) <= {2, 3}
    best = Chooser().choose(logits, [a_row(0, [1]) for _ in rows], allowed).tokens
    assert torch.equal(best, logits[:, 2:4].argmax(-1) + 2)


def test_a_ban_gives_way_when_nothing_else_is_allowed():
    """A grammar that is complete allows the end only, whatever min_tokens says."""
    logits, allowed = torch.randn(2, VOCAB), torch.zeros(2, VOCAB, dtype=torch.bool)
    allowed[0, END] = allowed[1, 7] = allowed[1, END] = True
    rows = [a_row(0, [1], min_tokens=5), a_row(1, [1], min_tokens=5, temperature=0)]
    rows[1].bad_words = ()
    assert Chooser().choose(logits, rows, allowed).tokens.tolist() == [END, 7]


def test_logprobs_are_the_models_own():
    torch.manual_seed(0)
    logits = torch.randn(5, VOCAB) * 2
    rows = [a_row(1, [1]), *(a_row(0, [1, 2], logprobs=n, presence_penalty=2.0) for n in (0, 3, VOCAB + 5))]
    rows.append(a_row(1, [1], logprobs=2))
    rows[2].ids += [int(logits[2].argmax())]  # penalised, so another is chosen than the likeliest
    chosen = Chooser().choose(logits, rows)
    assert chosen.logprobs[0] is None
    reference = logits.log_softmax(-1)
    for row, (told, token) in enumerate(zip(chosen.logprobs, chosen.tokens.tolist(), strict=True)):
        if told is None:
            continue
        assert told.id == token
        assert told.logprob == pytest.approx(reference[row, token].item(), abs=1e-5)
        values, ids = reference[row].topk(min(rows[row].params.logprobs or 0, VOCAB))
        assert [own for own, _ in told.top] == ids.tolist()
        assert [log for _, log in told.top] == pytest.approx(values.tolist(), abs=1e-5)
    told = chosen.logprobs[2]
    assert told is not None
    assert told.top[0][0] != told.id


def test_a_new_row_knows_its_stop_tokens_and_bad_words(tokenizer: Tokenizer):
    vocab = tokenizer.vocab_size
    ids = tokenizer.encode("春山")
    row = Row.of(SamplingParams(stop_token_ids=(9,), bad_words=("山水", "花"), min_tokens=1), ids, tokenizer, vocab)
    assert row.stop_ids == (*tokenizer.stop_ids, 9)
    flower, (mountain, water) = tokenizer.encode("花"), tokenizer.encode("山水")
    assert set(forbidden_next(row)) == {*flower, water, *row.stop_ids}
    row.ids.append(mountain)
    assert set(forbidden_next(row)) == {*flower, water}
    row.ids.append(water)
    assert set(forbidden_next(row)) == set(flower)
    open_end = Row.of(SamplingParams(stop_token_ids=(9,), ignore_eos=True), ids, tokenizer, vocab)
    assert open_end.stop_ids == (9,)
    numbers = [Row.of(SamplingParams(seed=4), ids, tokenizer, vocab).generator.initial_seed() for _ in range(2)]
    assert numbers == [4, 4]


@pytest.mark.parametrize("name", ["logit_bias", "stop_token_ids"])
def test_a_token_that_is_not_there_is_refused(tokenizer: Tokenizer, name: str):
    vocab = tokenizer.vocab_size
    told: dict[str, Any] = {"logit_bias": {str(vocab): 1.0}, "stop_token_ids": (vocab,)}
    params = SamplingParams(**{name: told[name]})
    with pytest.raises(ConfigError, match=f"{name}: there is no token {vocab}") as caught:
        Row.of(params, [1], tokenizer, vocab)
    assert str(vocab - 1) in caught.value.do
    assert Row.of(params, [1], tokenizer, vocab + 1).prompt_tokens == 1
