"""What the quality step measures of a text, and the rules in the order in which they are asked, the cheap ones first."""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from danlu.data.repetition import duplicate_share, repeated_shares, top_shares
from danlu.data.steps._text import HAN

if TYPE_CHECKING:
    from danlu.data.steps.quality import Config

__all__ = ["Document", "failed_code", "failed_prose", "failed_verse"]

Kind = Literal["code", "verse", "zh", "en", "unspaced", "other"]
Rule = tuple[str, bool, float]  # reason, whether it failed, the figure
Failed = tuple[str, str] | None  # reason, detail

_HAN_RE = re.compile(f"[{HAN}]+")
_WORD_RE = re.compile(r"[A-Za-z]+")
_TEXT_RE = re.compile(r"[^\W_]+")
_LETTER_RE = re.compile(r"[^\W\d_]+")
_DIGIT_RE = re.compile(r"\d+")
_BULLET = re.compile(r"\s*(?:[•·●○■□▪◦‣►▶◆◇★☆※\-*+–]|\d{1,3}[.)、）]|[(（]\d{1,3}[)）])\s*\S")
_ELLIPSIS_END = ("...", "…", "。。。")
_ELLIPSES = re.compile(r"\.{3}|…+|。{3}")
_ENDS = tuple("。！？；：…，、”’」』）》】.!?;:,\"')]—~～")
_C4_ENDS = tuple("。！？…”’」』.!?\"'")
_SENTENCE = re.compile(r"[。！？]+|[.!?]+(?=\s|[\"')\]]|$)")
_MARKS = ".,;:!?\"'()[]“”‘’"
_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_ZH_STOP_WORDS = "的了是在不和有我这人之也"
_ZH_VARIANTS = {"这": "這"}
_UNSPACED = frozenset(("ja", "th", "lo", "my", "km", "bo", "dz", "yue", "wuu"))  # words that no space parts
_LOST = re.compile("[□\ufffd〓■]")
_FEW_LINES = 4  # shares of fewer lines say nothing
_VERSE_LINE = 40  # characters: two sentences of a long lyric
_VERSE_PIECE = re.compile(r"[，。！？；、：\s]+")


def _count(characters: re.Pattern[str], text: str) -> int:
    """How many characters lie within the runs that the pattern finds."""
    return sum(map(len, characters.findall(text)))


class Document:
    """A text and what is measured of it, when it is asked for; `lines` are those that are not empty."""

    def __init__(self, text: str, lang: str | None, kind: Kind | None = None) -> None:
        self.text = text
        self.lines = [line for line in text.split("\n") if line.strip()]
        self.han = _count(_HAN_RE, text) if not text.isascii() else 0
        self.kind: Kind = kind or self._kind(lang)

    def _kind(self, lang: str | None) -> Kind:
        if lang == "code":
            return "code"
        if lang == "zh" or (lang in (None, "und") and self.han / 1.5 > len(_WORD_RE.findall(self.text))):
            return "verse" if self._is_verse() else "zh"
        if lang in _UNSPACED:
            return "unspaced"
        return "en" if lang == "en" or (lang is None and self.text.isascii()) else "other"

    def _is_verse(self) -> bool:
        """Short lines of Chinese parted by marks into pieces of few characters; a menu has no marks and a table has digits."""
        if not self.lines or self.han + len(_LOST.findall(self.text)) < 0.6 * len(self.text):
            return False
        short = sum(len(line.strip()) <= _VERSE_LINE for line in self.lines)
        if short < 0.8 * len(self.lines) or _DIGIT_RE.search(self.text):
            return False
        marked = sum(line.rstrip().endswith(_ENDS) for line in self.lines)
        pieces = [piece for piece in _VERSE_PIECE.split(self.text) if piece]
        few = sum(len(piece) <= 11 for piece in pieces)
        equal = len({len(line.strip()) for line in self.lines}) == 1 and len(self.lines) >= 4
        return few >= 0.8 * len(pieces) and (marked >= 0.5 * len(self.lines) or equal)

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def characters(self) -> int:
        return sum(map(len, self.words))

    @cached_property
    def letters(self) -> int:
        """Letters and digits of every script."""
        return _count(_TEXT_RE, self.text)

    def c4_lines(self, text: str, config: "Config") -> str:
        """The lines of C4: ended by a mark, of enough words, and without the word JavaScript."""

        def stays(line: str) -> bool:
            size = _count(_HAN_RE, line) if self.kind == "zh" else len(line.split())
            return (
                line.rstrip().endswith(_C4_ENDS) and size >= config.min_line_words and "javascript" not in line.lower()
            )

        return "\n".join(line for line in text.split("\n") if not line.strip() or stays(line)).strip("\n")


def failed_prose(document: Document, config: "Config") -> Failed:
    """The first rule that prose fails, with the figure that failed."""
    if config.gopher:
        rules = _chinese if document.kind in ("zh", "unspaced") else _words
        if failed := _first(rules(document, config)) or _by_lines(document, config):
            return failed
    if config.c4 and (failed := _c4(document, config)):
        return failed
    return _repetition(document, config) if config.repetition else None


