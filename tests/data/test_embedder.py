"""Vectors that do not depend on their neighbours; the rest of the embedder is tried in tests/generate/test_embed.py."""

import random
from pathlib import Path

import torch

from danlu.data.embedder import Embedder
from tests.generate.test_embed import TEXTS, WORDS, save_backbone


def test_steady_vectors_are_the_same_in_any_company(tmp_path: Path):
    embedder = Embedder.open(save_backbone(tmp_path))
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS[5:13], k=draw.randrange(1, 60))) for _ in range(70)] + TEXTS
    together = embedder.embed(texts, 8, steady=True)
    order = draw.sample(range(len(texts)), len(texts))
    found = torch.empty_like(together)
    for start in range(0, len(order), 11):
        chosen = order[start : start + 11]
        found[chosen] = embedder.embed([texts[number] for number in chosen], 8, steady=True)
    assert torch.equal(found, together)
    torch.testing.assert_close(together, embedder.embed(texts, 8), atol=1e-5, rtol=1e-5)
