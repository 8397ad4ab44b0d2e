"""Against naive versions without caches, one answer at a time."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from danlu.core.errors import ConfigError, ContextError
from danlu.generate.contrastive import check_alike, contrastive_decoding, contrastive_search
from danlu.generate.params import SamplingParams
from danlu.models.decoder import Decoder
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tests.conftest import tiny_decoder

GREEDY = SamplingParams(temperature=0, max_tokens=12)


def lively(tokenizer: Tokenizer, seed: int, **shape: Any) -> Decoder:
    """A random model whose next token depends on what came before."""
    model = tiny_decoder(tokenizer.vocab_size, seed=seed, tie_word_embeddings=False, **shape)
    with torch.no_grad():
        model.output_weight.mul_(12)
        model.model.embed_tokens.weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def expert(tokenizer: Tokenizer) -> Decoder:
    return lively(tokenizer, 1)


@pytest.fixture(scope="module")
def amateur(tokenizer: Tokenizer) -> Decoder:
    return lively(tokenizer, 2, num_hidden_layers=1)


@torch.no_grad()
def last_logits(model: Decoder, ids: list[int]) -> Tensor:
    return model({"input_ids": torch.tensor([ids])})[0, -1]


def naive_decoding(
    expert: Decoder, amateur: Decoder, ids: list[int], number: int, alpha: float, beta: float | None, stops: Any
) -> list[int]:
    """Li et al. 2023 eq. 2-4, O'Brien & Lewis 2023 eq. 2, from probabilities, as they are written."""
    answer: list[int] = []
    while len(answer) < number:
        strong, weak = (last_logits(model, ids + answer) for model in (expert, amateur))
        likely = strong.softmax(-1)
        plausible = likely >= alpha * likely.max()
        score = (likely / weak.softmax(-1)).log() if beta is None else (1 + beta) * strong - beta * weak
        token = int(torch.where(plausible, score, -torch.inf).argmax())
        if token in stops:
            break
        answer.append(token)
    return answer


@pytest.mark.parametrize(("alpha", "beta"), [(0.1, None), (0.01, None), (0.1, 0.5), (1e-4, 2.0), (1.0, None)])
def test_decoding_equals_naive(expert, amateur, tokenizer, alpha, beta):
    answers = []
    for prompt in ("春山", "夏", "秋水来，"):
        ids = tokenizer.encode(prompt)
        (told,) = contrastive_decoding(expert, amateur, tokenizer, ids, GREEDY, alpha=alpha, beta=beta)
        assert told.ids == naive_decoding(expert, amateur, ids, 12, alpha, beta, tokenizer.stop_ids)
        assert told.text == tokenizer.decode(told.ids)
        assert told.prompt_tokens == len(ids)
        answers.append(told.ids)
    greedy = [naive_decoding(expert, expert, tokenizer.encode("春山"), 12, 1.0, None, tokenizer.stop_ids)]
    assert (answers[0] == greedy[0]) == (alpha == 1)  # only the best is plausible: that is greedy decoding


def test_a_uniform_amateur_changes_nothing(expert, amateur, tokenizer):
    """Drawn answers too, each with its own seed, whatever ends beside them."""
    with torch.no_grad():
        flat = lively(tokenizer, 3)
        flat.output_weight.zero_()
    ids = tokenizer.encode("春山")
    settings = {"alpha": 1e-9, "beta": None}
    params = SamplingParams(temperature=1.0, max_tokens=15, seed=4, top_k=8)
    (free,) = contrastive_decoding(expert, flat, tokenizer, ids, params, **settings)
    params = params.model_copy(update={"stop_token_ids": (free.ids[3],)})
    together = contrastive_decoding(expert, flat, tokenizer, ids, params.model_copy(update={"n": 5}), **settings)
    assert len(together) == 5
    assert {one.finish_reason for one in together} == {"stop", "length"}
    for number, one in enumerate(together):
        own = params.model_copy(update={"seed": 4 + number})
        (alone,) = contrastive_decoding(expert, flat, tokenizer, ids, own, **settings)
        assert (one.ids, one.text, one.finish_reason) == (alone.ids, alone.text, alone.finish_reason)
    assert len({tuple(one.ids) for one in together}) > 1
    (contrasted,) = contrastive_decoding(expert, amateur, tokenizer, ids, params, alpha=1e-9)
    assert contrasted.ids != together[0].ids


