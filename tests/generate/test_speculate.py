import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from danlu.generate.speculate import Lookup
from tests.generate.test_scheduler import request

# More of this is in test_engine.py: that guesses change no answer, with a look-up and with a draft model.


def asked(ids: list[int]):
    one = request(0, 1)
    one.row.ids[:] = ids
    return one


def test_what_followed_the_last_tokens_before():
    assert Lookup().propose([asked([1, 2, 3, 9, 9, 1, 2, 3])], 3) == [[9, 9, 1]]
    assert Lookup().propose([asked([1, 2, 3, 4])], 3) == [[]]


def test_the_longest_match_counts_and_of_those_the_latest():
    assert Lookup().propose([asked([5, 1, 7, 8, 6, 1, 9, 8, 5, 1])], 1) == [[7]]
    assert Lookup().propose([asked([5, 1, 7, 5, 1, 8, 5, 1])], 1) == [[8]]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 4))
def test_kept_up_to_date_equals_from_scratch_and_a_plain_search(ids, most):
    kept, one = Lookup(), asked(ids[:1])
    for end in range(1, len(ids) + 1):
        one.row.ids[:] = ids[:end]
        told = kept.propose([one], most)[0]
        assert told == Lookup().propose([asked(ids[:end])], most)[0]
        wanted: list[int] = []
        for size in range(min(3, end), 0, -1):
            places = [at for at in range(size, end) if ids[at - size : at] == ids[end - size : end]]
            if places:
                wanted = ids[places[-1] : end][:most]
                break
        assert told == wanted


@pytest.mark.parametrize("kind", ["lookup", "draft"])
def test_sampled_text_has_the_same_distribution(kind, model, tokenizer):
    """Chi-square of the second token over 3,000 answers, guessed and not guessed."""
    from scipy.stats import chi2_contingency

    from danlu.generate.engine import Engine, EngineConfig
    from danlu.generate.params import SamplingParams
    from tests.conftest import tiny_decoder

    draft = tiny_decoder(tokenizer.vocab_size, seed=4) if kind == "draft" else None
    engines = [Engine(model, tokenizer), Engine(model, tokenizer, EngineConfig(guesses=2), draft=draft)]
    counts = []
    for seed, engine in enumerate(engines):
        wish = SamplingParams(temperature=1.0, max_tokens=3, ignore_eos=True, seed=seed * 10**6)
        seconds = [answer.ids[1] for answer in engine.generate(["春夏春"] * 3000, wish)]
        counts.append(torch.bincount(torch.tensor(seconds), minlength=tokenizer.vocab_size))
    table = torch.stack(counts)
    often = table.sum(0) >= 20
    table = torch.cat((table[:, often], table[:, ~often].sum(1, keepdim=True)), dim=1)
    table = table[:, table.sum(0) > 0]
    assert chi2_contingency(table.numpy()).pvalue > 0.001
