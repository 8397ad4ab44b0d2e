"""Train a small text classifier, such as a quality filter: good texts against bad ones.

训练一个小巧的文本分类器，例如质量过滤器：好文本对坏文本。

Example: danlu data classifier --good books.txt --bad spam.txt --out runs/quality
Character and word n-grams are hashed into a vector of fixed length, and a logistic regression weighs them; the
threshold is chosen on texts held out from training. The step `classify` of `danlu data prepare` uses OUT.
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import DataError, FolderError
from danlu.core.files import atomic_folder, read_json, write_json
from danlu.core.i18n import tr
from danlu.data.progress import track
from danlu.data.sources import read_rows
from danlu.data.step import content

__all__ = ["Classifier", "Config", "Features", "area_under_curve", "fit", "hash_features", "loss_and_gradient", "run"]

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[\u3040-\u30ff\u4e00-\u9fff]|[^\sa-z0-9]")
_LONGEST = 4000  # characters of a text that are looked at: what it is shows early
_START, _MIX = np.uint64(1), np.uint64(0x9E3779B97F4A7C15)  # of pairs: multiplicative hashing, Knuth 6.4
_WEIGHTS, _CARD = "classifier.safetensors", "classifier.json"


class Features(NamedTuple):
    """Rows of a sparse matrix [N, 2^bits]: row i has values[starts[i]:starts[i + 1]] in columns indices[...]."""

    indices: np.ndarray  # int64
    values: np.ndarray  # float32
    starts: np.ndarray  # int64 [N + 1]


class Config(Base):
    """The texts of each kind, and how to learn."""

    good: list[Input] = doc([], "files of the texts to keep", "要保留的文本文件")
    bad: list[Input] = doc([], "files of the texts to leave out", "要剔除的文本文件")
    data: Input | None = doc(
        None,
        "or one jsonl with 'text' and 'label', for two kinds or more",
        "或一个带 text 与 label 的 jsonl，两类或多类",
    )
    out: Output = doc(Path("runs/classifier"), "the classifier's folder", "分类器的目录")
    positive: str = doc("good", "the label whose probability is the score", "以哪个标签的概率为得分")
    bits: int = doc(18, "the vector has 2^bits places", "特征向量长 2^bits", ge=8, le=24)
    l2: float = doc(1e-5, "weight decay of the regression", "L2 正则强度", ge=0)
    steps: int = doc(60, "steps of L-BFGS at most, each over all texts", "L-BFGS 最多迭代步数，每步用全部文本", ge=1)
    held_out: float = doc(0.2, "share of texts kept for measuring", "留作测试的比例", gt=0, lt=1)
    keep: float = doc(
        0.95,
        "share of held-out positive texts that must stay above the threshold",
        "阈值之上应保留多少正例",
        gt=0,
        lt=1,
    )
    seed: int = doc(0, "seed", "随机种子")


@lru_cache(maxsize=60_000)
def _grams(word: str) -> np.ndarray:
    """Hashes of the word itself and, if it has letters, of each three and four characters of '<word>'; uint64."""
    edged = f"<{word}>"
    grams = [word, *(edged[at : at + size] for size in (3, 4) for at in range(len(edged) - size + 1) if len(word) > 1)]
    return np.asarray([zlib.crc32(gram.encode("utf-8", "replace")) for gram in grams], np.uint64)


# lesson: hashed-regression
def hash_features(texts: Sequence[str], bits: int = 18) -> Features:
    """Words, pairs of words and the characters 3 to 4 of each word, hashed; tf = 1 + ln(count), rows of length 1.

    Chinese characters count as words, so their pairs are what words are to English. Weinberger et al. 2009, "Feature
    Hashing for Large Scale Multitask Learning"; CRC-32 is the hash, so that a folder means the same everywhere.
    """
    mask = (1 << bits) - 1
    indices, values, starts = [], [], [0]
    for text in texts:
        grams = [_grams(word) for word in _WORD.findall(text[:_LONGEST].lower())]
        words = np.asarray([_START, *(own[0] for own in grams)], np.uint64)
        pairs = (words[:-1] * _MIX + words[1:]) * _MIX >> np.uint64(20)
        places = np.concatenate([*grams, pairs]).astype(np.int64) & mask
        unique, counts = np.unique(places, return_counts=True)
        weights = 1 + np.log(counts)
        indices.append(unique)
        values.append((weights / max(1e-12, math.sqrt(float(weights @ weights)))).astype(np.float32))
        starts.append(starts[-1] + len(unique))
    empty = np.zeros(0, np.int64)
    return Features(
        np.concatenate([empty, *indices]), np.concatenate([empty.astype(np.float32), *values]), np.asarray(starts)
    )


def loss_and_gradient(
    weight: np.ndarray, bias: np.ndarray, features: Features, labels: np.ndarray, l2: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean cross-entropy of softmax(x W + b) plus l2 / 2 * |W|^2, with its gradients by W [F, C] and b [C].

    labels: int [N].
    """
    probabilities = _softmax(_logits(weight, bias, features))
    count = len(labels)
    loss = -float(np.log(np.maximum(probabilities[np.arange(count), labels], 1e-300)).mean())
    error = probabilities
    error[np.arange(count), labels] -= 1
    error /= count
    spread = np.repeat(error, np.diff(features.starts), axis=0) * features.values[:, None]
    gradient = l2 * weight
    for column in range(weight.shape[1]):
        gradient[:, column] += np.bincount(features.indices, spread[:, column], minlength=len(weight))
    return loss + l2 / 2 * float((weight**2).sum()), gradient, error.sum(0)


