"""Make English-Chinese sentence pairs out of fetched assets: cleaned, deduplicated, split without leaks.

把已取到的资料做成英汉句对：清洗、去重、划分，测试句不会出现在训练集里。

Example: danlu data pairs --out data/pairs
Before it: danlu pull hsk-sentences, cc-cedict, libreoffice-help-en, libreoffice-help-zh. The output holds train.jsonl,
valid.jsonl and test.jsonl with rows {"source": English, "target": Chinese, "origin": asset}, and data.json with counts,
hashes and licences. Pairs that share either side, case, digits and punctuation aside, stay on one side of the split.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from danlu.core.assets import asset_path, find
from danlu.core.config import Config as BaseConfig
from danlu.core.config import Output, doc
from danlu.core.errors import DataError, MissingExtraError
from danlu.core.files import atomic_folder, sha256_file, write_json
from danlu.core.i18n import tr
from danlu.data.dedup import content_hash
from danlu.data.progress import track
from danlu.data.split import SPLITS, assign, join_groups

__all__ = [
    "ORIGINS", "Config", "Pair", "cedict_pairs", "clean_sense", "help_pairs", "hsk_pairs", "near_key", "read_pairs", "run",
    "split_pairs",
]  # fmt: skip

_HELP_ID = re.compile(r"(par|hd)_id\w+")
_CODE = re.compile("code")  # the classes of a program's lines: code, codeintable, smathcode
_HAN = re.compile("[\u3400-\u9fff]")
_LATIN = re.compile("[A-Za-z]")
_HEADWORD = re.compile("[\u3400-\u9fff，]+")
_NOTES = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
# Senses that speak about the word instead of translating it.
_ABOUT = re.compile(
    r"(\w+ )?variants? of\b|(see|see also|same as|also written|also called|used in|old name|contraction|surname)\b|"
    r"(CL:|Taiwan pr|also pr|abbr|short for|lit\.|Kangxi radical)"
)
_LONGEST = 600  # characters of a side
_RATIO = (0.7, 12.0)  # English characters for each Chinese one, help pages; outside the two do not say the same
_SHARE = {"valid": 20, "test": 10}  # of an origin's rows no more than one in so many is held out


class Pair(NamedTuple):
    """The same in two languages, and the asset it comes from."""

    en: str
    zh: str
    origin: str


class Config(BaseConfig):
    """Settings of `danlu data pairs`."""

    out: Output = doc(..., "folder to write", "输出文件夹")
    origins: list[str] = doc(
        ["hsk-sentences", "cc-cedict", "libreoffice-help"], "where the pairs come from", "句对的来源"
    )
    senses: int = doc(2, "of a dictionary entry, so many senses at most", "每个词条最多取几个义项", ge=1)
    valid: int = doc(500, "pairs of each origin held out to measure the loss", "每个来源留作验证的句对数", ge=0)
    test: int = doc(1000, "pairs of each origin held out to the very end", "每个来源留作测试的句对数", ge=0)
    seed: int = doc(0, "chooses the split", "决定划分")


def read_pairs(names: Sequence[str], *, senses: int = 2) -> Iterator[Pair]:
    """The pairs of the assets called `names` (see `ORIGINS`), in their order, each pair of texts once.

    Raises AssetError saying what to fetch, DataError for an unknown name or a damaged file, MissingExtraError.
    """
    if unknown := [name for name in names if name not in ORIGINS]:
        raise DataError(
            tr(f"no pairs are known from '{unknown[0]}'", f"没有来自“{unknown[0]}”的句对"),
            tr(f"there are: {', '.join(ORIGINS)}", f"可用的有：{'、'.join(ORIGINS)}"),
        )
    folders = {name: [asset_path(asset) for asset in ORIGINS[name]] for name in names}  # all there, before the work
    seen = set()
    for name in names:
        places = folders[name]
        found = cedict_pairs(places[0], senses=senses) if name == "cc-cedict" else _READERS[name](*places)
        for pair in found:
            if pair[:2] not in seen:
                seen.add(pair[:2])
                yield pair


# --- graded sentences ---


def hsk_pairs(folder: Path) -> Iterator[Pair]:
    """The sentences of `hsk-sentences`: {"chinese": ..., "translation": {"en": ...}} in sentences.json."""
    file = folder / "sentences.json"
    with _readable(file):
        for row in orjson.loads(file.read_bytes()):
            en, zh = _tidy(row["translation"]["en"]), _tidy(row["chinese"])
            if _LATIN.search(en) and _HAN.search(zh):
                yield Pair(en, zh, "hsk-sentences")


# --- the dictionary ---


def cedict_pairs(folder: Path, *, senses: int = 2) -> Iterator[Pair]:
    """Simplified headwords of `cc-cedict` with at most `senses` cleaned senses each, one pair for each.

    all.js is `export default {"all": [[traditional, simplified, pinyin, sense or senses, variants, classifiers], ...]}`.
    Left out are headwords with other than Chinese characters, and senses that only name a variant or another entry.
    """
    file = folder / "all.js"
    with _readable(file):
        text = file.read_bytes()
        for row in orjson.loads(text[text.index(b"{") :].rstrip(b"; \n"))["all"]:
            word, told = row[1], row[3]
            if not _HEADWORD.fullmatch(word):
                continue
            parts = (part for sense in ([told] if isinstance(told, str) else told) for part in _split_sense(sense))
            for en in islice(dict.fromkeys(filter(None, map(clean_sense, parts))), senses):
                yield Pair(en, word, "cc-cedict")


def _split_sense(sense: str) -> list[str]:
    """'to handle; to deal with' are two; a semicolon within brackets divides nothing."""
    return re.split(r";(?![^(]*\))", sense)


def clean_sense(sense: str) -> str:
    """A dictionary's sense without notes in brackets and pinyin; '' when it translates nothing.

    'to play (cards) (coll.)' gives 'to play'; 'variant of 汞[gong3]' gives ''.
    """
    while (shorter := _NOTES.sub(" ", sense)) != sense:
        sense = shorter
    sense = re.sub(r"\s+([,.!?])", r"\1", " ".join(sense.split())).strip(" ,;:").removeprefix("fig. ")
    if _ABOUT.match(sense) or _HAN.search(sense) or not _LATIN.search(sense) or re.search(r"[()\[\]|]", sense):
        return ""
    return sense


# --- help pages ---


def help_pairs(english: Path, chinese: Path) -> Iterator[Pair]:
    """The paragraphs and headings of two folders of help pages, aligned by file and element id.

    Left out are programs, what is not translated, and pairs whose lengths do not fit each other.
    Raises DataError when the folders share no page, MissingExtraError without selectolax.
    """
    pages = [page.relative_to(english) for page in sorted(english.rglob("*.html"))]
    pages = [page for page in pages if (chinese / page).is_file()]
    if not pages:
        raise DataError(tr(f"{english} and {chinese} share no page", f"{english} 与 {chinese} 没有相同的页面"))
    for page in track(pages, len(pages), tr("reading help pages", "读取帮助页面")):
        sides = _help_strings(english / page), _help_strings(chinese / page)
        for name in sides[0]:
            en, zh = sides[0][name], sides[1].get(name, "")
            if _fits(en, zh):
                yield Pair(en, zh, "libreoffice-help")


def _help_strings(page: Path) -> dict[str, str]:
    """Element id -> text, without markup and without the wording for other systems than the usual one."""
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ModuleNotFoundError:
        raise MissingExtraError("selectolax", "data") from None
    tree = LexborHTMLParser(page.read_bytes())
    for other in tree.css(".MAC"):
        other.decompose()
    for line_break in tree.css("br"):
        line_break.replace_with(" ")
    found: dict[str, str] = {}
    for node in tree.css("p[id], h1[id], h2[id], h3[id], h4[id], h5[id], h6[id]"):
        name = node.attributes["id"] or ""
        if _HELP_ID.fullmatch(name) and not _CODE.search(node.attributes.get("class") or ""):
            found.setdefault(name, _tidy(node.text()))
    return found


def _fits(en: str, zh: str) -> bool:
    han = len(_HAN.findall(zh))
    letters = len(_LATIN.findall(en))
    if not (en and zh) or max(len(en), len(zh)) > _LONGEST or _HAN.search(en):
        return False
    # Mostly Chinese on one side and mostly words on the other: what is left are formulas, file names, numbers.
    return (
        han >= 2 and han >= 0.3 * len(zh) and letters >= 0.6 * len(en) and _RATIO[0] <= len(en) / len(zh) <= _RATIO[1]
    )


def _tidy(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turns what a damaged file raises into a DataError that names it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise DataError(
            tr(f"{file} is damaged: {error!r}", f"{file} 已损坏：{error!r}"),
            tr("fetch it again: danlu pull", "请重新获取：danlu pull"),
        ) from None


_READERS: dict[str, Callable[..., Iterator[Pair]]] = {
    "hsk-sentences": hsk_pairs,
    "cc-cedict": cedict_pairs,
    "libreoffice-help": help_pairs,
}
ORIGINS: dict[str, list[str]] = {  # by origin, the assets it is read from
    "hsk-sentences": ["hsk-sentences"],
    "cc-cedict": ["cc-cedict"],
    "libreoffice-help": ["libreoffice-help-en", "libreoffice-help-zh"],
}


# --- the split ---


def near_key(text: str) -> str:
    """The same for texts that differ in width, case, digits, punctuation and white space only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\W_]+", " ", re.sub(r"\d+", "0", folded)).strip()


