"""Checks for back-translation; the translators are little dictionaries, so that what must come back is known."""

from collections.abc import Sequence
from random import Random
from types import SimpleNamespace

from danlu.data.augmenters.back_translation import Config, Language

SOLUTION = {"BackTranslation": "danlu.data.augmenters.back_translation:BackTranslation"}

THERE = {
    "他很高兴。": "He is glad.",
    "你好！": "Hello!",
    "天气不错。": "The weather is fine.",
    "I am glad.": "我很高兴。",
}
BACK = {
    "He is glad.": "他非常开心。",
    "Hello!": "您好！",
    "The weather is fine.": "天气很好。",
    "我很高兴。": "I am happy.",
}


class Little:
    """Knows a few sentences, and remembers how it was asked."""

    def __init__(self, back: dict[str, str] | None = None) -> None:
        self.known = THERE | BACK | (back or {})
        self.calls: list[tuple[list[str], Language, Language]] = []

    def translate(self, texts: Sequence[str], source: Language, target: Language) -> list[str]:
        self.calls.append((list(texts), source, target))
        return [self.known[text.strip()] for text in texts]


def _augmented(exercise: SimpleNamespace, texts: list[str], little: Little, **settings: float) -> list[str]:
    made = exercise.BackTranslation(little, Config.parse(settings, "check"))
    return made.augment(texts, [Random(0)] * len(texts))


def check_there_and_back(exercise: SimpleNamespace) -> None:
    """First into the other language, then home: two calls, with the languages the right way round.
    先译成另一种语言，再译回来：两次调用，语言的方向不要弄反。
    """
    little = Little()
    told = _augmented(exercise, ["他很高兴。"], little)
    assert told == ["他非常开心。"], f"{told}"
    assert [call[1:] for call in little.calls] == [("zh", "en"), ("en", "zh")], f"{little.calls}"


def check_all_in_one_call(exercise: SimpleNamespace) -> None:
    """Two texts of three sentences: one call there and one back, of three sentences each.
    两段文本共三句：去一次、回一次，每次三句，而不是逐句调用。
    """
    little = Little()
    told = _augmented(exercise, ["你好！他很高兴。", "天气不错。"], little)
    assert told == ["您好！他非常开心。", "天气很好。"], f"{told}"
    assert [len(call[0]) for call in little.calls] == [3, 3], f"sentences a call: {[len(c[0]) for c in little.calls]}"


def check_each_language_goes_its_way(exercise: SimpleNamespace) -> None:
    """English goes by way of Chinese, Chinese by way of English; the order of the texts stays.
    英文经由中文往返，中文经由英文往返；文本的次序不变。
    """
    told = _augmented(exercise, ["天气不错。", "I am glad.", "你好！"], Little())
    assert told == ["天气很好。", "I am happy.", "您好！"], f"{told}"


def check_white_space_stays(exercise: SimpleNamespace) -> None:
    """A line break between sentences, and blanks at the ends, stand where they stood.
    句子之间的换行和首尾的空白都留在原处。
    """
    told = _augmented(exercise, ["  你好！\n他很高兴。\n\n"], Little())
    assert told == ["  您好！\n他非常开心。\n\n"], f"{told!r}"


def check_what_came_back_wrong_is_left(exercise: SimpleNamespace) -> None:
    """Empty, or more than `length` times as long or as short: the text stays as it was, and only that text.
    译回来是空的，或长度变化超过 `length` 倍：这段文本（且只有这段）保持原样。
    """
    for bad in ("", "  ", "他" * 11 + "。", "他"):
        told = _augmented(exercise, ["他很高兴。", "你好！"], Little({"He is glad.": bad}), length=2.0)
        assert told == ["他很高兴。", "您好！"], f"came back {bad!r}: {told}"
    told = _augmented(exercise, ["他很高兴。"], Little({"He is glad.": "他" * 11 + "。"}), length=3.0)
    assert told == ["他" * 11 + "。"], f"within the length that was asked for: {told}"


def check_nothing_to_do(exercise: SimpleNamespace) -> None:
    """No texts, or blank ones: the same comes out, and nobody is asked to translate nothing.
    没有文本或只有空白：原样返回，不要拿空列表去翻译。
    """
    little = Little()
    assert _augmented(exercise, [], little) == []
    assert _augmented(exercise, [" ", ""], little) == [" ", ""]
    assert not any(not call[0] for call in little.calls), "translate was called with no texts"