# end lesson


def _logits(weight: np.ndarray, bias: np.ndarray, features: Features) -> np.ndarray:
    """[N, C]."""
    products = weight[features.indices] * features.values[:, None]
    sums = np.concatenate([np.zeros((1, weight.shape[1])), np.cumsum(products, axis=0, dtype=np.float64)])
    return sums[features.starts[1:]] - sums[features.starts[:-1]] + bias


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


class Classifier(NamedTuple):
    """Weights, the names of the labels, and the threshold on the probability of `positive`."""

    weight: np.ndarray  # float32 [2^bits, C]
    bias: np.ndarray  # float32 [C]
    labels: tuple[str, ...]
    positive: str
    threshold: float

    @property
    def bits(self) -> int:
        return len(self.weight).bit_length() - 1

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """float64 [N, C]."""
        return _softmax(_logits(self.weight, self.bias, hash_features(texts, self.bits)))

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """The probability of `positive`, float64 [N]."""
        return self.probabilities(texts)[:, self.labels.index(self.positive)]

    def save(self, folder: Path, **measured: object) -> None:
        from safetensors.numpy import save_file

        with atomic_folder(folder) as place:
            save_file({"weight": self.weight, "bias": self.bias}, place / _WEIGHTS)
            card = {"labels": list(self.labels), "positive": self.positive, "threshold": self.threshold}
            write_json(place / _CARD, {**card, "bits": self.bits, "measured": measured})

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Raises FolderError when the folder is absent or not a classifier's."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            card = read_json(Path(folder) / _CARD)
            weights = load_file(Path(folder) / _WEIGHTS)
            made = cls(
                weights["weight"], weights["bias"], tuple(card["labels"]), card["positive"], float(card["threshold"])
            )
            fits = made.weight.shape == (1 << int(card["bits"]), len(made.labels)) and made.positive in made.labels
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise _no_classifier(folder, str(error)) from None
        if not fits or made.bias.shape != (len(made.labels),):
            raise _no_classifier(folder, "shape")
        return made


def _no_classifier(folder: Path, why: str) -> FolderError:
    return FolderError(
        tr(f"{folder} holds no classifier ({why})", f"{folder} 里没有分类器（{why}）"),
        tr("make one: danlu data classifier --help", "先训练一个：danlu data classifier --help"),
    )


