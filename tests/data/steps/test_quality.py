from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.step import Drop
from danlu.data.steps.quality import Config, Step

# A hundred different words of five letters: no rule but the one tried can fail.
WORDS = [f"{a}{b}{c}ad" for a in "bdfgk" for b in "aeiou" for c in "lmnp"]
HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 600) if chr(code) not in "一不之也人了"]


def judge(text: str, lang: str | None = "en", **config: Any) -> str:
    """'' when the text passes, else the reason."""
    row = {"id": "1", "source": "s", "text": text} | ({"lang": lang} if lang else {})
    kept = Step(Config(**config)).apply(row, Counter())
    assert isinstance(kept, Drop) or kept is row
    return kept.reason if isinstance(kept, Drop) else ""


def words(count: int, *more: str) -> str:
    return " ".join(["the", "and", *WORDS[: count - 2 - len(more)], *more]) + "."


def han(count: int, more: str = "") -> str:
    return "的了" + "".join(HAN[: count - 2]) + more + "。"


def lines(count: int, of: int, marked: str, plain: str) -> str:
    """`count` of `of` lines have the mark; {} of both is a different number of words on each line."""
    return "\n".join(
        (marked if number < count else plain).format(" ".join(WORDS[number * 5 : number * 5 + 5]))
        for number in range(of)
    )


LINE = "{} the and."
EN_RULES = [
    ("too_short", words(50), words(49)),
    ("too_long", words(100), words(101)),
    ("word_length", " ".join(["the", "and", *["bcd"] * 98]), " ".join(["the", "and", "bc", *["bcd"] * 97])),
    ("word_length", " ".join(["the", "and", *["b" * 10] * 100, "b" * 24]), " ".join(["the", "and", *["b" * 10] * 100, "b" * 25])),
    ("symbols", words(100, *["b#c#d#e#f#"] * 2), words(100, *["b#c#d#e#f#"] * 2, "b#cde")),
    ("symbols", words(100, *["bcd..."] * 10), words(100, *["bcd..."] * 11)),
    ("digits", words(60, "1" * 120), words(60, "1" * 130)),
    ("alphabetic", words(100, *["+++"] * 20), words(100, *["+++"] * 21)),
    ("stop_words", words(50), words(50).replace("and", "xnd")),
    ("bullets", lines(9, 10, "- " + LINE, LINE), lines(10, 10, "- " + LINE, LINE)),
    ("bullets", lines(9, 10, "1. " + LINE, LINE), lines(10, 10, "1. " + LINE, LINE)),
    ("ellipsis", lines(3, 10, "{} the and...", LINE), lines(4, 10, "{} the and...", LINE)),
    ("unpunctuated", lines(9, 10, "{} the and", LINE), lines(10, 10, "{} the and", LINE)),
    ("lorem_ipsum", words(60, "lorem", "dolor", "ipsum"), words(60, "Lorem", "ipsum")),
    ("braces", words(60, "(a)"), words(60, "{a}")),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "passes", "fails"), EN_RULES)
def test_words(reason: str, passes: str, fails: str):
    config: dict[str, Any] = {"max_words": 100, "repetition": False} if reason == "too_long" else {"repetition": False}
    assert judge(passes, **config) == ""
    assert judge(fails, **config) == reason


ZH_RULES = [
    ("too_short", han(50), han(49)),
    ("too_long", han(200), han(201)),
    ("symbols", han(70, "＋＊" * 14 + "＋"), han(70, "＋＊" * 15)),
    ("digits", han(70, "1234567890" * 3), han(70, "1234567890" * 3 + "12")),
    ("han", han(80, "abcdefghij" * 8), han(80, "abcdefghij" * 8 + "a")),
    ("stop_words", han(60), han(60).replace("了", "乐")),
    ("bullets", "\n".join([*[f"• {han(40)}"] * 9, han(40)]), "\n".join([f"• {han(40)}"] * 10)),
    ("ellipsis", "\n".join([han(40)] * 7 + [han(40) + "……"] * 3), "\n".join([han(40)] * 6 + [han(40) + "……"] * 4)),
    ("unpunctuated", "\n".join([han(60)] + [han(60)[:-1]] * 9), "\n".join([han(60)[:-1]] * 10)),
]


