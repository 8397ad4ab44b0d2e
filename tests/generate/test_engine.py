import re
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

import numpy as np
import pytest
import torch

from danlu.core.errors import ConfigError, ContextError, DataError
from danlu.core.folder import Lineage
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.guided import Guided
from danlu.generate.params import SamplingParams
from danlu.generate.scheduler import Step
from danlu.models import auto
from danlu.models.packed import PackedDecoder
from tests.conftest import tiny_decoder
from tests.models.test_adapters import lora

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
    assert set(done) == set(numbers)
    assert done[numbers[0]].finish_reason == "cancelled"
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


# What the engine does to be fast changes no answer.

SETTINGS = {
    "plain": EngineConfig(prefix_cache=False),
    "small steps": EngineConfig(step_tokens=3),
    "one row": EngineConfig(max_rows=1),
    "little memory": EngineConfig(cache_tokens=96, step_tokens=16),
    "lookup": EngineConfig(guesses=4),
    "lookup, little memory": EngineConfig(guesses=3, cache_tokens=96, max_rows=5),
}
LONG = ["春夏秋冬" * 5 + "暮", "春夏秋冬" * 5 + "花明", "春夏秋冬" * 5, "山水", "春夏秋冬" * 5 + "花明"]


@pytest.fixture(scope="module")
def packable(tokenizer):
    return tiny_decoder(tokenizer.vocab_size, hidden_size=64, intermediate_size=96, max_position_embeddings=96)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_greedy_is_the_same_under_all_settings(name, packed, packable, tokenizer):
    model = PackedDecoder(packable, "int8") if packed else packable
    wanted = [naive(model, tokenizer, tokenizer.encode(prompt), 30) for prompt in LONG]
    engine = Engine(model, tokenizer, SETTINGS[name])
    for _ in range(2):  # the second time, prefixes are found
        answers = engine.generate(LONG, SamplingParams(temperature=0, max_tokens=30))
        assert [answer.ids for answer in answers] == wanted
    assert engine.scheduler.pool.held == 0


@pytest.mark.parametrize("name", SETTINGS)
def test_a_seed_gives_the_same_text_under_all_settings(name, packable, tokenizer):
    model = PackedDecoder(packable, "int8")
    wish = SamplingParams(temperature=1.2, top_k=20, repetition_penalty=1.3, max_tokens=30, seed=5)
    wanted = [
        Engine(model, tokenizer, SETTINGS["plain"]).generate([prompt], wish.model_copy(update={"seed": 5 + at}))[0].ids
        for at, prompt in enumerate(LONG)
    ]
    assert [answer.ids for answer in Engine(model, tokenizer, SETTINGS[name]).generate(LONG, wish)] == wanted


def test_little_memory_does_preempt(packable, tokenizer):
    engine = Engine(packable, tokenizer, EngineConfig(cache_tokens=64, step_tokens=16))
    seen: list[Step] = []
    engine.watch = seen.append
    engine.generate(["春夏", "山水", "花明", "秋冬"], SamplingParams(temperature=0, max_tokens=40, ignore_eos=True))
    assert any(step.preempted for step in seen)
    assert all(step.pages_held <= step.pages == 4 for step in seen)