def fit(
    features: Features, labels: np.ndarray, classes: int, bits: int, *, l2: float = 1e-5, steps: int = 60
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [2^bits, C] and bias [C] by L-BFGS on the whole set.

    The problem is convex: the start does not matter, and the answer is that of any other solver.
    """
    places = np.unique(features.indices)  # the columns that occur: the others stay 0
    compact = features._replace(indices=np.searchsorted(places, features.indices))
    size = len(places)

    def at(point: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = point[: size * classes].reshape(size, classes), point[size * classes :]
        loss, by_weight, by_bias = loss_and_gradient(weight, bias, compact, labels, l2)
        return loss, np.concatenate([by_weight.ravel(), by_bias])

    point = _minimise(at, np.zeros(size * classes + classes), steps)
    weight = np.zeros((1 << bits, classes), np.float32)
    weight[places] = point[: size * classes].reshape(size, classes)
    return weight, point[size * classes :].astype(np.float32)


def _minimise(at: Callable[[np.ndarray], tuple[float, np.ndarray]], point: np.ndarray, steps: int) -> np.ndarray:
    """L-BFGS with ten pairs and backtracking (Nocedal and Wright, Algorithm 7.5)."""
    loss, gradient = at(point)
    pairs: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _ in track(range(steps), steps, tr("learning", "学习")):
        way, kept = gradient.copy(), []
        for move, turn, rho in reversed(pairs):
            alpha = rho * float(move @ way)
            kept.append(alpha)
            way -= alpha * turn
        if pairs:
            move, turn, _ = pairs[-1]
            way *= float(move @ turn) / float(turn @ turn)
        for (move, turn, rho), alpha in zip(pairs, reversed(kept), strict=True):
            way += move * (alpha - rho * float(turn @ way))
        slope, size = float(gradient @ way), 1.0 if pairs else 1 / max(1e-12, float(np.linalg.norm(gradient)))
        while True:
            new = point - size * way
            new_loss, new_gradient = at(new)
            if new_loss <= loss - 1e-4 * size * slope or size < 1e-10:
                break
            size /= 2
        move, turn = new - point, new_gradient - gradient
        if (curve := float(move @ turn)) > 1e-12:
            pairs = [*pairs[-9:], (move, turn, 1 / curve)]
        done = loss - new_loss < 1e-7 * max(1.0, loss)
        point, loss, gradient = new, new_loss, new_gradient
        if done:
            break
    return point


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive text scores above a negative one, ties counting half (ROC AUC)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    good = int(positive.sum())
    bad = len(positive) - good
    return float((ranks[positive].sum() - good * (good + 1) / 2) / (good * bad)) if good and bad else math.nan


def run(config: Config) -> Path:
    """Train, measure on what is held out, save; return the folder."""
    texts, labels = _read(config)
    names = tuple(sorted(set(labels)))
    if len(names) < 2 or config.positive not in names:
        raise DataError(
            tr(f"the labels are {', '.join(names)}; two are needed, one of them '{config.positive}'", f"标签有 {'、'.join(names)}；至少要两个，其中一个是“{config.positive}”"),
            tr("give --good and --bad, or --data with --positive LABEL", "请给出 --good 与 --bad，或 --data 与 --positive 标签"),
        )  # fmt: skip
    ids = np.asarray([names.index(label) for label in labels])
    order = np.random.default_rng(config.seed).permutation(len(texts))
    cut = max(1, round(len(texts) * config.held_out))
    held, train = order[:cut], order[cut:]
    features = hash_features([texts[at] for at in train], config.bits)
    weight, bias = fit(features, ids[train], len(names), config.bits, l2=config.l2, steps=config.steps)
    made = Classifier(weight, bias, names, config.positive, 0.5)
    probabilities = made.probabilities([texts[at] for at in held])
    positive = ids[held] == names.index(config.positive)
    scores = probabilities[:, names.index(config.positive)]
    threshold = float(np.quantile(scores[positive], 1 - config.keep)) if positive.any() else 0.5
    measured = {
        "texts": len(texts),
        "accuracy": round(float((probabilities.argmax(1) == ids[held]).mean()), 4),
        "auc": round(area_under_curve(scores, positive), 4),
        "kept_positive": round(float((scores[positive] >= threshold).mean()), 4),
        "kept_negative": round(float((scores[~positive] >= threshold).mean()), 4),
    }
    made._replace(threshold=threshold).save(config.out, **measured)
    print(tr("held out: ", "测试集：") + json.dumps(measured | {"threshold": round(threshold, 4)}))
    return config.out


def _read(config: Config) -> tuple[list[str], list[str]]:
    pairs: list[tuple[str, str]] = []
    if config.data is not None:
        pairs += [(content(row), str(row["label"])) for row in read_rows(config.data, columns=("text", "label"))]
    for label, files in (("good", config.good), ("bad", config.bad)):
        for file in files:
            pairs += ((text, label) for text in _pieces(file))
    pairs = [(text, label) for text, label in pairs if text.strip()]
    if not pairs:
        raise DataError(tr("there are no texts", "没有文本"), tr("give --good and --bad", "请给出 --good 与 --bad"))
    return [text for text, _ in pairs], [label for _, label in pairs]


def _pieces(file: Path) -> Iterator[str]:
    """The rows of a file; one long text gives a piece for each few paragraphs."""
    for row in read_rows(file):
        text = content(row)
        for at in range(0, max(1, len(text)), 2000):
            yield text[at : at + 2000]
