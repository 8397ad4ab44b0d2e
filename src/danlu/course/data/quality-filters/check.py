"""Checks for repetition; the references are hand counts and a slow, plain definition."""

import random
from collections import Counter
from types import ModuleType

SOLUTION = "danlu.data.repetition"


def _close(told: dict[int, float], wanted: dict[int, float]) -> None:
    assert set(told) == set(wanted), f"told {told}, wanted {wanted}"
    assert all(abs(told[n] - wanted[n]) < 1e-9 for n in wanted), f"told {told}, wanted {wanted}"


def _slow(units, n: int, chosen) -> float:
    """Mark every character of every n-gram that `chosen` picks, then count the marks."""
    grams = [tuple(units[at : at + n]) for at in range(len(units) - n + 1)]
    marked = [False] * len(units)
    wanted = chosen(Counter(grams))
    for at, gram in enumerate(grams):
        if gram in wanted:
            marked[at : at + n] = [True] * n
    total = sum(map(len, units))
    return sum(len(unit) for unit, mark in zip(units, marked, strict=True) if mark) / total if total else 0.0


def _repeated(counts: Counter) -> set:
    return {gram for gram, count in counts.items() if count > 1}


def _random_units(draw: random.Random) -> str | list[str]:
    words = [draw.choice(["a", "bb", "ccc", "dddd"]) for _ in range(draw.randrange(40))]
    return words if draw.random() < 0.5 else "".join(words)


def check_words_by_hand(exercise: ModuleType) -> None:
    """to be or not to be: 'to be' comes twice, 8 of 13 letters; no three words do.
    to be or not to be：“to be”出现两次，占 13 个字母中的 8 个；三个词的没有重复。
    """
    _close(exercise.repeated_shares(["to", "be", "or", "not", "to", "be"], (2, 3)), {2: 8 / 13, 3: 0.0})


def check_characters_by_hand(exercise: ModuleType) -> None:
    """行行重行行: 行行 comes twice, four characters of five; 知之为知之 has 知之 twice, and no three characters.
    行行重行行：“行行”出现两次，占五字中的四字；知之为知之：“知之”两次，三字的没有重复。
    """
    _close(exercise.repeated_shares("行行重行行", [2]), {2: 0.8})
    _close(exercise.repeated_shares("知之为知之", [2, 3]), {2: 0.8, 3: 0.0})


def check_overlaps_count_once(exercise: ModuleType) -> None:
    """哈哈哈哈 is all repetition, but not more than all of it.
    “哈哈哈哈”全是重复，但不会超过全部。
    """
    _close(exercise.repeated_shares("哈哈哈哈", [2, 3, 4]), {2: 1.0, 3: 1.0, 4: 0.0})
    _close(exercise.repeated_shares("天地玄黄哈哈哈", [2]), {2: 3 / 7})


def check_nothing_repeats_in_nothing(exercise: ModuleType) -> None:
    """An empty text, one shorter than n, no sizes: zeros, and no error.
    空文本、比 n 还短的文本、没有 n：结果为零，不报错。
    """
    _close(exercise.repeated_shares("", [2, 3]), {2: 0.0, 3: 0.0})
    _close(exercise.repeated_shares([], [5]), {5: 0.0})
    _close(exercise.repeated_shares(["word"], [2]), {2: 0.0})
    assert exercise.repeated_shares("春眠", []) == {}
    assert exercise.top_shares("", {2: 0.1}) == {}
    assert tuple(exercise.duplicate_share([])) == (0.0, 0.0)


def check_repeated_like_the_definition(exercise: ModuleType) -> None:
    """Random texts of words and of characters, in several n at once, in any order.
    随机的词与字，多个 n 一起、次序任意，都应与定义一致。
    """
    draw = random.Random(0)
    for _ in range(200):
        units = _random_units(draw)
        sizes = draw.sample(range(1, 8), 3)
        told = exercise.repeated_shares(units, sizes)
        wanted = {n: _slow(units, n, _repeated) if n <= len(units) else 0.0 for n in sizes}
        _close(told, wanted)


def check_top_by_hand(exercise: ModuleType) -> None:
    """春风 comes three times in 春风春风又春风 (6 of 7); equally frequent ones: the longer word pair wins.
    “春风春风又春风”中“春风”出现三次（7 字中的 6 字）；次数相同则取字数多的一组。
    """
    _close(exercise.top_shares("春风春风又春风", {2: 0.5}), {2: 6 / 7})
    _close(
        exercise.top_shares(["a", "b", "x", "long", "words", "y", "a", "b", "z", "long", "words"], {2: 0.1}),
        {2: 18 / 25},
    )


def check_top_like_the_definition(exercise: ModuleType) -> None:
    """Where the share is beyond the limit it must be told, and be that of the definition; once is no repetition.
    超过上限的必须给出，并与定义一致；只出现一次的不算重复。
    """
    draw = random.Random(1)
    for _ in range(200):
        units, n, limit = _random_units(draw), draw.randrange(2, 6), draw.choice([0.1, 0.3, 0.5])

        def top(counts: Counter) -> set:
            most = max(counts.values(), default=0)
            equal = [gram for gram, count in counts.items() if count == most and most > 1]
            return {max(equal, key=lambda gram: sum(map(len, gram)))} if equal else set()

        wanted = _slow(units, n, top)
        told = exercise.top_shares(units, {n: limit})
        if wanted > limit or n in told:
            _close(told, {n: wanted})


def check_duplicate_lines(exercise: ModuleType) -> None:
    """Of four lines one came before: 0.25 of the lines; two characters of twelve.
    四行中有一行重复：行占 0.25，字占十二分之二。
    """
    told = exercise.duplicate_share(["春眠", "不觉晓啊", "春眠", "夜来风雨"])
    assert abs(told[0] - 0.25) < 1e-9, f"{told}"
    assert abs(told[1] - 2 / 12) < 1e-9, f"{told}"
    assert tuple(exercise.duplicate_share(["x", "y"])) == (0.0, 0.0)
