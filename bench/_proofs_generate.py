"""Proofs about whole answers: several to one prompt, and the likeliest ones."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from _small import decoder

from danlu.core.folder import Lineage
from danlu.generate.beam import beam_search
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.models.decoder import Decoder
from danlu.tokenizer import TokenizerConfig, train_tokenizer

__all__ = ["PROOFS"]

TEXTS = ["春眠不觉晓，处处闻啼鸟。", "白日依山尽，黄河入海流。", "夜来风雨声，花落知多少。"]
PROMPTS = ([1, 5, 7], [3], [4, 4, 8, 12, 1, 9, 20])
STOP = 5


@contextmanager
def pair(vocabulary: int) -> Iterator[tuple[Decoder, Any]]:
    """A random model that is sure of some things, and the same in transformers."""
    model = decoder(vocabulary, seed=2, hidden_size=32, tie_word_embeddings=False)
    with torch.no_grad():
        model.output_weight.mul_(12)
        model.model.embed_tokens.weight.mul_(20)
    with tempfile.TemporaryDirectory() as folder:
        from transformers import LlamaForCausalLM

        auto.save(model, Path(folder) / "model", lineage=Lineage(verb="proof"))
        yield model.eval(), LlamaForCausalLM.from_pretrained(Path(folder) / "model")


def several() -> dict[str, float]:
    """First tokens of 4,000 answers to one prompt against transformers' probabilities; 8 answers against each alone."""
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(kind="char", chat_template="none"))
    with pair(tokenizer.vocab_size) as (model, theirs), torch.inference_mode():
        engine, prompt = Engine(model, tokenizer), tokenizer.encode("春风")
        wish = SamplingParams(temperature=1.0, max_tokens=1, ignore_eos=True, n=4000, seed=0)
        first = torch.tensor([answer.ids[0] for answer in engine.generate([prompt], wish)])
        told = torch.bincount(first, minlength=tokenizer.vocab_size) / len(first)
        wanted = theirs(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        wish = SamplingParams(temperature=1.0, max_tokens=20, n=8, seed=1)
        together = [answer.ids for answer in engine.generate([prompt], wish)]
        again = [answer.ids for answer in Engine(model, tokenizer).generate([prompt], wish)]
    distinct = len(set(map(tuple, together))) / len(together)
    return {"difference": (told - wanted).abs().max().item(), "again": float(together == again), "distinct": distinct}


def beams() -> dict[str, float]:
    """The answers of 2 to 5 beams and their scores against transformers' beam search; greedy against four beams."""
    right, number, worst, gain = 0, 0, 0.0, 0.0
    with pair(30) as (model, theirs):
        for beams, penalty in ((2, 1.0), (3, 0.0), (4, 1.0), (5, 2.0)):
            for prompt in PROMPTS:
                told = beam_search(model, prompt, num_beams=beams, max_tokens=12, stop_ids=(STOP,), length_penalty=penalty)  # fmt: skip
                wanted = theirs.generate(
                    torch.tensor([prompt]),
                    max_new_tokens=12,
                    do_sample=False,
                    num_beams=beams,
                    num_return_sequences=beams,
                    length_penalty=penalty,
                    eos_token_id=STOP,
                    pad_token_id=0,
                    output_scores=True,
                    return_dict_in_generate=True,
                )
                for one, ids, score in zip(told, wanted.sequences.tolist(), wanted.sequences_scores, strict=True):
                    answer = [*ids[len(prompt) :], STOP]
                    right += one.ids == answer[: answer.index(STOP)][:12]
                    worst, number = max(worst, abs(one.score - float(score))), number + 1
        for prompt in PROMPTS:
            best, greedy = (
                beam_search(model, prompt, num_beams=beams, max_tokens=12, length_penalty=0.0)[0].score
                for beams in (4, 1)
            )
            gain += (best - greedy) / len(PROMPTS)
    return {"equal": right / number, "difference": worst, "nats_above_greedy": gain}


PROOFS = {"several-sequences": several, "beam-search": beams}