@pytest.mark.parametrize(("reason", "passes", "fails"), ZH_RULES)
def test_characters(reason: str, passes: str, fails: str):
    config = {"repetition": False} | ({"zh_max_chars": 200} if reason == "too_long" else {})
    assert judge(passes, "zh", **config) == ""
    assert judge(fails, "zh", **config) == reason


def test_duplicate_lines_and_paragraphs():
    distinct = [f"{' '.join(WORDS[number : number + 6])} the and." for number in range(0, 60, 6)]
    few = {"repeated_ngrams": {}, "top_ngrams": {}, "max_duplicate_paragraphs": 1, "max_duplicate_paragraph_chars": 1}
    again = ["the and b."] * 3  # two of ten lines: by characters they are few
    assert judge("\n".join(distinct[:7] + again), **few, max_duplicate_lines=0.2) == ""
    assert judge("\n".join(distinct[:7] + again), **few, max_duplicate_lines=0.19) == "duplicate_lines"
    longer = "\n".join([*distinct[:7], *[distinct[0]] * 3])
    assert judge(longer, **few) == "duplicate_line_chars"  # 3 of 10 lines may be, a fifth of the characters may not
    assert judge("\n".join([*distinct[:8], *[distinct[0]] * 2]), **few, max_duplicate_line_chars=0.21) == ""
    of_lines = {"repeated_ngrams": {}, "top_ngrams": {}, "max_duplicate_lines": 1, "max_duplicate_line_chars": 1}
    paragraphs = "\n\n".join([*distinct[:6], *["the and b."] * 5])
    assert judge(paragraphs, **of_lines, max_duplicate_paragraphs=4 / 11) == ""
    assert judge(paragraphs, **of_lines) == "duplicate_paragraphs"
    assert judge("\n\n".join([*distinct[:7], *[distinct[0]] * 3]), **of_lines) == "duplicate_paragraph_chars"


@pytest.mark.parametrize(("n", "limit"), [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)])
def test_repeated_ngrams(n: int, limit: float):
    """100 words of five letters of which the first n come again: 2n of 100 + n words are within a repeated n-gram."""
    text = [*WORDS, *WORDS[:n]]
    share = 2 * n / (100 + n)
    only = {"gopher": False, "c4": False, "top_ngrams": {}}
    assert judge(" ".join(text), **only, repeated_ngrams={n: share + 1e-9}) == ""
    assert judge(" ".join(text), **only, repeated_ngrams={n: share - 1e-9}) == "repeated_ngrams"
    assert Config().repeated_ngrams[n] == limit
    chinese = "".join([*HAN[:400], *HAN[: 2 * n]])
    share = 4 * n / (400 + 2 * n)
    assert judge(chinese, "zh", **only, repeated_ngrams={n: share + 1e-9}) == ""
    assert judge(chinese, "zh", **only, repeated_ngrams={n: share - 1e-9}) == "repeated_ngrams"


@pytest.mark.parametrize(("n", "limit"), [(2, 0.2), (3, 0.18), (4, 0.16)])
def test_top_ngram(n: int, limit: float):
    """An n-gram three times among 100 words: 3n of 100 words."""
    rest = WORDS[: 100 - 3 * n]
    phrase = [f"zzzz{number}" for number in range(n)]
    text = " ".join([*phrase, *rest[:30], *phrase, *rest[30:], *phrase])
    only = {"gopher": False, "c4": False, "repeated_ngrams": {}}
    assert judge(text, **only, top_ngrams={n: 3 * n / 100}) == ""
    assert judge(text, **only, top_ngrams={n: 3 * n / 100 - 1e-9}) == "top_ngram"
    assert Config().top_ngrams[n] == limit


def test_lines_of_c4():
    text = "Home\nWe brewed the tea and drank it.\nShort line.\nPlease enable JavaScript to read this page.\nIt was good, and we have more of it.\n"
    step = Step(Config(gopher=False, repetition=False, c4_lines=True, min_sentences=2))
    row = {"id": "1", "source": "s", "text": text, "lang": "en"}
    kept = step.apply(row, Counter())
    assert isinstance(kept, dict)
    assert kept["text"] == "We brewed the tea and drank it.\nIt was good, and we have more of it."
    assert judge(text, gopher=False, repetition=False, c4_lines=True) == "few_sentences"
    assert (
        judge(
            "昨天下午我们一起在院子里面泡了一壶新买的绿茶。\n首页\n然后大家坐在树下慢慢地把那一壶茶全部喝完了！\n",
            "zh",
            gopher=False,
            repetition=False,
            c4_lines=True,
        )
        == "few_sentences"
    )