def _words(document: Document, config: "Config") -> Iterator[Rule]:
    words, text = document.words, document.text
    count = max(len(words), 1)
    yield "too_short", len(words) < config.min_words, len(words)
    yield "too_long", len(words) > config.max_words, len(words)
    mean = document.characters / count
    yield "word_length", not config.min_word_length <= mean <= config.max_word_length, mean
    symbols = (text.count("#") + len(_ELLIPSES.findall(text))) / count
    yield "symbols", symbols > config.max_symbols, symbols
    digits = _count(_DIGIT_RE, text) / max(document.characters, 1)
    yield "digits", digits > config.max_digits, digits
    alphabetic = sum(word.isalpha() or _LETTER_RE.search(word) is not None for word in words) / count
    yield "alphabetic", alphabetic < config.min_alphabetic, alphabetic
    if document.kind == "en":
        found = len(_STOP_WORDS.intersection(word.strip(_MARKS).lower() for word in words))
        yield "stop_words", found < config.min_stop_words, found


# lesson: chinese-rules
def _chinese(document: Document, config: "Config") -> Iterator[Rule]:
    """By characters. Other languages that part no words have the rules that do not ask for Chinese."""
    text, characters = document.text, max(document.characters, 1)
    chinese = document.kind == "zh"
    size = document.han if chinese else document.letters
    yield "too_short", size < config.zh_min_chars, size
    yield "too_long", size > config.zh_max_chars, size
    symbols = (document.characters - document.letters) / characters
    yield "symbols", symbols > config.zh_max_symbols, symbols
    digits = _count(_DIGIT_RE, text) / characters
    yield "digits", digits > config.max_digits, digits
    if chinese:
        han = document.han / max(document.letters, 1)
        yield "han", han < config.zh_min_han, han
        found = sum(word in text or _ZH_VARIANTS.get(word, word) in text for word in _ZH_STOP_WORDS)
        yield "stop_words", found < config.zh_min_stop_words, found


# end lesson


def _first(rules: Iterator[Rule]) -> Failed:
    return next(((reason, f"{value:.4g}") for reason, failed, value in rules if failed), None)


def _by_lines(document: Document, config: "Config") -> Failed:
    lines = document.lines
    if len(lines) < _FEW_LINES:
        return None
    for reason, found, most in (
        ("bullets", sum(_BULLET.match(line) is not None for line in lines), config.max_bullets),
        ("ellipsis", sum(line.rstrip().endswith(_ELLIPSIS_END) for line in lines), config.max_ellipsis),
        ("unpunctuated", sum(not line.rstrip().endswith(_ENDS) for line in lines), config.max_unpunctuated),
    ):
        if found > most * len(lines):
            return reason, f"{found} of {len(lines)} lines"
    return None


def _c4(document: Document, config: "Config") -> Failed:
    if "lorem ipsum" in document.text.lower():
        return "lorem_ipsum", ""
    if "{" in document.text and document.kind != "code":
        return "braces", ""
    if config.c4_lines:
        sentences = len(_SENTENCE.findall(document.text))
        if sentences < config.min_sentences:
            return "few_sentences", f"{sentences}"
    return None


def _repetition(document: Document, config: "Config") -> Failed:
    lines = [line.strip() for line in document.lines]
    paragraphs = [part for part in (part.strip() for part in document.text.split("\n\n")) if part]
    for name, parts in (("line", lines), ("paragraph", paragraphs)):
        share, characters = duplicate_share(parts)
        if share > getattr(config, f"max_duplicate_{name}s"):
            return f"duplicate_{name}s", f"{share:.2f}"
        if characters > getattr(config, f"max_duplicate_{name}_chars"):
            return f"duplicate_{name}_chars", f"{characters:.2f}"
    chinese = document.kind in ("zh", "unspaced")
    scale = 2 if chinese else 1  # two characters for a word
    units = "".join(document.words) if chinese else document.words
    repeated = repeated_shares(units, (n * scale for n in config.repeated_ngrams))
    for n, most in sorted(config.repeated_ngrams.items()):
        if repeated[n * scale] > most:
            return "repeated_ngrams", f"{n}: {repeated[n * scale]:.2f}"
    for n, share in top_shares(units, {n * scale: most for n, most in config.top_ngrams.items()}).items():
        if share > config.top_ngrams[n // scale]:
            return "top_ngram", f"{n // scale}: {share:.2f}"
    return None


def failed_verse(document: Document, config: "Config") -> Failed:
    """Verse: long enough, legible, not one line over and over."""
    if document.han < config.verse_min_chars:
        return "verse_short", f"{document.han} characters"
    lost = len(_LOST.findall(document.text)) / max(len(document.text), 1)
    if lost > config.verse_max_lost:
        return "verse_lost", f"{lost:.2f}"
    share = duplicate_share([line.strip() for line in document.lines])[0]
    return ("verse_duplicate_lines", f"{share:.2f}") if share > config.verse_max_duplicate_lines else None


def failed_code(document: Document, config: "Config") -> Failed:
    """Code: some lines, none of them a minified program, mostly letters, not one statement over and over."""
    if len(document.lines) < config.code_min_lines:
        return "code_short", f"{len(document.lines)} lines"
    longest = max(map(len, document.lines), default=0)
    if longest > config.code_max_line:
        return "code_long_line", f"{longest} characters"
    letters = _count(_LETTER_RE, document.text) / max(document.characters, 1)
    if letters < config.code_min_letters:
        return "code_letters", f"{letters:.2f}"
    share = duplicate_share([line.strip() for line in document.lines if len(line.strip()) > 1])[0]
    return ("code_duplicate_lines", f"{share:.2f}") if share > config.code_max_duplicate_lines else None