def test_a_common_beginning_is_computed_once(packable, tokenizer):
    engine = Engine(packable, tokenizer, EngineConfig())
    seen: list[Step] = []
    engine.watch = seen.append
    prompt = "春夏秋冬" * 10
    engine.generate([prompt + end for end in "山水花明"], SamplingParams(temperature=0, max_tokens=2, ignore_eos=True))
    length = len(tokenizer.encode(prompt + "山"))
    reused = [found for step in seen for _, found in step.admitted]
    assert reused == [0, *[(length - 1) // 16 * 16] * 3]
    prompts_computed = sum(part[2] for step in seen for part in step.parts)
    assert prompts_computed <= length + 3 * (length % 16 + 16) + 8


def test_guesses_are_counted_and_save_steps(packable, tokenizer):
    wish = SamplingParams(temperature=0, max_tokens=60, repetition_penalty=1.0, ignore_eos=True)
    plain, guessing = Engine(packable, tokenizer), Engine(packable, tokenizer, EngineConfig(guesses=4))
    assert plain.generate(["春夏秋冬" * 4], wish)[0].ids == guessing.generate(["春夏秋冬" * 4], wish)[0].ids
    assert 0 < guessing.guessed_right <= guessing.guessed  # a greedy tiny model soon repeats itself
    assert guessing.steps + guessing.guessed_right == plain.steps


def test_a_draft_that_is_the_model_itself_is_always_right(packable, tokenizer):
    model = PackedDecoder(packable, "int8")
    engine = Engine(model, tokenizer, EngineConfig(guesses=3), draft=PackedDecoder(packable, "int8"))
    for temperature in (0.0, 1.0):
        wish = SamplingParams(temperature=temperature, max_tokens=41, seed=1, ignore_eos=True)
        before = engine.steps
        answer = engine.generate(["春夏秋"], wish)[0]
        assert answer.ids == Engine(model, tokenizer).generate(["春夏秋"], wish)[0].ids
        assert engine.steps - before == 1 + 40 // 4
    assert engine.guessed_right == engine.guessed > 0


def test_several_answers_and_the_best_of_them(packable, tokenizer):
    engine = Engine(packable, tokenizer)
    wish = SamplingParams(temperature=1.0, max_tokens=8, seed=3, ignore_eos=True)
    four = engine.generate(["春", "山"], wish.model_copy(update={"n": 2}))
    assert len(four) == 4
    assert four[0].ids != four[1].ids
    told = engine.generate(["春"], wish.model_copy(update={"n": 6, "logprobs": 0}))
    best = engine.generate(["春"], wish.model_copy(update={"n": 2, "best_of": 6}))
    ranked = sorted(told, key=lambda answer: -answer.cumulative_logprob)
    assert [answer.ids for answer in best] == [answer.ids for answer in ranked[:2]]
    assert best[0].logprobs is None


def test_logprobs_are_the_models(packable, tokenizer):
    engine = Engine(packable, tokenizer, EngineConfig(guesses=2))
    answer = engine.generate(
        ["春夏"], SamplingParams(temperature=0.7, seed=1, max_tokens=9, logprobs=3, ignore_eos=True)
    )[0]
    ids = tokenizer.encode("春夏") + answer.ids
    with torch.no_grad():
        logs = packable({"input_ids": torch.tensor([ids])})[0].log_softmax(-1)
    for place, told in enumerate(answer.logprobs):
        row = logs[len(ids) - len(answer.ids) + place - 1]
        assert told.id == answer.ids[place]
        assert told.logprob == pytest.approx(row[told.id].item(), abs=1e-4)
        assert [token for token, _ in told.top] == row.topk(3).indices.tolist()


def test_other_weights_forget_what_was_computed(packable, tokenizer):
    engine = Engine(packable, tokenizer)
    engine.generate(["春夏秋冬" * 6], GREEDY)
    other = tiny_decoder(tokenizer.vocab_size, seed=8, max_position_embeddings=96)
    engine.sync(other)
    assert engine.generate(["春夏秋冬" * 6], GREEDY)[0].ids == naive(
        other, tokenizer, tokenizer.encode("春夏秋冬" * 6), 12
    )


def test_an_error_in_generate_leaves_nothing_behind(packable, tokenizer):
    engine = Engine(packable, tokenizer)
    engine.watch = lambda step: (_ for _ in ()).throw(RuntimeError("stop")) if step.number == 2 else None
    with pytest.raises(RuntimeError):
        engine.generate(["春", "夏"], SamplingParams(max_tokens=50, ignore_eos=True))
    engine.watch = None
    engine.step()
    assert not engine.busy
    assert engine.scheduler.pool.held == 0


@pytest.mark.parametrize("guesses", [0, 3])
def test_guided_answers_keep_their_form_beside_free_ones(packable, tokenizer, guesses):
    engine = Engine(packable, tokenizer, EngineConfig(guesses=guesses))
    free = SamplingParams(temperature=1.0, seed=1, max_tokens=12)
    formed = free.model_copy(update={"guided": Guided(regex="[春夏]{2}，[秋冬]{2}")})
    chosen = free.model_copy(update={"guided": Guided(choice=("山来", "水去"))})
    answers = engine.generate(["春", "春", "春"], [formed, free, chosen])
    assert re.fullmatch("[春夏]{2}，[秋冬]{2}", answers[0].text)
    assert answers[2].text in ("山来", "水去")
    assert [answer.finish_reason for answer in answers[::2]] == ["stop", "stop"]
    assert answers[1].ids == Engine(packable, tokenizer).generate(["春"], [free])[0].ids
    assert "".join(engine.stream("春", formed)) == answers[0].text


def test_a_constraint_that_leads_nowhere_is_an_error_of_that_request_alone(packable, tokenizer, monkeypatch):
    engine = Engine(packable, tokenizer)
    wish = SamplingParams(temperature=1.0, seed=1, max_tokens=12, guided=Guided(regex="春夏秋冬"))
    number = engine.add("春", wish)
    other = engine.add("春", GREEDY)
    monkeypatch.setattr(
        engine.scheduler.waiting[0].guide, "advance", lambda token: (_ for _ in ()).throw(DataError("no way on"))
    )
    done = {}
    while engine.busy:
        done |= {event.request: event.completion for event in engine.step() if event.completion}
    assert (done[number].finish_reason, done[number].error.what) == ("error", "no way on")
    assert done[other].error is None


def test_each_request_has_its_own_adapter(tmp_path, tokenizer):
    """Beside each other, with a prefix in common that must not be shared: as each alone with its own model."""
    base = tmp_path / "model"
    auto.save(
        tiny_decoder(tokenizer.vocab_size, hidden_size=64),
        base,
        lineage=Lineage(verb="test"),
        save_tokenizer=tokenizer.save,
    )
    for seed in (1, 2):
        lora(base, tmp_path / f"lora{seed}", seed)
    config = EngineConfig(adapters={name: tmp_path / name for name in ("lora1", "lora2")})
    engine = Engine.open(base, config)
    wishes = [GREEDY.model_copy(update={"adapter": name}) for name in ("lora1", None, "lora2", "lora1")]
    prompt = "春夏秋冬" * 6
    together = [answer.ids for answer in engine.generate([prompt] * 4, wishes)]
    for wish, ids in zip(wishes, together, strict=True):
        assert Engine.open(base, config).generate([prompt], wish)[0].ids == ids
    assert together[0] == together[3]
    assert len({tuple(ids) for ids in together}) == 3
    with pytest.raises(ConfigError, match="lora1, lora2"):
        engine.add("春", GREEDY.model_copy(update={"adapter": "lora3"}))


def test_streams_and_calls_that_interleave_each_get_their_own(packable, tokenizer):
    engine = Engine(packable, tokenizer)
    wish = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    whole = [answer.text for answer in Engine(packable, tokenizer).generate(["春", "夏山"], wish)]
    pieces = list(zip_longest(engine.stream("春", wish), engine.stream("夏山", wish), fillvalue=""))
    assert ["".join(part) for part in zip(*pieces, strict=True)] == whole
    stream = engine.stream("春", wish)
    begun = next(stream)
    added = engine.add("秋", wish)
    assert engine.generate(["夏山"], wish)[0].text == whole[1]
    assert begun + "".join(stream) == whole[0]
    done = [event.completion for _ in range(30) for event in engine.step() if event.completion]
    assert [len(one.ids) for one in done] == [20], added


@pytest.mark.parametrize("packed", [False, True])
def test_threads_that_generate_at_once_do_not_disturb_each_other(packed, packable, tokenizer):
    model = PackedDecoder(packable, "int8") if packed else packable
    wanted = [answer.ids for answer in Engine(model, tokenizer).generate(LONG, GREEDY)]
    engines = [Engine(model, tokenizer), Engine(model, tokenizer)]
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda at: engines[at % 2].generate([LONG[at % 5]], GREEDY)[0].ids, range(30)))
    assert told == [wanted[at % 5] for at in range(30)]


