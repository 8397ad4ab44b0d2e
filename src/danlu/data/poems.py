"""Quatrains of the Tang and Song dynasties: read, converted to simplified characters, made into rows.

A row has `text` (the pre-training document), `messages` (the same poem as a chat), `title`, `form`
(5 or 7 characters a line), `lines` (four strings without punctuation) and `group` (poems that share a
line, directly or by way of others, have the same group and must stay on one side of a split).
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from danlu.core.errors import DataError, MissingExtraError
from danlu.core.i18n import tr
from danlu.data.dedup import Deduplicator, content_hash
from danlu.data.progress import track
from danlu.data.sources import Row
from danlu.data.split import join_groups

__all__ = [
    "INSTRUCTIONS",
    "MAX_TITLE",
    "Quatrain",
    "clean_title",
    "instruction",
    "poem_body",
    "poem_rows",
    "read_quatrains",
    "simplify",
]

MAX_TITLE = 12  # characters; longer ones are whole prefaces

_FILE = re.compile(r"poet\.(tang|song)\.\d+\.json")
_AT_ONCE = 10_000  # texts
_ELSEWHERE = {"error", "strains"}  # equally named files that hold something else
_MARKS = re.compile("[，。！？；]")
_CHINESE = re.compile("[\u4e00-\u9fff]+")  # the unified ideographs every font has
_NOT_CHINESE = re.compile("[^\u4e00-\u9fff]")
_BRACKETS = re.compile(r"（[^（）]*）|\([^()]*\)|\[[^\[\]]*\]|〖[^〖〗]*〗|〔[^〔〕]*〕|【[^【】]*】|\{[^{}]*\}")
_QUOTES = re.compile("[《》〈〉「」『』“”]")
_DIGITS = "一二三四五六七八九十百零○〇有两"
# What numbers a poem within a cycle, or stands where a title is lacking: 其二, 第七, 又, 诗一首, 再和, 句.
_NUMBER = re.compile(f"(?:其|第)?[{_DIGITS}]+|又.?首?|句|诗|诗?[{_DIGITS}]首|再[题吟和赋]?|同[前上]|同题")
# What counts the poems of a cycle or announces a preface: 二首, 三绝, 第七, 并序.
_COUNT = re.compile(
    f"(?:共|凡)?(?:其|第)?[{_DIGITS}数]+(?:首|绝句|绝|章|篇|阕|则|咏|韵|枝)$|第[{_DIGITS}]+$|[并幷有][序引]$"
)

INSTRUCTIONS = (
    "写一首{form}，题为《{title}》。",
    "写一首{form}，题目是《{title}》。",
    "请写一首{form}，题为《{title}》。",
    "请以《{title}》为题，写一首{form}。",
    "以《{title}》为题作一首{form}。",
    "以“{title}”为题，作{form}一首。",
    "请你作一首题为《{title}》的{form}。",
    "作{form}一首，题曰《{title}》。",
    "帮我写首{form}，标题叫《{title}》。",
    "能写一首{form}吗？题目叫《{title}》。",
    "我想要一首{form}，题目：{title}",
    "题目：《{title}》\n体裁：{form}",
    "来一首{form}吧，就叫《{title}》。",
    "赋{form}一首，题《{title}》。",
    "《{title}》，请按这个题目写一首{form}。",
    "试以“{title}”为题赋诗，要{form}。",
)
_FORMS = {5: ("五言绝句", "五绝"), 7: ("七言绝句", "七绝")}


class Quatrain(NamedTuple):
    """A poem as found: four lines of equal length, in simplified characters."""

    title: str
    lines: tuple[str, str, str, str]


def instruction(title: str, form: int, choice: int) -> str:
    """One of the wordings that ask for a poem; the form is always said. `choice` is any non-negative number."""
    short = choice // len(INSTRUCTIONS) % 4 == 0  # one in four says 七绝 for 七言绝句
    return INSTRUCTIONS[choice % len(INSTRUCTIONS)].format(form=_FORMS[form][short], title=title)


def poem_body(lines: Sequence[str]) -> str:
    """'line1，line2。\\nline3，line4。'"""
    return f"{lines[0]}，{lines[1]}。\n{lines[2]}，{lines[3]}。"


def simplify(texts: Sequence[str]) -> list[str]:
    """Traditional to simplified characters; the texts, each one line, are converted by the thousand (fast).

    Where the simplified character lies outside the range every font has (U+4E00-9FFF) and the
    traditional one inside, the traditional one stays. Raises MissingExtraError.
    """
    try:
        from opencc_purepy import OpenCC
    except ImportError:
        raise MissingExtraError("opencc-purepy", "poems") from None
    converter = OpenCC("t2s")
    simple: list[str] = []
    for at in range(0, len(texts), _AT_ONCE):  # of more than a million characters OpenCC would start processes
        source = "\n".join(texts[at : at + _AT_ONCE])
        simple += _keep_common(source, converter.convert(source)).split("\n")
    return simple


def _keep_common(source: str, target: str) -> str:
    if len(source) != len(target):
        return target
    parts, end = [], 0
    for match in _NOT_CHINESE.finditer(target):
        at = match.start()
        if target[at] != source[at] and _CHINESE.match(source[at]):
            parts += [target[end:at], source[at]]
            end = at + 1
    return "".join([*parts, target[end:]])


def clean_title(title: str) -> str:
    """A natural title: without notes in brackets, numbering, counts and the name of the cycle; '' if none is left.

    '使东川 汉江上笛' gives '汉江上笛', '夜意二首 其二' gives '夜意'.
    """
    parts = _QUOTES.sub("", _BRACKETS.sub("", title)).split()
    while len(parts) > 1 and _NUMBER.fullmatch(parts[-1]):
        parts.pop()
    if not parts:
        return ""
    last = parts[-1]
    while (shorter := _COUNT.sub("", last)) and shorter != last:
        last = shorter
    return last if _CHINESE.fullmatch(last) and not _NUMBER.fullmatch(last) else ""


def read_quatrains(folder: Path, funnel: Counter[str] | None = None) -> list[Quatrain]:
    """All quatrains of the poet.*.json files under `folder`, Tang before Song, in simplified characters.

    Kept are poems of exactly four equal lines of 5 or 7 characters, all of them unified ideographs (so
    that none holds a placeholder such as □), with a title of 1 to `MAX_TITLE` characters, and of several
    with the same four lines the first. `funnel` receives how many poems were left after each step.

    Raises DataError when there are no such files or one is damaged, MissingExtraError without OpenCC.
    """
    funnel = Counter() if funnel is None else funnel
    titles, bodies = [], []
    for title, lines in _four_lines(folder, funnel):
        titles.append(title)
        bodies.append("，".join(lines))
    unique = sorted(set(titles))
    simple = dict(zip(unique, map(clean_title, simplify(unique)), strict=True))
    kept, seen = [], Deduplicator()
    for title, body in zip(titles, simplify(bodies), strict=True):
        name = simple[title]
        if not 0 < len(name) <= MAX_TITLE:
            continue
        funnel["titled"] += 1
        if seen.is_new(body):
            a, b, c, d = body.split("，")
            kept.append(Quatrain(name, (a, b, c, d)))
    funnel["distinct"] = len(kept)
    return kept


def _four_lines(folder: Path, funnel: Counter[str]) -> Iterator[tuple[str, list[str]]]:
    found = Path(folder).rglob("poet.*.json")
    found = (file for file in found if _FILE.fullmatch(file.name) and not _ELSEWHERE.intersection(file.parts))
    files = sorted(found, key=_order)
    if not files:
        raise DataError(
            tr(f"no poet.*.json under {folder}", f"{folder} 下没有 poet.*.json"),
            tr("fetch them: danlu pull chinese-poetry", "请先获取:danlu pull chinese-poetry"),
        )
    for file in track(files, len(files), tr("reading poems", "读取诗歌")):
        for title, body in _poems(file):
            funnel["poems"] += 1
            lines = [line for line in _MARKS.split(body) if line]
            if len(lines) == 4 and len(lines[0]) in _FORMS and len({len(line) for line in lines}) == 1:
                funnel["quatrains"] += 1
                if all(map(_CHINESE.fullmatch, lines)):
                    funnel["legible"] += 1
                    yield " ".join(title.split()), lines


def _order(file: Path) -> tuple[bool, int]:
    _, dynasty, number, _ = file.name.split(".")
    return dynasty != "tang", int(number)


def _poems(file: Path) -> Iterable[tuple[str, str]]:
    try:
        poems = json.loads(file.read_bytes())
        return [(poem["title"], "".join(poem["paragraphs"])) for poem in poems]
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise DataError(
            tr(f"{file} is damaged: {error!r}", f"{file} 已损坏:{error!r}"),
            tr("fetch it again: danlu pull chinese-poetry", "请重新获取:danlu pull chinese-poetry"),
        ) from None


def poem_rows(quatrains: Sequence[Quatrain], seed: int = 0) -> Iterator[Row]:
    """The rows of the module's docstring; the wording of the instruction depends on the poem and the seed alone."""
    groups = join_groups(poem.lines for poem in quatrains)
    names = [content_hash("".join(poem.lines)) for poem in quatrains]
    smallest = list(names)  # of the group, so that its name does not depend on the order of the poems
    for name, group in zip(names, groups, strict=True):
        smallest[group] = min(smallest[group], name)
    for poem, name, group in zip(quatrains, names, groups, strict=True):
        form, body = len(poem.lines[0]), poem_body(poem.lines)
        ask = instruction(poem.title, form, int(content_hash(name, seed)[:12], 16))
        yield {
            "text": f"《{poem.title}》\n{body}",
            "messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": body}],
            "title": poem.title,
            "form": form,
            "lines": list(poem.lines),
            "group": smallest[group][:16],
        }
