"""Cleaning: the usual advice (a regular expression for tags, another for symbols) beside the steps of the data workshop.

数据清洗：常见做法（一条正则去标签、一条正则去符号）与数据工坊各步骤的对比。

Texts: Python's own library (does it still mean the same?), hand-made texts that must stay or change in a known way, and news, poems
and English prose written in other encodings and misread on purpose. Assets (fetched once): zh-news, chinese-poetry, brown.
"""

import ast
import re
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from _common import arguments, show, write

from danlu.data.encodings import Decoder
from danlu.data.reading import SourceOptions, Sources
from danlu.data.step import Drop, make_step, step_config
from danlu.data.steps.chinese import Converter

WORK = "cleaning text / 文本清洗"
STEPS = ("html", "repair", "clean", "language", "normalise", "chinese", "boilerplate")
BLIND = tuple(name for name in STEPS if name != "language")  # nobody says which rows are program code
MODULES, TEXTS, HEAD = 150, 200, 300
Change = Callable[[str], str]
Shares = dict[str, dict[str, float]]

# before, after: what is noise goes, what only looks like noise stays
CASES = [
    ("<p>熟读唐诗三百首，不会作诗也会吟。</p><br>", "熟读唐诗三百首，不会作诗也会吟。"),
    ("<div><p>Tags &amp; entities: 1 &lt; 2.</p></div>", "Tags & entities: 1 < 2."),
    ("if a < b and c > d: swap(a, b)", "if a < b and c > d: swap(a, b)"),
    ("由 1<2 且 3>2，可知不等号方向一致。", "由 1<2 且 3>2，可知不等号方向一致。"),
    ("C++ 和 C# 都比 C 新。", "C++ 和 C# 都比 C 新。"),
    ("Write to li.bai@example.com, please.", "Write to li.bai@example.com, please."),
    ("It's a well-known e-mail, isn't it?", "It's a well-known e-mail, isn't it?"),
    ("圆周率约为 3.14，误差为 -0.05%。", "圆周率约为 3.14，误差为 -0.05%。"),
    ("一家三口 👨\u200d👩\u200d👧，喜欢 ❤\ufe0f。", "一家三口 👨\u200d👩\u200d👧，喜欢 ❤\ufe0f。"),
    ("他说：“知之为知之，不知为不知。”", "他说：“知之为知之，不知为不知。”"),
    ("今天下雨,我们不去了.你呢?", "今天下雨，我们不去了。你呢？"),
    ("It is late，but we go on。", "It is late, but we go on."),
    ("ＡＢＣ１２３ 与 ABC123 一样。", "ABC123 与 ABC123 一样。"),
    ("太好了！！！！！", "太好了！"),
    ("零\u200b宽\ufeff空格", "零宽空格"),
    ("頭髮很長，發展很快。", "头发很长，发展很快。"),
    ("é from e\u0301", "é from é"),
    ("文章到此为止。\n分享到：微信 微博 QQ空间\n版权所有 © 某某网", "文章到此为止。"),
]
# how the bytes were written -> how they were read
MISREAD = {
    "utf8_as_gbk": ("utf-8", "gb18030"),
    "utf8_as_latin": ("utf-8", "sloppy-windows-1252"),  # as browsers read it: every byte is a character (from ftfy)
    "gbk_as_latin": ("gbk", "latin-1"),
}


def advice(text: str) -> str:
    """What the advice amounts to: no tags, no symbols."""
    return re.sub(r"[^\w\s]", "", tags_off(text))


def tags_off(text: str) -> str:
    return re.sub(r"<[^>]+>", "", text)


def workshop(*names: str, **settings: dict[str, object]) -> Change:
    """The text after these steps of `danlu data prepare`; '' when one of them dropped it."""
    steps = [make_step(name, step_config(name, settings.get(name))) for name in names]

    def change(text: str) -> str:
        row = {"id": "", "source": "", "text": text}
        for step in steps:
            row = step.apply(row, Counter())
            if isinstance(row, Drop):
                return ""
        return row["text"]

    return change