def test_tokens_that_are_none_are_refused(packable, tokenizer):
    engine = Engine(PackedDecoder(packable, "int8"), tokenizer)
    for wrong in (-1, tokenizer.vocab_size, 10**9):
        with pytest.raises(ContextError, match=str(wrong)):
            engine.generate(["春", [3, wrong]], GREEDY)
    assert engine.generate([np.array([3, 4, 5])], GREEDY)[0].prompt_tokens == 3
    assert not engine.busy


def test_a_request_that_is_cancelled_by_another_ends(packable, tokenizer):
    engine = Engine(packable, tokenizer)
    engine.watch = lambda step: engine.cancel(0) if step.number == 3 else None
    answers = engine.generate(["春", "夏"], SamplingParams(temperature=0, max_tokens=10, ignore_eos=True))
    assert [answer.finish_reason for answer in answers] == ["cancelled", "length"]
    assert 0 < len(answers[0].ids) < 10


def test_positions_that_follow_the_length_are_each_requests_own(tokenizer):
    scaling = {"rope_type": "dynamic", "factor": 4.0}
    model = tiny_decoder(tokenizer.vocab_size, max_position_embeddings=24, rope_scaling=scaling)
    wish = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    prompts = ["春夏" * 25, "春夏", "春夏秋", "春夏" * 10]
    alone = [Engine(model, tokenizer).generate([prompt], wish)[0].ids for prompt in prompts]
    engine = Engine(model, tokenizer, EngineConfig(step_tokens=16))
    for _ in range(2):
        assert [answer.ids for answer in engine.generate(prompts, wish)] == alone


def test_a_draft_of_another_vocabulary_is_refused(packable, tokenizer):
    with pytest.raises(ConfigError, match="17"):
        Engine(packable, tokenizer, EngineConfig(guesses=2), draft=tiny_decoder(17))
    with pytest.raises(ConfigError):
        engine = Engine(packable, tokenizer)
        engine.add("春")
        engine.sync(packable)
