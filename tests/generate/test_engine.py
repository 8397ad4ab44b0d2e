import pytest
import torch

from danlu.core.errors import ConfigError, ContextError
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import SamplingParams
from tests.conftest import tiny_decoder

GREEDY = SamplingParams(temperature=0, max_tokens=12)
PROMPTS = ["春", "夏山来，秋水去", "冬云生。晨花", "暮风", "春月暗，夏花明，秋山来"]


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, EngineConfig(max_rows=3))


def naive(model, tokenizer, ids: list[int], number: int) -> list[int]:
    """Greedy decoding without a cache: the whole sequence again for every token."""
    ids = list(ids)
    start = len(ids)
    for _ in range(number):
        with torch.no_grad():
            best = int(model({"input_ids": torch.tensor([ids])})[0, -1].argmax())
        if best in tokenizer.stop_ids:
            break
        ids.append(best)
    return ids[start:]


def test_greedy_equals_naive_alone_and_with_more_requests_than_rows(engine, model, tokenizer):
    wanted = [naive(model, tokenizer, tokenizer.encode(prompt), 12) for prompt in PROMPTS]
    assert [answer.ids for answer in engine.generate(PROMPTS, GREEDY)] == wanted
    assert [engine.generate([prompt], GREEDY)[0].ids for prompt in PROMPTS] == wanted


def test_equals_transformers_generate(folder, model, tokenizer):
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer.encode(PROMPTS[1])
    told = theirs.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
    mine = Engine.open(folder).generate([PROMPTS[1]], GREEDY)[0].ids
    assert told[: len(mine)] == mine


def test_a_request_that_joins_late_changes_nothing(engine, model, tokenizer):
    first = engine.add(PROMPTS[0], GREEDY)
    done = {}
    for _ in range(4):
        done |= {e.request: e.completion for e in engine.step() if e.completion}
    second = engine.add(PROMPTS[4], GREEDY)
    while engine.busy:
        done |= {e.request: e.completion for e in engine.step() if e.completion}
    assert done[first].ids == naive(model, tokenizer, tokenizer.encode(PROMPTS[0]), 12)
    assert done[second].ids == naive(model, tokenizer, tokenizer.encode(PROMPTS[4]), 12)


def test_a_seed_gives_the_same_text_whatever_else_is_in_the_batch(engine):
    wish = SamplingParams(temperature=1.0, max_tokens=10, seed=7)
    alone = engine.generate(["春"], wish)[0].ids
    others = SamplingParams(temperature=1.3, max_tokens=20)
    together = engine.generate(["夏山", "春", "秋"], [others, wish, others])[1].ids
    assert together == alone
    assert engine.generate(["春"], wish)[0].ids == alone
    assert engine.generate(["春"], wish.model_copy(update={"seed": 8}))[0].ids != alone


def test_one_seed_for_many_prompts_still_gives_different_answers(engine):
    answers = engine.generate(["春"] * 4, SamplingParams(temperature=1.0, max_tokens=10, seed=7))
    assert len({tuple(answer.ids) for answer in answers}) > 1


def test_streamed_pieces_are_the_whole(engine):
    wish = SamplingParams(temperature=1.0, max_tokens=20, seed=3)
    whole = engine.generate(["春"], wish)[0].text
    assert "".join(engine.stream("春", wish)) == whole


def test_stop_strings_end_the_text_and_are_never_shown_in_part(engine):
    wish = SamplingParams(temperature=1.0, max_tokens=30, seed=3)
    whole = engine.generate(["春"], wish)[0].text
    stop = whole[6:9]  # three characters, so it crosses tokens
    stopped = wish.model_copy(update={"stop": (stop, "never")})
    pieces = list(engine.stream("春", stopped))
    assert "".join(pieces) == whole[: whole.index(stop)]
    answer = engine.generate(["春"], stopped)[0]
    assert answer.finish_reason == "stop"
    assert answer.text == whole[: whole.index(stop)]


def test_finish_reason_and_lengths(engine):
    answer = engine.generate(["春"], SamplingParams(temperature=1.0, max_tokens=5, seed=1))[0]
    assert answer.prompt_tokens == 1
    assert (answer.finish_reason, len(answer.ids)) == ("length", 5) or answer.finish_reason == "stop"


def test_repetition_penalty_forbids_when_it_is_huge(model, tokenizer):
    answer = Engine(model, tokenizer).generate(["春"], GREEDY.model_copy(update={"repetition_penalty": 1e6}))[0]
    assert len(set(answer.ids)) == len(answer.ids)
    assert tokenizer.encode("春")[0] not in answer.ids


def test_cancel_frees_the_row_and_others_go_on(engine, model, tokenizer):
    numbers = [engine.add(prompt, GREEDY) for prompt in PROMPTS[:4]]  # one more than rows
    engine.step()
    engine.cancel(numbers[0])
    done = {}
    while engine.busy:
        done |= {e.request: e.completion for e in engine.step() if e.completion}
    assert set(done) == set(numbers[1:])
    for number, prompt in zip(numbers[1:], PROMPTS[1:4], strict=True):
        assert done[number].ids == naive(model, tokenizer, tokenizer.encode(prompt), 12)


def test_leaving_a_stream_cancels_it(engine):
    stream = engine.stream("春", SamplingParams(max_tokens=60, temperature=1.0, seed=0))
    next(stream)
    stream.close()
    engine.step()
    assert not engine.busy


def test_context_is_respected_and_named(engine, tokenizer):
    context = engine.model.context
    with pytest.raises(ContextError, match=str(context)):
        engine.add("春" * context)
    with pytest.raises(ContextError):
        engine.add("")
    answer = engine.generate(["春" * (context - 3)], SamplingParams(temperature=1, max_tokens=50, seed=0))[0]
    assert len(answer.ids) <= 3


def test_the_cache_grows_without_losing_what_it_holds(model, tokenizer):
    model = tiny_decoder(tokenizer.vocab_size, max_position_embeddings=256)
    engine = Engine(model, tokenizer, EngineConfig(max_rows=2))
    long = "春夏秋冬" * 25
    first = engine.add("夏山", GREEDY)
    engine.step()
    second = engine.add(long, GREEDY)  # needs a larger cache than the first
    done = {}
    while engine.busy:
        done |= {e.request: e.completion for e in engine.step() if e.completion}
    assert done[first].ids == naive(model, tokenizer, tokenizer.encode("夏山"), 12)
    assert done[second].ids == naive(model, tokenizer, tokenizer.encode(long), 12)


def test_chat_messages_are_rendered(engine, tokenizer):
    messages = [{"role": "user", "content": "春"}]
    assert engine.encode(messages) == tokenizer.render(messages, add_generation_prompt=True).ids


def test_sync_uses_the_other_model_at_once(engine, tokenizer):
    other = tiny_decoder(tokenizer.vocab_size, seed=5)
    engine.sync(other)
    assert engine.generate(["春"], GREEDY)[0].ids == naive(other, tokenizer, tokenizer.encode("春"), 12)


def test_wrong_settings_are_told(engine, folder):
    with pytest.raises(ConfigError):
        engine.generate(["春", "夏"], [GREEDY])
    with pytest.raises(ConfigError, match="fp8"):
        Engine.open(folder, EngineConfig(dtype="fp8"))
