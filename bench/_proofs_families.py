"""Proofs about model families: random models that transformers saved, loaded here, give the same logits.

And about the objectives of encoders and encoder-decoders: masked words beside the best possible guess, blanks filled.
"""

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from _proofs_stages import LETTERS, STILL, STOP, Source, write
from _small import counting
from torch import Tensor

from danlu.data.denoise import SpanConfig, corrupt, restore, sentinel_ids
from danlu.data.masking import fixed_masking, mark_words
from danlu.generate.params import SamplingParams
from danlu.generate.seq2seq import Seq2Seq
from danlu.models import auto
from danlu.stages import denoise, mlm
from danlu.tokenizer import Tokenizer

__all__ = ["PROOFS"]

_DECODER = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
}
_ENCODER = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
# row of the roadmap -> class of transformers, its settings
FAMILIES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "gpt-2": [("GPT2LMHeadModel", {"vocab_size": 97, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64})],
    "llama": [("LlamaForCausalLM", _DECODER), ("LlamaForCausalLM", {**_DECODER, "tie_word_embeddings": True})],
    "mistral": [("MistralForCausalLM", {**_DECODER, "sliding_window": 8})],
    "qwen": [("Qwen2ForCausalLM", _DECODER), ("Qwen3ForCausalLM", _DECODER)],
    "gemma": [("Gemma3ForCausalLM", {**_DECODER, "sliding_window": 8, "query_pre_attn_scalar": 12})],
    "bert": [("BertForMaskedLM", _ENCODER)],
    "roberta": [("RobertaForMaskedLM", {**_ENCODER, "pad_token_id": 1})],
    "distilbert": [("DistilBertForMaskedLM", {"vocab_size": 97, "dim": 48, "hidden_dim": 80, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64})],
    "t5": [
        ("T5ForConditionalGeneration", {"vocab_size": 97, "d_model": 48, "d_kv": 12, "d_ff": 80, "num_layers": 2, "num_heads": 4, **more})
        for more in ({}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False})
    ],
}  # fmt: skip


def parity(name: str) -> dict[str, float]:
    """Largest difference of the logits, in units of their standard deviation, over 3 rows of 40 tokens."""
    return {"difference": max(_difference(kind, settings) for kind, settings in FAMILIES[name])}


def _difference(kind: str, settings: dict[str, Any]) -> float:
    torch.manual_seed(0)
    model = getattr(transformers, kind)
    config = model.config_class(**settings)
    theirs = model(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # norms that are not 1, biases that are not 0
            parameter.add_(0.05 * torch.randn_like(parameter))
    ids = torch.randint(3, 97, (3, 40))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        theirs.save_pretrained(folder)
        ours = auto.load(folder)
        both = kind.startswith("T5")
        wanted = theirs(input_ids=ids, **({"decoder_input_ids": ids.flip(1)} if both else {})).logits
        told = ours({"input_ids": ids, **({"decoder_input_ids": ids.flip(1)} if both else {})})
    return float((told - wanted).abs().max() / wanted.std())


def masked_words() -> dict[str, float]:
    """`danlu mlm` on a Markov chain: nats a hidden letter above what the chain itself pays, which sees both sides too."""
    source = Source(0)
    texts = {"train": [source.text() for _ in range(4000)], "valid": [source.text() for _ in range(200)]}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), {name: [{"text": text} for text in some] for name, some in texts.items()})
        settings = {
            "data": folder,
            "out": f"{folder}/run",
            "new_tokenizer": {"kind": "char", "vocab_size": 300, "chat_template": "none"},
            "model": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
            "masking": {"whole_words": False, "rate": 0.3},
            "train": {**STILL, "steps": 800},
        }
        config = mlm.Config.parse(settings, "proofs")
        made = mlm.run(config)
        tokenizer = Tokenizer.load(made)
        told = json.loads((made.parent / "run.json").read_text(encoding="utf-8"))["measured"]["val_loss"]
        documents = mark_words(texts["valid"], tokenizer, whole_words=False)
    batches = fixed_masking(documents, config.train.seq_len, config.train.batch_size, tokenizer, config.masking)
    least = best_guess(source, batches, tokenizer, config.masking.rate)
    return {"excess": told - least, "val_loss": told, "source": least}


