"""Proofs about translation: BLEU as the paper counts it, and a way there and back that loses nothing."""

import json
import math
import random
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path

from danlu.data.augmenters.back_translation import BackTranslation
from danlu.evaluate.bleu import score
from danlu.generate.translate import Translator
from danlu.models.t5 import T5Config
from danlu.stages import translator
from danlu.tokenizer import TokenizerConfig
from danlu.train.config import TrainConfig

__all__ = ["PROOFS"]

WHO = {"I": "我", "you": "你", "he": "他", "she": "她"}
DOES = {"see": "看见", "buy": "买", "like": "喜欢", "draw": "画"}
WHAT = {"the moon": "月亮", "a horse": "马", "a boat": "船", "tea": "茶"}


def counted(hypotheses: list[str], references: list[str]) -> float:
    """BLEU from the paper (Papineni et al. 2002, §2.3), with nothing smoothed: texts of characters."""
    right, every = [0] * 4, [0] * 4
    for mine, theirs in zip(hypotheses, references, strict=True):
        for n in range(4):
            own = Counter(mine[at : at + n + 1] for at in range(len(mine) - n))
            other = Counter(theirs[at : at + n + 1] for at in range(len(theirs) - n))
            right[n] += sum((own & other).values())
            every[n] += sum(own.values())
    made, wanted = sum(map(len, hypotheses)), sum(map(len, references))
    precision = sum(math.log(one / all_) for one, all_ in zip(right, every, strict=True)) / 4
    return 100 * math.exp(min(0.0, 1 - wanted / made) + precision)


def bleu() -> dict[str, float]:
    """The largest difference, over 200 random sets of Chinese texts."""
    draw, worst = random.Random(0), 0.0
    for _ in range(200):
        references = ["".join(draw.choices("春江花月夜", k=draw.randint(6, 20))) for _ in range(20)]
        hypotheses = [
            "".join(letter if draw.random() < 0.8 else draw.choice("山水") for letter in text[: draw.randint(5, 20)])
            for text in references
        ]
        worst = max(worst, abs(score(hypotheses, [references], "zh").bleu - counted(hypotheses, references)))
    return {"difference": worst}


def back_translation() -> dict[str, float]:
    """A translator that has learnt 64 pairs by heart: the share of them that come back from the other language."""
    made = list(product(WHO.items(), DOES.items(), WHAT.items()))
    en = [f"{who[0]} {does[0]} {what[0]}." for who, does, what in made]
    zh = [f"{who[1]}{does[1]}{what[1]}。" for who, does, what in made]
    rows = [json.dumps({"source": one, "target": other, "origin": "rule"}) for one, other in zip(en, zh, strict=True)]
    with tempfile.TemporaryDirectory() as name:
        for split in ("train", "valid"):
            (Path(name) / f"{split}.jsonl").write_text("\n".join(rows))
        path = translator.run(
            translator.Config(
                data=Path(name),
                out=Path(name) / "run",
                model=T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, n_positions=32, tie_word_embeddings=True),
                new_tokenizer=TokenizerConfig(vocab_size=400, chat_template="none"),
                train=TrainConfig(steps=200, batch_size=32, seq_len=32, lr=3e-3, warmup=20, seed=1, device="cpu"),
            )
        )
        back = BackTranslation(Translator(path)).augment(zh + en, [random.Random(0)] * 2 * len(zh))
    return {"returned": sum(one == two for one, two in zip(zh + en, back, strict=True)) / len(back)}


PROOFS = {"bleu": bleu, "back-translation": back_translation}
