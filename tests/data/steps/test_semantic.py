"""Semantic duplicates beside brute force and scikit-learn, on a tiny random model and the real all-MiniLM-L6-v2."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from danlu.core.assets import asset_path
from danlu.core.errors import AssetError
from danlu.data.step import CorpusStep, Drop
from danlu.data.steps import semantic
from danlu.data.steps.semantic import Config, Step, centroids, nearest, repeats
from tests.generate.test_embed import save_backbone


def clouds(seed: int, number: int = 300, spread: float = 0.02) -> np.ndarray:
    """float32 [number, 16]: unit vectors close to one of a fifth as many."""
    draw = np.random.default_rng(seed)
    places = draw.normal(size=(max(1, number // 5), 16))
    found = places[draw.integers(0, len(places), number)] + draw.normal(size=(number, 16)) * spread
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def brute_force(vectors: np.ndarray, threshold: float) -> list[int]:
    found: list[int] = []
    for number, one in enumerate(vectors):
        like = [n for n in range(number) if found[n] < 0 and float(vectors[n] @ one) > threshold]
        found.append(like[0] if like else -1)
    return found


@pytest.mark.parametrize("number", [0, 1, 300, 2500])
def test_repeats_as_brute_force(number: int):
    vectors = clouds(0, number) if number else np.zeros((0, 16), np.float32)
    told = repeats(vectors, 0.99)
    assert told.tolist() == brute_force(vectors, 0.99)
    assert number < 300 or (told >= 0).mean() > 0.5


def test_clusters_are_as_good_as_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(1500, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ours = centroids(vectors, 12, 0)
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    theirs = KMeans(12, n_init=1, random_state=0).fit(vectors).cluster_centers_
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (vectors @ ours.T).max(1).mean() > 0.98 * (vectors @ theirs.T).max(1).mean()
    assert (nearest(vectors, ours) == (vectors @ ours.T).argmax(1)).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 50), st.lists(st.integers(0, 300), max_size=5), st.integers(1, 6))
def test_parts_make_no_difference(seed: int, borders: list[int], clusters: int):
    vectors = clouds(seed).astype(np.float16)
    step = Step(Config(clusters=clusters))
    (whole,) = step.decide([{"vectors": vectors}])
    parts = step.decide([{"vectors": part} for part in np.split(vectors, sorted(borders))])
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert all(like < row and whole[like] == -1 for row, like in enumerate(whole.tolist()) if like >= 0)
    assert (whole >= 0).any()


def test_one_cluster_is_brute_force():
    vectors = clouds(3).astype(np.float16)
    unit = vectors.astype(np.float32) / np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    (told,) = Step(Config(eps=0.01, clusters=1)).decide([{"vectors": vectors}])
    assert told.tolist() == brute_force(unit, 0.99)


def test_keys_of_a_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    step = Step(Config(model=save_backbone(tmp_path)))
    assert isinstance(step, CorpusStep)
    texts = ["a cat sat", "", "the dog!", "a cat sat", "  ", "the cat sat on the mat " * 40]
    rows = [{"id": str(number), "source": "s", "text": text} for number, text in enumerate(texts)]
    keys = step.keys(rows)
    assert keys["vectors"].dtype == np.float16
    lengths = np.linalg.norm(keys["vectors"].astype(np.float64), axis=1)
    assert lengths == pytest.approx([1, 0, 1, 1, 0, 1], abs=1e-3)
    alone = np.concatenate([step.keys([row])["vectors"] for row in rows])
    assert (alone == keys["vectors"]).all()
    monkeypatch.setattr(semantic, "_HEAD", 9)
    assert (step.keys([{**rows[0], "text": texts[0] + " on the mat"}])["vectors"] == alone[:1]).all()
    tally: Counter[str] = Counter()
    settled = step.settle(rows, Step(Config(eps=1e-4)).decide([keys])[0], tally)
    assert settled[3] == Drop("semantic_duplicate", "#0")
    assert settled[1] is rows[1]
    assert settled[4] is rows[4]
    assert step.decide([]) == []


def test_a_chain_does_not_drop_strangers():
    """On an arc of equal steps each is like its neighbours: every other one stays."""
    angles = np.arange(9) * 0.1
    vectors = np.column_stack((np.cos(angles), np.sin(angles))).astype(np.float32)
    assert repeats(vectors, float(np.cos(0.15))).tolist() == [-1, 0, -1, 2, -1, 4, -1, 6, -1]


@pytest.mark.slow
def test_real_sentences():
    try:
        asset_path("all-minilm-l6-v2")
    except AssetError as error:
        pytest.skip(str(error))
    texts = [
        "The central bank raised interest rates by a quarter point on Tuesday.",
        "On Tuesday the central bank increased its interest rates by 0.25 points.",
        "A recipe for potato soup with leek and cream.",
        "The central bank lowered the number of its branches.",
    ]
    rows = [{"id": str(number), "source": "s", "text": text} for number, text in enumerate(texts)]
    step = Step(Config(eps=0.3))
    assert np.concatenate(step.decide([step.keys(rows)])).tolist() == [-1, 0, -1, -1]
