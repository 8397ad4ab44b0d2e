"""Beam search against transformers' own, and against all answers there are."""

import itertools
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from danlu.core.folder import Lineage
from danlu.generate.beam import beam_search
from danlu.models import auto
from danlu.models.decoder import Decoder
from tests.conftest import tiny_decoder

VOCAB = 30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Decoder, torch.nn.Module]:
    """A model that is sure of some things, so that beams differ and end; the same in transformers."""
    folder: Path = tmp_path_factory.mktemp("beam") / "model"
    model = tiny_decoder(VOCAB, seed=2, tie_word_embeddings=False)
    with torch.no_grad():
        model.output_weight.mul_(12)
        model.model.embed_tokens.weight.mul_(20)
    auto.save(model, folder, lineage=Lineage(verb="test"))
    return auto.load(folder), AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("stop_ids", [(5,), (2, 9, 11)])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize(("num_beams", "length_penalty"), [(2, 1.0), (3, 1.0), (4, 0.0), (5, 2.0), (4, -1.0)])
def test_equals_transformers(pair, num_beams, length_penalty, early_stopping, stop_ids):
    mine, theirs = pair
    ended = 0
    for prompt in ([1, 5, 7], [3], [4, 4, 8, 12, 1, 9, 20]):
        told = theirs.generate(
            torch.tensor([prompt]),
            max_new_tokens=12,
            do_sample=False,
            num_beams=num_beams,
            num_return_sequences=num_beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            eos_token_id=list(stop_ids),
            pad_token_id=0,
            output_scores=True,
            return_dict_in_generate=True,
        )
        found = beam_search(
            mine,
            prompt,
            num_beams=num_beams,
            max_tokens=12,
            stop_ids=stop_ids,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
        )
        assert len(found) == num_beams
        for one, ids in zip(found, told.sequences.tolist(), strict=True):
            answer = ids[len(prompt) :]
            ends = next((at for at, token in enumerate(answer) if token in stop_ids), None)
            assert one.ids == answer[:ends]
            assert one.reason == ("length" if ends is None else "stop")
            ended += one.reason == "stop"
        if num_beams > 1:
            assert [one.score for one in found] == pytest.approx(told.sequences_scores.tolist(), abs=1e-4)
    assert ended or num_beams == 1


@torch.inference_mode()
def test_with_room_for_all_it_finds_the_likeliest_of_all_answers(pair):
    model, _ = pair
    answers = torch.tensor(list(itertools.product(range(VOCAB), repeat=2)))
    whole = torch.cat([torch.tensor([[1, 5]]).expand(len(answers), -1), answers], dim=1)
    logs = model({"input_ids": whole})[:, 1:-1].log_softmax(-1).gather(-1, answers[..., None]).sum((1, 2))
    best = logs.topk(5)
    found = beam_search(model, [1, 5], num_beams=VOCAB, max_tokens=2, length_penalty=0.0)[:5]
    assert [one.ids for one in found] == answers[best.indices].tolist()
    assert [one.score for one in found] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_one_beam_is_greedy(pair):
    mine, theirs = pair
    told = theirs.generate(torch.tensor([[4, 8]]), max_new_tokens=12, do_sample=False, eos_token_id=9, pad_token_id=0)
    (found,) = beam_search(mine, [4, 8], num_beams=1, max_tokens=12, stop_ids=(9,), early_stopping=True)
    assert [4, 8, *found.ids, 9][: told.shape[1]] == told[0].tolist()


def test_the_context_is_an_end(pair):
    model, _ = pair
    found = beam_search(model, [1] * (model.context - 2), num_beams=2, max_tokens=50)
    assert [(len(one.ids), one.reason) for one in found] == [(2, "length")] * 2