def texts(source: str, **options: object) -> list[str]:
    """The first texts of an asset that have a few sentences, cut to HEAD characters."""
    rows = Sources([Path(source)], {}, SourceOptions.parse(options, source)).rows()
    return list(islice((row["text"].lstrip("\ufeff")[:HEAD] for row in rows if len(row["text"]) >= HEAD // 2), TEXTS))


def same_program(before: str, after: str) -> bool:
    try:
        return ast.dump(ast.parse(before)) == ast.dump(ast.parse(after))
    except (SyntaxError, ValueError):
        return False


def programs(ways: dict[str, Change]) -> dict[str, float]:
    """The share of modules that parse to the same tree afterwards. White space within their strings counts too."""
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = [file.read_text(encoding="utf-8") for file in sorted(library.glob("*.py"))[:MODULES]]
    return {name: share(same_program(source, way(source)) for source in sources) for name, way in ways.items()}


def share(truths: Iterable[float]) -> float:
    found = list(truths)
    return round(sum(found) / len(found), 4)


def overlap(one: str, other: str) -> float:
    """How many characters two texts have in common, by the longer one."""
    return (Counter(one) & Counter(other)).total() / max(len(one), len(other), 1)


def written(originals: list[str]) -> dict[str, list[tuple[str, bytes]]]:
    """The texts as bytes in several encodings, those that the encoding has characters for."""
    traditional = Converter("traditional")
    found: dict[str, list[tuple[str, bytes]]] = {}
    for encoding in ("utf-8", "gb18030", "big5", "utf-16"):
        pairs = found[encoding] = []
        for text in map(traditional, originals) if encoding == "big5" else originals:
            try:
                pairs.append((text, text.encode(encoding)))
            except UnicodeEncodeError:
                continue
    return found


def decoding(originals: list[str]) -> Shares:
    """The share of texts that come back exactly, when nobody says what encoding they are in."""
    from charset_normalizer import from_bytes

    def guessed(data: bytes) -> str:
        best = from_bytes(data).best()
        return "" if best is None else str(best)

    ways = {
        "utf8_only": lambda data: data.decode("utf-8", "ignore"),
        "charset_normalizer": guessed,
        "danlu": lambda data: Decoder().feed(data, final=True),
    }
    return {
        encoding: {name: share(way(data) == text for text, data in pairs) for name, way in ways.items()}
        for encoding, pairs in written(originals).items()
    }


def mojibake(chinese: list[str], english: list[str]) -> Shares:
    """How much of a misread text comes back, on average, and how many good texts stay as they are."""
    from ftfy import fix_encoding

    loss = {"max_lost": 1}
    ways = {
        "nothing": str,
        "ftfy": fix_encoding,
        "danlu_clean_first": workshop("clean", "repair", repair=loss),  # the wrong order
        "danlu": workshop("repair", repair=loss),
    }
    found: Shares = {}
    for kind, (was, read) in MISREAD.items():
        wrong = [(text, text.encode(was, "ignore").decode(read, "replace")) for text in chinese]
        found[kind] = {name: share(overlap(text, way(bad)) for text, bad in wrong) for name, way in ways.items()}
    good = chinese + english
    found["good_untouched"] = {
        name: share(way(text) == text for text in good) for name, way in ways.items() if "first" not in name
    }
    return found


def measured() -> Shares:
    news = texts("zh-news", kind="pickled-table", columns=["text=1"], take="*.pkl")
    poems = texts("chinese-poetry/quantangshi", kind="json", columns=["text=paragraphs"], join="\n")
    english = texts("brown", kind="tagged", take="ca[0-9][0-9]")
    ways = {"tags_off": tags_off, "advice": advice, "danlu_blind": workshop(*BLIND), "danlu": workshop(*STEPS)}
    for name, way in ways.items():
        for before, after in CASES:
            if name == "danlu" and (told := way(before)) != after:
                print(f"not as wanted: {before!r} -> {told!r}")
    return {
        "cases": {name: share(way(before) == after for before, after in CASES) for name, way in ways.items()},
        "programs": programs(ways),
        **{f"bytes_{name}": shares for name, shares in decoding(news).items()},
        **mojibake([*news, *poems], english),
    }


def main() -> None:
    read = arguments(__doc__, repeats=1).parse_args()
    start = time.perf_counter()
    found = measured()
    rows = [(what, name, value) for what, shares in found.items() for name, value in shares.items()]
    show(("what", "way", "share"), rows)
    print()
    write(read.json, WORK, {}, {"seconds": [time.perf_counter() - start]}, shares=found)


if __name__ == "__main__":
    main()