def split_pairs(pairs: Sequence[Pair], *, valid: int, test: int, seed: int = 0) -> list[int]:
    """For each pair 0 train, 1 valid or 2 test: of each origin `valid` and `test` pairs, at most 1/20 and 1/10 of it.

    Pairs of which either side has the same `near_key`, also by way of others, stay together; those joined with another
    origin's are never held out. Depends on the pairs and the seed, not on their order.
    """
    groups = join_groups((f"en {near_key(pair.en)}", f"zh {near_key(pair.zh)}") for pair in pairs).tolist()
    names, origins = {}, {}
    for pair, group in zip(pairs, groups, strict=True):
        mine = content_hash(f"{pair.en}\n{pair.zh}")
        names[group] = min(names.get(group, mine), mine)
        origins.setdefault(group, set()).add(pair.origin)
    side = [0] * len(pairs)
    for origin in sorted({pair.origin for pair in pairs}):
        rows = [row for row, pair in enumerate(pairs) if pair.origin == origin]
        free = [row for row in rows if len(origins[groups[row]]) == 1]
        if not free:
            continue
        most = len(rows) // _SHARE["valid"], len(rows) // _SHARE["test"]
        chosen = assign(
            [names[groups[row]] for row in free], valid=min(valid, most[0]), test=min(test, most[1]), seed=seed
        )
        for row, where in zip(free, chosen.side.tolist(), strict=True):
            side[row] = where
    return side


