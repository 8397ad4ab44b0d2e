"""Repeated paragraphs go, from later rows only; poems and code stay."""

import random
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.step import CorpusStep, Drop, Settled
from danlu.data.steps.paragraphs import Config, Step

NOTICE = "All rights reserved. This page may not be printed, sold or shown without the written consent of its owner, neither today nor ever."
CHINESE = "　　本报讯：" + "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少" * 6
SMALL = Config(shortest=3, least=2)


def prose(seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choices(["stone", "river", "quiet", "seven", "lantern", "under"], k=30))


def rows_of(texts: list[str]) -> list[dict]:
    return [{"id": str(number), "source": "s", "text": text} for number, text in enumerate(texts)]


def run(texts: list[str], borders: list[int] | None = None, config: Config | None = None, tally: Counter[str] | None = None) -> list[Settled]:  # fmt: skip
    step, rows = Step(config or Config()), rows_of(texts)
    cuts = [0, *sorted(min(border, len(rows)) for border in borders or []), len(rows)]
    parts = [rows[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]
    decision = step.decide([step.keys(part) for part in parts])
    tally = Counter() if tally is None else tally
    return [one for part, own in zip(parts, decision, strict=True) for one in step.settle(part, own, tally)]


def text_of(settled: Settled) -> str:
    assert isinstance(settled, dict)
    return settled["text"]


def test_later_rows_lose_what_an_earlier_one_has():
    texts = [
        f"{NOTICE}\n\n{prose(1)}",
        f"{prose(2)}\n\n{NOTICE.replace(' ', '  ')}\n \n{prose(3)}",
        f"{prose(4)}\n\n{NOTICE}",
    ]
    tally: Counter[str] = Counter()
    settled = run(texts, tally=tally)
    assert [text_of(one) for one in settled] == [texts[0], f"{prose(2)}\n\n{prose(3)}", prose(4)]
    assert settled[0]["id"] == "0"
    assert tally["paragraphs_removed"] == 2
    assert tally["characters_removed"] == 2 * len(NOTICE) + NOTICE.count(" ")


def test_chinese_paragraphs_and_lines():
    settled = run([CHINESE, f"{prose(1)}\n{CHINESE}\n{prose(2)}"], config=Config(unit="line"))
    assert text_of(settled[1]) == f"{prose(1)}\n{prose(2)}"
    same = run([CHINESE, f"{prose(1)}\n{CHINESE}\n{prose(2)}"])
    assert text_of(same[1]).count("春眠") == 6


def test_a_row_of_repeats_goes():
    assert run([f"{prose(1)}\n\n{NOTICE}", f"{NOTICE}\n\nMore."])[1] == Drop("only_repeats", "1")
    assert isinstance(run([f"{prose(1)}\n\n{NOTICE}", f"{NOTICE}\n\nMore."], config=Config(least=4))[1], dict)


def test_poems_code_and_conversations_stay():
    poem = "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。"
    code = "def add(first, second):\n    return first + second\n\n" + "int main(void) {\n  return 0;\n}\n" * 8
    texts = [poem, poem, code, code + "\n\n# other", prose(1) * 2]
    assert run(texts) == rows_of(texts)
    chat = {"id": "c", "source": "s", "text": NOTICE, "messages": [{"role": "user", "content": NOTICE}]}
    step = Step(Config())
    assert isinstance(step, CorpusStep)
    both = [chat, {**chat, "id": "d"}]
    assert step.settle(both, step.decide([step.keys(both)])[0], Counter()) == both


def test_a_paragraph_twice_in_one_row_stays():
    text = f"{NOTICE}\n\n{NOTICE}"
    assert text_of(run([text])[0]) == text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a b", "abc", "abd", "春眠不觉", "c\nd", "x"]), max_size=4), max_size=8), st.lists(st.integers(0, 8), max_size=3))  # fmt: skip
def test_as_a_set_whatever_the_parts(rows: list[list[str]], borders: list[int]):
    seen: set[str] = set()
    wanted: list[str] = []
    for paragraphs in rows:
        kept = [one for one in paragraphs if one.replace(" ", "") not in seen or len(one.replace(" ", "")) < 3]
        seen |= {one.replace(" ", "") for one in paragraphs}
        whole = len(kept) == len(paragraphs)
        wanted.append("\n\n".join(kept) if whole or len("".join("".join(kept).split())) >= 2 else "")
    config = Config(shortest=3, least=2)
    texts = ["\n\n".join(paragraphs).replace("c\nd", "c_d") for paragraphs in rows]
    told = run(texts, borders, config)
    assert ["" if isinstance(one, Drop) else text_of(one) for one in told] == [
        one.replace("c\nd", "c_d") for one in wanted
    ]


def test_nothing_at_all():
    assert Step(Config()).decide([]) == []
    assert run([""]) == rows_of([""])
    assert [len(part) for part in Step(Config()).decide([Step(Config()).keys([])])] == [0]
    assert np.array_equal(Step(SMALL).keys(rows_of(["abc"]))["count"], [1])
