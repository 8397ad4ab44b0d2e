import pytest

from danlu.core.errors import ConfigError
from danlu.generate.params import Completion, SamplingParams
from danlu.generate.several import one_each, spread, the_best


def test_a_common_seed_becomes_one_for_each_prompt():
    assert [own.seed for own in spread(SamplingParams(seed=5), 3)] == [5, 6, 7]
    assert [own.seed for own in spread(SamplingParams(), 2)] == [None, None]
    assert spread([SamplingParams(seed=1), SamplingParams(seed=1)], 2)[1].seed == 1
    with pytest.raises(ConfigError):
        spread([SamplingParams()], 2)


def test_each_answer_has_settings_of_its_own():
    params = SamplingParams(n=2, best_of=4, seed=3)
    wishes = one_each(params)
    assert len(wishes) == 4
    assert len({wish.seed for wish in wishes}) == 4
    assert all((wish.n, wish.best_of, wish.logprobs) == (1, None, 0) for wish in wishes)
    assert one_each(SamplingParams(seed=3))[0].seed == 3
    assert [wish.seed for wish in one_each(SamplingParams(n=2))] == [None, None]
    neighbours = [wish.seed for own in spread(SamplingParams(n=3, seed=1), 4) for wish in one_each(own)]
    assert len(set(neighbours)) == 12


def test_the_likeliest_are_given():
    answers = [Completion(text, [1], 1, "stop", cumulative_logprob=log, logprobs=[]) for text, log in zip("abc", (-3, -1, -2), strict=True)]  # fmt: skip
    best = the_best(answers, SamplingParams(n=2, best_of=3))
    assert [answer.text for answer in best] == ["b", "c"]
    assert best[0].logprobs is None
    assert the_best(answers, SamplingParams(n=3)) == answers