@torch.no_grad()
def naive_search(model: Decoder, ids: list[int], number: int, alpha: float, k: int, stops: Any) -> list[int]:
    """Su et al. 2022, eq. 5, with the whole sequence again for every candidate."""
    answer: list[int] = []
    while len(answer) < number:
        likely = last_logits(model, ids + answer).softmax(-1)
        scores = {}
        for token in likely.topk(k).indices.tolist():
            hidden = model.hidden({"input_ids": torch.tensor([[*ids, *answer, token]])})[0]
            alike = cosine_similarity(hidden[-1:], hidden[:-1]).max().item()
            scores[token] = (1 - alpha) * likely[token].item() - alpha * alike
        token = max(scores, key=lambda one: scores[one])
        if token in stops:
            break
        answer.append(token)
    return answer


@pytest.mark.parametrize(("alpha", "k"), [(0.6, 5), (0.3, 3), (1.0, 8), (0.0, 4), (0.6, 1)])
def test_search_equals_naive(expert, tokenizer, alpha, k):
    params = SamplingParams(max_tokens=8)
    for prompt in ("春", "夏山来，秋水去"):
        ids = tokenizer.encode(prompt)
        told = contrastive_search(expert, tokenizer, ids, params, penalty_alpha=alpha, top_k=k)
        assert told.ids == naive_search(expert, ids, 8, alpha, k, tokenizer.stop_ids)
        if alpha == 0 or k == 1:
            assert told.ids == naive_search(expert, ids, 8, 0, 1, tokenizer.stop_ids)


def test_a_penalty_breaks_a_circle(expert, tokenizer):
    ids = tokenizer.encode("春")
    params = SamplingParams(max_tokens=40, ignore_eos=True)
    greedy, told = (
        contrastive_search(expert, tokenizer, ids, params, penalty_alpha=alpha, top_k=8) for alpha in (0, 0.6)
    )
    assert len(set(told.ids)) > len(set(greedy.ids))


def test_search_honours_what_ends_and_what_is_forbidden(expert, tokenizer):
    ids = tokenizer.encode("春")
    plain = contrastive_search(expert, tokenizer, ids, SamplingParams(max_tokens=6, ignore_eos=True))
    word = tokenizer.decode(plain.ids[1:2])
    without = SamplingParams(max_tokens=6, ignore_eos=True, bad_words=(word,))
    assert plain.ids[1] not in contrastive_search(expert, tokenizer, ids, without).ids
    ended = SamplingParams(max_tokens=6, ignore_eos=True, stop_token_ids=(plain.ids[1],))
    told = contrastive_search(expert, tokenizer, ids, ended)
    assert (told.ids, told.finish_reason) == (plain.ids[:1], "stop")
    late = ended.model_copy(update={"min_tokens": 4})
    assert len(contrastive_search(expert, tokenizer, ids, late).ids) >= 4


def test_what_they_cannot_do_is_told(expert, amateur, tokenizer):
    with pytest.raises(ConfigError, match="contrastive search does not use the setting 'top_p'"):
        contrastive_search(expert, tokenizer, [1], SamplingParams(top_p=0.5))
    with pytest.raises(ConfigError, match="'logprobs'"):
        contrastive_decoding(expert, amateur, tokenizer, [1], SamplingParams(logprobs=1))
    short = lively(tokenizer, 4, max_position_embeddings=8)
    with pytest.raises(ContextError, match="context 8"):
        contrastive_decoding(expert, short, tokenizer, [1] * 8, GREEDY)
    assert len(contrastive_decoding(expert, short, tokenizer, [1] * 6, GREEDY)[0].ids) <= 2


def test_tokenizers_must_agree(tokenizer):
    check_alike(tokenizer, tokenizer)
    other = train_tokenizer(["别的文字。"], TokenizerConfig(kind="char"))
    with pytest.raises(ConfigError, match="different tokenizers"):
        check_alike(tokenizer, other)
