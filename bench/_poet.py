"""A poet that is trained in about a minute, for the measurements of decoding: quatrains of five characters a line."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch

from danlu.core.assets import asset_path
from danlu.data.batches import PackedBatches, tokenise_texts
from danlu.data.poems import poem_body, read_quatrains
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.ops.loss import logprobs
from danlu.tasks.poem import check_poem, summary
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from danlu.train.config import TrainConfig
from danlu.train.loop import fit
from danlu.train.objective import cross_entropy

__all__ = ["FIGURES", "LENGTH", "Verses", "judged", "train_poet", "verses"]

LENGTH, ROWS, VOCABULARY, HELD_OUT = 64, 16, 3000, 400
FIGURES = ("surprise", "repeated", "form", "distinct")  # of `judged`


class Verses(NamedTuple):
    """Poems to learn from, others with different titles to be asked for, and the characters that both are made of."""

    learnt: list[str]
    held: list[str]
    tokenizer: Tokenizer


def verses(number: int = 20_000) -> Verses:
    """At most so many quatrains (fetched once), each with its title before it: "《春晓》\\n春眠不觉晓，……"."""
    poems = [poem for poem in read_quatrains(asset_path("chinese-poetry")) if len(poem.lines[0]) == 5]
    random.Random(0).shuffle(poems)
    held_titles = {poem.title for poem in poems[:HELD_OUT]}
    texts = {poem: f"《{poem.title}》\n{poem_body(poem.lines)}" for poem in poems[: HELD_OUT + number]}
    learnt = [text for poem, text in texts.items() if poem.title not in held_titles]
    tokenizer = train_tokenizer(
        learnt, TokenizerConfig(kind="char", vocab_size=VOCABULARY, min_frequency=3, chat_template="none")
    )
    return Verses(learnt, [texts[poem] for poem in poems[:HELD_OUT]], tokenizer)


def train_poet(read: Verses, steps: int, *, texts: int | None = None, seed: int = 0, **shape: int) -> Decoder:
    """A decoder trained on the first `texts` of the poems; `shape` are fields of DecoderConfig."""
    small = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    settings = {"vocab_size": read.tokenizer.vocab_size, "max_position_embeddings": 2 * LENGTH, **small, **shape}
    model = Decoder(DecoderConfig.parse(settings, "bench"))
    model.initialise(torch.Generator().manual_seed(seed))
    documents = tokenise_texts(read.learnt[:texts], read.tokenizer)
    config = {"steps": steps, "batch_size": ROWS, "seq_len": LENGTH, "precision": "fp32", "device": "cpu", "lr": 2e-2}
    batches = PackedBatches(documents, LENGTH, ROWS, seed=seed)
    fit(model, batches, cross_entropy, TrainConfig.parse({**config, "betas": (0.9, 0.99)}, "bench"))
    return model.eval()


@torch.inference_mode()
def judged(model: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """What answers look like, on average.

    surprise: -log p of a token by `model`, in nats; repeated: share of an answer's characters that it had before,
    marks aside; form: share with four lines of five; distinct: different lines among all lines of all answers.
    """
    nats, tokens, again, characters = 0.0, 0, 0, 0
    for prompt, answer in zip(prompts, answers, strict=True):
        start, ids = len(tokenizer.encode(prompt)), torch.tensor([tokenizer.encode(prompt + answer)])
        told = logprobs(model({"input_ids": ids})[0, start - 1 : -1], ids[0, start:])
        nats, tokens = nats - float(told.sum()), tokens + len(told)
        said = [character for character in answer if character.isalpha()]
        again, characters = again + len(said) - len(set(said)), characters + len(said)
    found = summary([check_poem(answer, (5,)) for answer in answers])
    figures = (nats / tokens, again / characters, found["form"], found["distinct"])
    return dict(zip(FIGURES, figures, strict=True))
