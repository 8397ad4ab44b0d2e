"""Mixtures of three real sources at several temperatures: what each gets, and how often its rows are repeated.

三种真实语料在不同温度下的混合：各得多少，各自重复几遍。

Poems of the Tang, the Brown corpus and a month of People's Daily (fetched once) become a mixture of as many characters as
there are. The shares of the step `mix` are compared with n^(1/T) computed apart.
"""

import re
from collections import Counter
from itertools import islice

from _common import arguments, interleave, show, write
from dedup import brown, news, poems

from danlu.data.steps.mix import Config, Step

WORK = "mixing three sources by temperature / 按温度混合三种来源"
TEMPERATURES = (1.0, 2.0, 3.3, 1e6)
ROWS = {"brown": 1 << 30, "news": 1 << 30, "poems": 2000}  # at most: a small source stands beside two large ones


def corpus() -> list[dict[str, str]]:
    sources = {"brown": brown, "news": news, "poems": poems}
    return [
        {"id": f"{name}-{number}", "source": name, "text": text}
        for name, most in ROWS.items()
        for number, text in enumerate(islice(filter(None, sources[name]()), most))
    ]


def mixed(rows: list[dict[str, str]], config: Config) -> tuple[Counter[str], int]:
    """Characters of each source in the mixture; how often the row that stands there most often does."""
    step, found, times = Step(config), Counter(), Counter()
    (decision,) = step.decide([step.keys(rows)])
    for one in step.settle(rows, decision, Counter()):
        for row in one if isinstance(one, list) else [one] if isinstance(one, dict) else []:
            found[row["source"]] += len(row["text"])
            times[re.sub(r"~\d+$", "", row["id"])] += 1
    return found, max(times.values())


def main() -> None:
    read = arguments(__doc__, repeats=1).parse_args()
    rows = corpus()
    sizes = Counter()
    for row in rows:
        sizes[row["source"]] += len(row["text"])
    total = sum(sizes.values())
    table, shares, worst = [("as they are", *(f"{sizes[name] / total:.1%}" for name in ROWS), 1)], {}, 0.0
    for temperature in TEMPERATURES:
        config = Config(temperature=temperature, characters=total, max_repeats=1000)
        found, most = mixed(rows, config)
        wanted = {name: size ** (1 / temperature) for name, size in sizes.items()}
        shares[f"{temperature:g}"] = {name: found[name] / total for name in ROWS}
        worst = max(worst, *(abs(found[name] / total - wanted[name] / sum(wanted.values())) for name in ROWS))
        table.append((f"T = {temperature:g}", *(f"{found[name] / total:.1%}" for name in ROWS), most))
        if temperature == TEMPERATURES[-1]:
            capped, most = mixed(rows, Config(temperature=temperature, characters=total))
            table.append(("the same, at most 4 times", *(f"{capped[name] / sum(capped.values()):.1%}" for name in ROWS), most))  # fmt: skip

    def once() -> None:
        mixed(rows, Config(temperature=2.0, characters=total))

    raw = interleave({"mix": once}, read.repeats)
    print(f"{len(rows)} rows, {total} characters\n")
    show(("mixture", *ROWS, "a row stands up to"), table)
    print()
    write(read.json, WORK, {}, raw, difference=worst, most=most, shares=shares, sizes=sizes)


if __name__ == "__main__":
    main()
