"""Step `quality`: rules that a text passes or fails, each with a threshold and a reason of its own.

Sources: Gopher (Rae et al. 2021, "Scaling language models", appendix A.1.1 and table A1) and C4 (Raffel et al. 2020,
"Exploring the limits of transfer learning", section 2.2). Prose in Chinese is judged by counterparts that count characters
instead of words: two for a word. Program code and verse have rules of their own: they are short-lined, and a refrain is no fault.
A row is judged by its `lang` if the language step gave one, else by its script; the first rule that fails names the reason.
"""

from collections import Counter

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.data.sources import Row
from danlu.data.step import Drop, content
from danlu.data.steps._rules import Document, failed_code, failed_prose, failed_verse
from danlu.data.steps._text import rewrite

__all__ = ["Config", "Step"]


def _share(default: float, en: str, zh: str) -> float:
    return doc(default, en, zh, ge=0, le=1)


class Config(Base):
    """Thresholds: a text fails outside them. Defaults are those of the papers named; zh_ fields are their counterparts."""

    gopher: bool = doc(True, "rules of Gopher on length, words, symbols and lines", "Gopher 的长度、词、符号、行规则")
    repetition: bool = doc(True, "rules of Gopher on repetition", "Gopher 的重复规则")
    c4: bool = doc(True, "rules of C4 on lorem ipsum and braces", "C4 的 lorem ipsum 与花括号规则")
    c4_lines: bool = doc(
        False,
        "C4: remove lines without a mark at their end or with fewer than min_line_words, then ask for min_sentences (harsh)",
        "C4：删去句末无标点或词数过少的行，再要求最少句数（较严）",
    )
    min_words: int = doc(50, "too_short: words (Gopher)", "too_short：词数（Gopher）", ge=0)
    max_words: int = doc(100_000, "too_long: words (Gopher)", "too_long：词数（Gopher）", ge=1)
    zh_min_chars: int = doc(50, "too_short: Chinese characters", "too_short：汉字数", ge=0)
    zh_max_chars: int = doc(200_000, "too_long: Chinese characters", "too_long：汉字数", ge=1)
    min_word_length: float = doc(
        3, "word_length: mean length of words (Gopher)", "word_length：平均词长（Gopher）", ge=0
    )
    max_word_length: float = doc(
        10, "word_length: mean length of words (Gopher)", "word_length：平均词长（Gopher）", ge=0
    )
    max_symbols: float = _share(
        0.1, "symbols: # and ellipses for each word (Gopher)", "symbols：每词的 # 与省略号（Gopher）"
    )
    zh_max_symbols: float = _share(
        0.3, "symbols: share of characters that are neither letters nor digits", "symbols：非文字非数字字符的占比"
    )
    max_digits: float = _share(0.3, "digits: share of characters", "digits：数字字符占比")
    max_bullets: float = _share(
        0.9, "bullets: lines that begin with one (Gopher)", "bullets：以列表符号开头的行（Gopher）"
    )
    max_ellipsis: float = _share(
        0.3, "ellipsis: lines that end with one (Gopher)", "ellipsis：以省略号结尾的行（Gopher）"
    )
    min_alphabetic: float = _share(0.8, "alphabetic: words with a letter (Gopher)", "alphabetic：含字母的词（Gopher）")
    zh_min_han: float = _share(0.5, "han: Chinese characters among letters and digits", "han：文字与数字中汉字的占比")
    min_stop_words: int = doc(
        2,
        "stop_words: different ones of the, be, to, of, and, that, have, with (Gopher; English only)",
        "stop_words：the 等八个常用词中出现的个数（Gopher；仅英文）",
        ge=0,
        le=8,
    )
    zh_min_stop_words: int = doc(
        2,
        "stop_words: different ones of 的了是在不和有我这人之也",
        "stop_words：“的了是在不和有我这人之也”中出现的个数",
        ge=0,
        le=12,
    )
    max_unpunctuated: float = _share(
        0.9, "unpunctuated: lines of prose without a mark at their end", "unpunctuated：行末没有标点的行占比"
    )
    max_duplicate_lines: float = _share(0.3, "duplicate_lines (Gopher)", "duplicate_lines（Gopher）")
    max_duplicate_line_chars: float = _share(0.2, "duplicate_line_chars (Gopher)", "duplicate_line_chars（Gopher）")
    max_duplicate_paragraphs: float = _share(0.3, "duplicate_paragraphs (Gopher)", "duplicate_paragraphs（Gopher）")
    max_duplicate_paragraph_chars: float = _share(
        0.2, "duplicate_paragraph_chars (Gopher)", "duplicate_paragraph_chars（Gopher）"
    )
    top_ngrams: dict[int, float] = doc(
        {2: 0.2, 3: 0.18, 4: 0.16},
        "top_ngram: share of characters in the most frequent n-gram of words, by n (Gopher); Chinese: of 2n characters",
        "top_ngram：最频繁的 n 元词组所占字符比例（Gopher）；中文按 2n 个字",
    )
    repeated_ngrams: dict[int, float] = doc(
        {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1},
        "repeated_ngrams: share of characters in all n-grams that repeat, by n (Gopher); Chinese: of 2n characters",
        "repeated_ngrams：所有重复 n 元词组所占字符比例（Gopher）；中文按 2n 个字",
    )
    min_line_words: int = doc(
        5,
        "c4_lines: words of a line that stays (C4); Chinese: characters",
        "c4_lines：保留的行最少词数（C4）；中文为字数",
        ge=0,
    )
    min_sentences: int = doc(3, "few_sentences, with c4_lines (C4)", "few_sentences，与 c4_lines 同用（C4）", ge=0)
    verse_min_chars: int = doc(8, "verse_short: Chinese characters of verse", "verse_short：诗的汉字数", ge=0)
    verse_max_lost: float = _share(0.2, "verse_lost: share of □ and the like", "verse_lost：缺字（□ 等）占比")
    verse_max_duplicate_lines: float = _share(0.5, "verse_duplicate_lines", "verse_duplicate_lines：重复行占比")
    code_min_lines: int = doc(3, "code_short: lines that are not empty", "code_short：非空行数", ge=0)
    code_max_line: int = doc(
        1000,
        "code_long_line: characters of the longest line (minified code)",
        "code_long_line：最长行字符数（压缩代码）",
        ge=1,
    )
    code_min_letters: float = _share(
        0.25, "code_letters: share of letters (tables of numbers)", "code_letters：字母占比（数据表）"
    )
    code_max_duplicate_lines: float = _share(0.6, "code_duplicate_lines", "code_duplicate_lines：重复行占比")


class Step:
    """Drops the rows that fail; `tally` counts what kind of text was judged."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        config = self.config
        document = Document(content(row), row.get("lang"))
        tally[document.kind] += 1
        if document.kind == "code":
            failed = failed_code(document, config)
        elif document.kind == "verse":
            failed = failed_verse(document, config)
        else:
            if config.c4_lines:
                row = rewrite(row, lambda text: document.c4_lines(text, config))
                document = Document(content(row), row.get("lang"), document.kind)
            failed = failed_prose(document, config)
        return Drop(*failed) if failed else row
