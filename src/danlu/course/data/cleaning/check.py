"""Checks for cleaning; the references are hand-made pairs and Python's own codecs."""

import unicodedata
from collections import Counter
from types import ModuleType

SOLUTION = {
    "repair_gbk": "danlu.data.mojibake:repair_gbk",
    "normalise": "danlu.data.steps.normalise:normalise",
}

POEMS = (
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    "中国的发展是大家都看得到的，我们还要继续努力。",
    "Python 3.12 发布了，新的语法更好用。See the manual!",
)


def _all_same(normalise, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert normalise(text) == text, f"{text!r} -> {normalise(text)!r}"


def _all_pairs(normalise, pairs: dict[str, str]) -> None:
    for before, after in pairs.items():
        assert normalise(before) == after, f"{before!r} -> {normalise(before)!r}, wanted {after!r}"


def check_round_trip(exercise: ModuleType) -> None:
    """Bytes of GBK read as Latin-1 come back; plain ASCII between them stays where it is.
    被当作 Latin-1 读取的 GBK 字节应当还原；其间的 ASCII 原样不动。
    """
    for poem in POEMS:
        bad = poem.encode("gbk").decode("latin-1")
        told = exercise.repair_gbk(bad, Counter())
        assert told == poem, f"{bad!r} -> {told!r}"


def check_good_text_stays(exercise: ModuleType) -> None:
    """Accents, symbols and Chinese are no mojibake, even where their bytes could be read as GBK.
    带重音的字母、符号和中文都不是乱码，即使它们的字节碰巧能按 GBK 解读。
    """
    for text in ("naïve café, Ærøskøbing", "Größe: ±5 °C", "Þórður ÞÞÞÞ", "¡¡¡¡", "¿¿¿¿ÀÀÀÀ?", "plain", "", *POEMS):
        told = exercise.repair_gbk(text, Counter())
        assert told == text, f"{text!r} -> {told!r}"


def check_utf8_misread_is_not_ours(exercise: ModuleType) -> None:
    """UTF-8 read as Latin-1 (ä¸\xadå\x9b½) is another fault: this repair must leave it alone.
    被当作 Latin-1 读取的 UTF-8 是另一种乱码，这里不应改动。
    """
    for poem in POEMS[:2]:
        bad = poem.encode("utf-8").decode("latin-1")
        told = exercise.repair_gbk(bad, Counter())
        assert told == bad, f"changed to {told[:20]!r}"


def check_repairs_are_counted(exercise: ModuleType) -> None:
    """A repaired text counts once, an unchanged one does not count.
    还原的文本计一次，没有改动的不计。
    """
    tally: Counter[str] = Counter()
    for text in (*POEMS, *(poem.encode("gbk").decode("latin-1") for poem in POEMS)):
        exercise.repair_gbk(text, tally)
    assert tally["gbk_as_latin"] == 3, f"{dict(tally)}"


def check_width_by_code_point(exercise: ModuleType) -> None:
    """Each full-width form alone between letters: as NFKC folds it; but the Chinese marks ！（），：；？～ are not folded that way.
    逐个检查夹在字母之间的全角字符：与 NFKC 一致；但 ！（），：；？～ 是中文标点，不在此列。
    """
    for code in range(0xFF01, 0xFF5F):
        if chr(code) in "！（），：；？～":
            continue
        told = exercise.normalise(f"x{chr(code)}y")
        assert told == f"x{unicodedata.normalize('NFKC', chr(code))}y", f"U+{code:04X}: {told!r}"
    _all_same(exercise.normalise, ("（一）春江花月夜", "三～五天"))


def check_marks_after_chinese(exercise: ModuleType) -> None:
    """After a Chinese character a comma is ，; a dot before a digit, and marks after English words, stay.
    汉字之后的逗号应为 ，；后面紧跟数字的点，以及英文单词之后的标点不变。
    """
    pairs = {
        "今天下雨,我们不去了.你呢?": "今天下雨，我们不去了。你呢？",
        "他说:去;我说:不去!": "他说：去；我说：不去！",
        "见第3.5节和图a.png, 再看表1.": "见第3.5节和图a.png, 再看表1.",
        "时间:10:30": "时间：10:30",
    }
    _all_pairs(exercise.normalise, pairs)


def check_marks_in_english_lines(exercise: ModuleType) -> None:
    """A line without Chinese gets half-width marks and a blank before the next word, whatever other lines have.
    不含汉字的行用半角标点，后面有词则补空格；与其他行无关。
    """
    pairs = {
        "It is late，but we go on。": "It is late, but we go on.",
        "Really？！\n真的？！": "Really?!\n真的？！",
        "one，two；three": "one, two; three",
    }
    _all_pairs(exercise.normalise, pairs)


def check_japanese_and_symbols_stay(exercise: ModuleType) -> None:
    """Japanese has marks of its own; C++, mail addresses, prices and emoji have nothing to be made alike.
    日文有自己的标点；C++、邮件地址、价格和表情都无须统一。
    """
    texts = (
        "はい,そうです.",
        "C++ and C#: a < b",
        "li.bai@example.com, $3.50",
        "👨\u200d👩\u200d👧 很好。",
        "if (a && b) return x;",
    )
    _all_same(exercise.normalise, texts)


def check_repeats_and_blanks(exercise: ModuleType) -> None:
    """！！！ is one ！; !! is two, as in English; the blank between 春 眠 goes, that between 学 Python stays.
    ！！！ 合为一个；英文的 !! 不变；“春 眠”之间的空格去掉，“学 Python”的保留。
    """
    pairs = {
        "太好了！！！": "太好了！",
        "Wow!! Oh!!!": "Wow!! Oh!",
        "春 眠 不 觉 晓": "春眠不觉晓",
        "学 Python 很好": "学 Python 很好",
    }
    _all_pairs(exercise.normalise, pairs)


def check_twice_is_once(exercise: ModuleType) -> None:
    """What one rule makes, another may have to change: the second pass must find nothing to do.
    一条规则的产物可能还要由另一条处理：再做一遍应当无事可做。
    """
    for text in ("晴，,,雨", "好 , 好", "早！ ！！", "Ａ，Ｂ", "春，，,来了!!!", "end，，next", "一,二.三?四!"):
        once = exercise.normalise(text)
        twice = exercise.normalise(once)
        assert twice == once, f"{text!r} -> {once!r} -> {twice!r}"