POEM = "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。"


def test_verse_has_rules_of_its_own():
    assert judge(POEM, "zh") == ""
    assert judge(POEM, None) == ""
    assert judge("春眠不觉晓\n处处闻啼鸟\n夜来风雨声\n花落知多少", "zh") == ""
    assert judge("春眠不觉晓处，处闻。", "zh") == ""
    assert judge("春眠不觉晓，处。", "zh", verse_min_chars=8) == "verse_short"
    assert judge("春眠不觉晓，□□□啼鸟。", "zh", verse_max_lost=0.25, verse_min_chars=0) == ""
    assert judge("春眠不觉晓，□□□啼鸟。", "zh", verse_max_lost=0.24, verse_min_chars=0) == "verse_lost"
    assert judge("\n".join(["春眠不觉晓，", "处处闻啼鸟。"] * 2), "zh") == ""
    assert (
        judge("\n".join(["春眠不觉晓，"] * 3 + ["处处闻啼鸟。"]), "zh", verse_max_duplicate_lines=0.49)
        == "verse_duplicate_lines"
    )


def test_code_has_rules_of_its_own():
    code = "import os\n\ndef f(x):\n    return os.path.join(x, x)\n"
    assert judge(code, "code") == ""
    assert judge("import os\n\nx = 1\n", "code") == "code_short"
    assert judge(code + "# " + "a" * 998, "code") == ""
    assert judge(code + "# " + "a" * 999, "code") == "code_long_line"
    table = "abcde, 123456\n" * 3  # five letters of twelve
    assert judge(table, "code", code_min_letters=0.4, code_max_duplicate_lines=1) == ""
    assert judge(table, "code", code_min_letters=0.42, code_max_duplicate_lines=1) == "code_letters"
    many = "x = y\n" * 6 + "a = b\nc = d\ne = f\ng = h\n"
    assert judge(many, "code", code_max_duplicate_lines=0.5) == ""
    assert judge(many, "code", code_max_duplicate_lines=0.49) == "code_duplicate_lines"


def test_other_languages_have_no_stop_words_and_unspaced_ones_no_words():
    french = "Le chat est assis sur le tapis devant la maison rouge et il regarde tomber la pluie douce. " * 1
    assert judge(french * 3, "fr", repetition=False) == ""
    assert judge("これは日本語の文章です。" * 6, "ja", repetition=False) == ""
    assert judge("これは日本語です。", "ja") == "too_short"


def test_rules_can_be_switched_off_and_messages_are_judged():
    assert judge("x", gopher=False) == ""
    chat = {
        "id": "1",
        "source": "s",
        "messages": [{"role": "user", "content": words(30)}, {"role": "assistant", "content": words(30)}],
    }
    tally = Counter()
    assert Step(Config(repetition=False)).apply(chat, tally) is chat
    assert Step(Config(repetition=False, min_words=61)).apply(chat, tally) == Drop("too_short", "60")
    assert tally == {"en": 2}


@settings(deadline=None)
@given(st.text(), st.sampled_from([None, "zh", "en", "ja", "code", "und"]))
def test_never_fails(text: str, lang: str | None):
    judge(text, lang)
    judge(text + "\ud800，。\n", lang, gopher=False, c4_lines=True)


def test_long_texts_take_no_time():
    for text in (
        "a" * 100_000,
        "a " * 50_000,
        "好" * 100_000,
        "好，" * 50_000,
        "\n" * 100_000,
        "- x\n" * 25_000,
        "\ud800" * 100_000,
    ):
        for lang in ("en", "zh", "code"):
            judge(text, lang)


@pytest.mark.slow
def test_nearly_all_poems_pass():
    import json

    from danlu.core.assets import asset_path

    judged = passed = 0
    for file in sorted((asset_path("chinese-poetry") / "quantangshi").glob("poet.*.json"))[::20]:
        for poem in json.loads(file.read_text(encoding="utf-8")):
            judged += 1
            passed += judge("\n".join([poem["title"], *poem["paragraphs"]]), None) == ""
    assert passed >= 0.99 * judged
