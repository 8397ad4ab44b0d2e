"""A reader of WordNet's database files, and just enough English morphology to put a synonym in a word's place.

Files and fields are those of WordNet's manual, wndb(5WN); detaching an ending is Morphy's rules, morphy(7WN). A word
whose form is irregular is left alone, and an irregular verb is not put in the place of an inflected one.
"""

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from danlu.core.errors import DataError
from danlu.core.i18n import tr

_POS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_BROWN = {"nn": "n", "vb": "v", "jj": "a", "rb": "r"}  # how the tags of the Brown corpus begin
_TAGGED = re.compile(r"([A-Za-z]+)/(nn|vb|jj|rb)(?!\S*-tl)")  # not in titles, where each word has the tag of a title
_VOWELS = "aeiou"
_SHORTEST = 3  # letters of a word that is replaced
# ((part of speech, ending), (suffix to take off, what to put on)).
_RULES = {
    ("n", "s"): (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x"), ("s", "")),
    ("v", "s"): (("ies", "y"), ("es", ""), ("s", "")),
    ("v", "ed"): (("ied", "y"), ("ed", ""), ("d", "")),
    ("v", "ing"): (("ing", ""), ("ing", "e")),
}

# What these words stand for in a sentence is not what WordNet lists under them.
_FUNCTION = frozenset(
    """a about above after again all also am an and any anybody anyone anything are as at be because been before being
    below both but by can cannot could did do does doing done down during each every everybody everyone everything few
    for from had has have having he her here hers him his how i if in into is it its itself just let like may me might
    mine more most much must my near neither no nobody none nor not nothing now of off on once one only or other ought
    our out over own per same shall she should since so some somebody someone something such than that the their them
    then there these they this those though through thus till to too two under until up upon us very via was we were
    what whatever when where whether which while who whom whose why will with within without would yes yet you your""".split()  # noqa: SIM905
)


class Form(NamedTuple):
    """A word taken apart: its base, the part of speech that has it, and the ending ('', 's', 'ed' or 'ing')."""

    base: str
    pos: str
    ending: str


class WordNet:
    """Synonyms of English words in their likeliest part of speech and its likeliest sense."""

    def __init__(self, path: Path, corpus: Path, rarity: float = 0.05) -> None:
        """Read WordNet's files under `path` and count the words of `corpus`, a folder of files with Brown's tags.

        Raises DataError when they are not there.
        """
        folder = next((file.parent for file in sorted(path.rglob("index.noun"))), path)
        self._rarity = rarity
        self._senses: dict[tuple[str, str], int] = {}  # (word, pos) -> where its commonest synset stands in data.POS
        self._irregular: dict[tuple[str, str], list[str]] = {}  # (base, pos) -> its listed forms
        self._forms: set[tuple[str, str]] = set()  # (listed form, pos)
        try:
            for pos, name in _POS.items():
                self._read_index(folder / f"index.{name}", pos)
                self._read_exceptions(folder / f"{name}.exc", pos)
            self._data = {pos: (folder / f"data.{name}").read_bytes() for pos, name in _POS.items()}
        except (OSError, ValueError, IndexError) as error:
            raise DataError(
                tr(f"cannot read WordNet at {folder}: {error}", f"无法读取 WordNet {folder}：{error}"),
                "danlu pull wordnet",
            ) from None
        self._counts = _count(corpus)

    def _read_index(self, file: Path, pos: str) -> None:
        for line in file.read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):  # the licence stands at the top
                fields = line.split()
                if "_" not in fields[0]:
                    self._senses[fields[0], pos] = int(fields[-int(fields[2])])

    def _read_exceptions(self, file: Path, pos: str) -> None:
        for line in file.read_text(encoding="utf-8").splitlines():
            form, *bases = line.split()
            self._forms.add((form, pos))
            for base in bases:
                self._irregular.setdefault((base, pos), []).append(form)

    def of(self, word: str) -> list[tuple[str, int]]:
        """Synonyms of `word` in the form and case that it has, and how common they are."""
        return [(_cased(other, word), count) for other, count in self._of(word.lower())]

    @lru_cache(maxsize=65536)  # noqa: B019  (lives as long as the one reader of a process)
    def _of(self, word: str) -> list[tuple[str, int]]:
        form = self.form(word)
        if form is None:
            return []
        found, start = [], self._senses[form.base, form.pos]
        least = max(1, self._rarity * self._counts[word, form.pos])
        for other in self.synset(form.base, form.pos):
            shown = self.inflected(other, form)
            if shown in (None, word) or self._senses[other, form.pos] != start:  # usually means something else
                continue
            if (count := self._counts[shown, form.pos]) >= least:
                found.append((shown, count))
        return found

    def form(self, word: str) -> Form | None:
        """How `word` is likeliest meant: of its readings, the commonest. None for what stays as it is."""
        if len(word) < _SHORTEST or word in _FUNCTION:
            return None
        readings = [Form(word, pos, "") for pos in _POS if (word, pos) in self._senses]
        readings += [form for form in self._detached(word) if (form.base, form.pos) in self._senses]
        if not readings:
            return None
        pos = max((form.pos for form in readings), key=lambda pos: self._counts[word, pos])
        readings = [form for form in readings if form.pos == pos]
        if (word, pos) in self._forms and not any(form.ending for form in readings):
            return None  # "found", which is not what founders did
        return max(readings, key=lambda form: len(form.ending))

    def synset(self, base: str, pos: str) -> list[str]:
        """The other single words of the commonest sense; names (with a capital) are left out."""
        data, start = self._data[pos], self._senses[base, pos]
        fields = data[start : data.index(b"\n", start)].decode("utf-8").split()
        words = [fields[4 + 2 * number].partition("(")[0] for number in range(int(fields[3], 16))]
        return [word for word in words if word != base and word.isalpha() and word.islower()]

    def _detached(self, word: str) -> list[Form]:
        """The bases that the ending of `word` may stand on."""
        forms = []
        for (pos, ending), pairs in _RULES.items():
            for suffix, instead in pairs:
                base = word.removesuffix(suffix) + instead
                if word.endswith(suffix):
                    forms.append(Form(base, pos, ending))
                    if ending in ("ed", "ing") and base[-1:] == base[-2:-1]:
                        forms.append(Form(base[:-1], pos, ending))  # stopped
        return [form for form in forms if len(form.base) > 1 and self.inflected(form.base, form) == word]

    def inflected(self, base: str, form: Form) -> str | None:
        """`base` with the ending of `form`; None where the regular one would be wrong."""
        listed = self._irregular.get((base, form.pos), [])
        if not form.ending or not listed:
            return _regular(base, form.ending)
        if exact := [other for other in listed if other.endswith(form.ending)]:
            return exact[0]  # stopped
        return None if form.pos == "n" or form.ending == "ed" else _regular(base, form.ending)


def _regular(base: str, ending: str) -> str:
    consonant_y = base.endswith("y") and base[-2:-1] not in _VOWELS
    if ending == "s" and base.endswith(("s", "x", "z", "ch", "sh")):
        return base + "es"
    if ending == "ed" and base.endswith("e"):
        return base + "d"
    if ending == "ing" and base.endswith("e") and base[-2:-1] not in ("e", "y", "o"):
        return base[:-1] + "ing"
    if ending in ("s", "ed") and consonant_y:
        return base[:-1] + ("ies" if ending == "s" else "ied")
    return base + ending


def _count(corpus: Path) -> Counter[tuple[str, str]]:
    """How often each word stands there as each part of speech."""
    counts: Counter[tuple[str, str]] = Counter()
    for file in sorted(corpus.glob("c[a-r][0-9][0-9]")):
        for word, tag in _TAGGED.findall(file.read_text(encoding="utf-8")):
            counts[word.lower(), _BROWN[tag]] += 1
    if not counts:
        raise DataError(tr(f"{corpus} holds no tagged texts", f"{corpus} 中没有带词性标注的文本"), "danlu pull brown")
    return counts


def _cased(word: str, like: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