def run(config: Config) -> dict[str, Any]:
    """Write the folder, print the counts, return what data.json holds.

    Raises AssetError for an asset that is not here, DataError when `out` holds something else or nothing is found.
    """
    out = config.out
    if out.exists() and not (out / "data.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            tr(f"{out} exists and is not a data set prepared earlier", f"{out} 已存在，且不是先前准备好的数据"),
            tr("choose another --out", "请换一个 --out"),
        )
    pairs = list(read_pairs(config.origins, senses=config.senses))
    if not pairs:
        raise DataError(tr("the assets hold no pairs", "资料中没有句对"), tr("fetch them again", "请重新获取"))
    side = split_pairs(pairs, valid=config.valid, test=config.test, seed=config.seed)
    with atomic_folder(out) as folder:
        files = {split: _write(folder / f"{split}.jsonl", pairs, side, at) for at, split in enumerate(SPLITS)}
        assets = [find(asset) for origin in config.origins for asset in ORIGINS[origin]]
        summary = {
            "schema": 1,
            "assets": [asset.model_dump(include={"name", "version", "licence", "content"}) for asset in assets],
            "config": {key: value for key, value in config.plain().items() if key != "out"},
            "splits": files,
        }
        write_json(folder / "data.json", summary)
    _show(config.origins, files)
    return summary


def _write(path: Path, pairs: Iterable[Pair], side: Sequence[int], wanted: int) -> dict[str, Any]:
    """The pairs on one side, shuffled by their hash: origins mixed, the same order every time."""
    chosen = [pair for pair, at in zip(pairs, side, strict=True) if at == wanted]
    chosen.sort(key=lambda pair: hashlib.blake2b(f"{pair.en}\n{pair.zh}".encode(), digest_size=16).digest())
    with path.open("wb") as file:
        for pair in chosen:
            file.write(orjson.dumps({"source": pair.en, "target": pair.zh, "origin": pair.origin}) + b"\n")
    origins = sorted({pair.origin for pair in chosen})
    counts = {origin: sum(pair.origin == origin for pair in chosen) for origin in origins}
    return {"rows": len(chosen), "origins": counts, "sha256": sha256_file(path)}


def _show(origins: Sequence[str], files: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(tr("origin", "来源"))
    for split in SPLITS:
        table.add_column(split, justify="right")
    for origin in origins:
        table.add_row(origin, *(f"{files[split]['origins'].get(origin, 0):,}" for split in SPLITS))
    Console().print(table)