def best_guess(source: Source, batches: list[dict[str, Tensor]], tokenizer: Tokenizer, rate: float) -> float:
    """Nats a hidden letter, by the chain's own probabilities: forward and backward through every text."""
    letters = [tokenizer.encode(letter)[0] for letter in LETTERS]
    vocabulary = tokenizer.vocab_size
    moves = (1 - STOP) * np.array([source.rows[letter] for letter in LETTERS])
    total = count = 0.0
    for batch in batches:
        for ids, labels, segments in zip(*(batch[name].numpy() for name in ("input_ids", "labels", "segment_ids")), strict=True):  # fmt: skip
            for number in range(1, int(segments.max()) + 1):
                here = segments == number
                nats = _hidden_nats(ids[here], labels[here], letters, moves, rate, vocabulary, tokenizer.mask_id)
                total, count = total + sum(nats), count + len(nats)
    return total / count


def _hidden_nats(ids, labels, letters: list[int], moves: np.ndarray, rate: float, vocabulary: int, mask: int | None) -> list[float]:  # fmt: skip
    """One text: -log p(letter | all that is read) for each chosen place. The frame's tokens are never chosen."""
    inner = [place for place, number in enumerate(ids) if number == mask or number in letters or labels[place] != -100]
    ids, labels = ids[inner], labels[inner]
    chosen = np.array([_chosen(number, letters, vocabulary, mask) for number in ids])  # p(read | letter, chosen)
    open_ = np.array([[float(number == letter) for letter in letters] for number in ids])
    seen = rate * chosen + (1 - rate) * open_
    forward, backward = [np.full(len(letters), 1 / len(letters))], [np.full(len(letters), STOP)]
    for row in seen[:-1]:
        forward.append((forward[-1] * row) @ moves)
        forward[-1] /= forward[-1].sum()
    for row in seen[:0:-1]:
        backward.append(moves @ (backward[-1] * row))
        backward[-1] /= backward[-1].sum()
    found = []
    for place in np.flatnonzero(labels != -100):
        beliefs = forward[place] * backward[len(ids) - 1 - place] * chosen[place]
        found.append(-float(np.log(beliefs[letters.index(labels[place])] / beliefs.sum())))
    return found


def _chosen(number: int, letters: list[int], vocabulary: int, mask: int | None) -> list[float]:
    """How probable it is that a chosen letter is read as `number`: hidden, any other, or itself."""
    return [0.8 * (number == mask) + 0.1 / vocabulary * (number != mask) + 0.1 * (number == letter) for letter in letters]  # fmt: skip


def blanks() -> dict[str, float]:
    """`danlu denoise` on texts that count upwards: the share of unseen blanked texts that it restores exactly."""
    texts = sorted({" ".join(map(str, document.ids)) for document in counting(3000, 10, longest=30)})
    np.random.default_rng(0).shuffle(texts)
    spans = SpanConfig(sentinels=8)
    with tempfile.TemporaryDirectory() as folder:
        write(
            Path(folder),
            {"train": [{"text": text} for text in texts[60:]], "valid": [{"text": text} for text in texts[:60]]},
        )
        made = denoise.run(
            denoise.Config.parse(
                {
                    "data": folder,
                    "out": f"{folder}/run",
                    "new_tokenizer": {"kind": "char", "vocab_size": 300, "chat_template": "none"},
                    "model": {"d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 128, "num_layers": 2},
                    "spans": spans.plain(),
                    "train": {**STILL, "steps": 900, "lr": 1e-2},
                },
                "proofs",
            )
        )
        model = Seq2Seq.open(made)
    known, random = sentinel_ids(model.tokenizer), np.random.default_rng(0)
    wanted = [model.tokenizer.encode(text) for text in texts[:60]]
    asked = [corrupt(ids, known, random, spans).source for ids in wanted]
    told = model.generate(
        [[*ids, model.tokenizer.eos_id] for ids in asked], SamplingParams(temperature=0, max_tokens=32)
    )
    right = [restore(ids, answer.ids, known) == whole for ids, answer, whole in zip(asked, told, wanted, strict=True)]
    return {"restored": sum(right) / len(right), "texts": len(right)}


PROOFS: dict[str, Callable[[], dict[str, float]]] = {
    **{name: partial(parity, name) for name in FAMILIES},
    "masked-language-modelling": masked_words,
    "self-supervised-learning": blanks,
}
