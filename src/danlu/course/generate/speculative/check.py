"""Checks for prompt look-up; the reference is a plain search through the whole text."""

import random
from types import SimpleNamespace
from typing import Any

SOLUTION = "danlu.generate.speculate"


def _asked(ids: list[int], number: int = 0) -> Any:
    return SimpleNamespace(number=number, ids=ids)


def _searched(ids: list[int], most: int, longest: int = 3) -> list[int]:
    for size in range(min(longest, len(ids)), 0, -1):
        places = [at for at in range(size, len(ids)) if ids[at - size : at] == ids[-size:]]
        if places:
            return ids[places[-1] :][:most]
    return []


class _Counted(list[int]):
    """Counts the tokens that are read by index or slice, or one after another."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.read = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.read += len(found) if isinstance(key, slice) else 1
        return found

    def __iter__(self) -> Any:
        for token in super().__iter__():
            self.read += 1
            yield token


def check_what_followed_before(exercise: SimpleNamespace) -> None:
    """1 2 3 9 9 1 2 3: after 1 2 3 came 9 9 1 the time before.
    1 2 3 9 9 1 2 3：上一次出现 1 2 3 时，后面是 9 9 1。
    """
    told = exercise.Lookup().propose([_asked([1, 2, 3, 9, 9, 1, 2, 3])], 3)
    assert told == [[9, 9, 1]], f"guesses: {told}"


def check_nothing_is_known(exercise: SimpleNamespace) -> None:
    """Where the last token never stood before, there is no guess; nor in a text of one token.
    最后一个词元从未出现过，就没有猜测；只有一个词元的文本也没有。
    """
    assert exercise.Lookup().propose([_asked([1, 2, 3, 4])], 3) == [[]]
    assert exercise.Lookup().propose([_asked([7])], 3) == [[]]


def check_the_longest_match_counts(exercise: SimpleNamespace) -> None:
    """5 1 7 8 6 1 9 8 5 1: "1" stood last before 9, but "5 1" stood before 7, and is longer.
    5 1 7 8 6 1 9 8 5 1：“1”上次后面是 9，但更长的“5 1”后面是 7，应取 7。
    """
    told = exercise.Lookup().propose([_asked([5, 1, 7, 8, 6, 1, 9, 8, 5, 1])], 1)
    assert told == [[7]], f"guesses: {told}"


def check_the_latest_place_counts(exercise: SimpleNamespace) -> None:
    """5 1 7 5 1 8 5 1: "5 1" stood twice; the later time, 8 followed.
    5 1 7 5 1 8 5 1：“5 1”出现过两次，取较近的那次，后面是 8。
    """
    told = exercise.Lookup().propose([_asked([5, 1, 7, 5, 1, 8, 5, 1])], 1)
    assert told == [[8]], f"guesses: {told}"


def check_a_run_may_overlap_itself(exercise: SimpleNamespace) -> None:
    """4 4 4 4: the last three stood one place earlier, and 4 followed them. The guess ends where the text ends.
    4 4 4 4：最后三个往前一位也出现过，后面跟着 4。猜测最多到文本末尾为止。
    """
    told = exercise.Lookup().propose([_asked([4, 4, 4, 4])], 5)
    assert told == [[4]], f"guesses: {told}"


def check_text_that_grows(exercise: SimpleNamespace) -> None:
    """Asked again while the text grows by 1 to 4 tokens at a time, it says what a search of the whole text says.
    文本每次增长 1 到 4 个词元，反复询问，结果都应与搜索全文相同。
    """
    draw = random.Random(0)
    for _ in range(40):
        lookup, ids = exercise.Lookup(), [draw.randrange(4)]
        while len(ids) < 60:
            told = lookup.propose([_asked(ids)], 4)[0]
            assert told == _searched(ids, 4), f"{ids}: {told}, not {_searched(ids, 4)}"
            ids.extend(draw.randrange(4) for _ in range(draw.randint(1, 4)))


def check_requests_do_not_mix(exercise: SimpleNamespace) -> None:
    """Two requests have texts of their own; and after `forget`, a number can stand for another text.
    两个请求各有自己的文本；调用 forget 之后，同一个编号可以属于另一段文本。
    """
    lookup = exercise.Lookup()
    one, other = _asked([1, 2, 1], 0), _asked([1, 3, 1], 1)
    assert lookup.propose([one, other], 1) == [[2], [3]]
    lookup.forget(one)
    assert lookup.propose([_asked([1, 6, 5, 1], 0), other], 1) == [[6], [3]]


def check_only_new_tokens_are_read(exercise: SimpleNamespace) -> None:
    """In a text of 2,000 tokens that grows by one, no call reads more than some dozens of them.
    文本有 2,000 个词元、每次增长一个时，每次调用只应读取几十个。
    """
    draw = random.Random(1)
    ids, lookup = _Counted(draw.randrange(50) for _ in range(2000)), exercise.Lookup()
    lookup.propose([_asked(ids)], 4)
    for _ in range(20):
        ids.append(draw.randrange(50))
        ids.read = 0
        lookup.propose([_asked(ids)], 4)
        assert ids.read <= 60, f"{ids.read} tokens read"
