"""Checks for augmentation; the references are hand computations, counts, and what must not matter."""

from collections import Counter
from random import Random
from types import SimpleNamespace

import numpy as np

SOLUTION = {
    "swap": "danlu.data.augmenters.edits:swap",
    "delete": "danlu.data.augmenters.edits:delete",
    "cutout": "danlu.data.augmenters.images:cutout",
    "variants": "danlu.data.augment:variants",
}

PARTS = ["The", " ", "cat", ",", " ", "the", " ", "dog", "."]
PLACES = [0, 2, 5, 7]


class _Append:
    """Appends a digit by chance; '0' leaves the text as it was."""

    kind = "text"

    def __init__(self, digits: str, tries: int = 20) -> None:
        self.digits, self.tries = digits, tries

    def augment(self, texts, randoms):
        drawn = [random.choice(self.digits) for random in randoms]
        return [text if digit == "0" else text + digit for text, digit in zip(texts, drawn, strict=True)]


def check_swap_moves_words_only(exercise: SimpleNamespace) -> None:
    """One swap changes exactly two words; spaces and marks stay in place, and so does the list that was given.
    一次交换恰好改动两个词；空格与标点原地不动，传入的列表也不能变。
    """
    for seed in range(20):
        given = list(PARTS)
        new = exercise.swap(given, PLACES, 1, Random(seed))
        assert given == PARTS, "the list that was given has changed"
        changed = [place for place in range(len(PARTS)) if new[place] != PARTS[place]]
        assert len(changed) == 2, f"changed at {changed}"
        assert set(changed) <= set(PLACES), f"changed at {changed}"
        assert Counter(new) == Counter(PARTS), f"{new}"


def check_swap_of_one_word(exercise: SimpleNamespace) -> None:
    """A text of one word, or of none, has nothing to swap.
    只有一个词或没有词的文本，无从交换。
    """
    assert exercise.swap(["cat", "!"], [0], 3, Random(0)) == ["cat", "!"]
    assert exercise.swap(["!"], [], 3, Random(0)) == ["!"]


def check_delete_takes_its_share(exercise: SimpleNamespace) -> None:
    """Of 2,000 words, each deleted with probability 0.2, about 1,600 stay; and no two spaces stand together.
    2,000 个词各以 0.2 的概率删除，约剩 1,600 个；不应出现连续两个空格。
    """
    parts = [part for _ in range(2000) for part in ("word", " ")][:-1]
    new = exercise.delete(parts, range(0, len(parts), 2), 0.2, Random(0))
    assert abs(new.count("word") - 1600) < 80, f"{new.count('word')} stay"
    assert "  " not in "".join(new)


def check_delete_leaves_one_word(exercise: SimpleNamespace) -> None:
    """However high the probability, one word stays: an empty text has no label.
    概率再高也要留下一个词：空文本谈不上标签。
    """
    stayed = Counter()
    for seed in range(200):
        words = [part for part in exercise.delete(PARTS, PLACES, 0.999, Random(seed)) if part.isalpha()]
        assert words, "nothing is left"
        stayed.update(words)
    assert len(stayed) == 4, f"always the same words stay: {dict(stayed)}"


def check_cutout_by_hand(exercise: SimpleNamespace) -> None:
    """Side 2 around (1, 2) covers rows 0 and 1, columns 1 and 2; at a corner only what lies within is covered.
    边长 2、中心 (1, 2)：盖住第 0、1 行与第 1、2 列；在角上只盖住图内的部分。
    """
    image = np.full((3, 4, 1), 9, np.uint8)
    new = exercise.cutout(image, 1, 2, 2)
    assert new[..., 0].tolist() == [[9, 0, 0, 9], [9, 0, 0, 9], [9, 9, 9, 9]], f"{new[..., 0].tolist()}"
    assert image.min() == 9, "the image that was given has changed"
    corner = exercise.cutout(image, 0, 0, 2, fill=5)
    assert corner[..., 0].tolist() == [[5, 9, 9, 9], [9, 9, 9, 9], [9, 9, 9, 9]], f"{corner[..., 0].tolist()}"


def check_variants_are_new(exercise: SimpleNamespace) -> None:
    """Never the text itself, never one twice: with the digits 0, 1 and 2 there are two variants, not five.
    不能是原文，也不能重复：只有 0、1、2 三个数字时，变体只有两个，而不是五个。
    """
    (found,) = exercise.variants([("x",)], ["a"], _Append("012"), "m", 5, 0)
    assert sorted(found) == [("x1",), ("x2",)], f"{found}"
    assert exercise.variants([("x",)], ["a"], _Append("0"), "m", 2, 0) == [[]]


def check_variants_do_not_depend_on_neighbours(exercise: SimpleNamespace) -> None:
    """A row gets the same variants alone, among others, and in another order: seed its chance by its id.
    同一行无论单独处理、与其他行一起、还是换个次序，结果都应相同：用它的 id 作随机种子。
    """
    ids, augmenter = list("abcdefgh"), _Append("0123456789")
    contents = [("x",)] * len(ids)
    together = exercise.variants(contents, ids, augmenter, "m", 3, 0)
    assert exercise.variants(contents, ids[::-1], augmenter, "m", 3, 0) == together[::-1]
    assert [exercise.variants([("x",)], [name], augmenter, "m", 3, 0)[0] for name in ids] == together
    assert len({tuple(found) for found in together}) > 4, "all rows draw the same numbers"


def check_variants_follow_the_seed(exercise: SimpleNamespace) -> None:
    """The same seed gives the same variants; another seed, or another method, gives others.
    种子相同则结果相同；换种子或换方法则结果不同。
    """
    ids = [str(number) for number in range(20)]

    def drawn(method: str, seed: int):
        return exercise.variants([("x",)] * 20, ids, _Append("123456789"), method, 1, seed)

    assert drawn("m", 0) == drawn("m", 0)
    assert drawn("m", 0) != drawn("m", 1)
    assert drawn("m", 0) != drawn("n", 0)
