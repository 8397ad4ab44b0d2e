"""Checks for byte-pair encoding; the references are hand computations and the compiled `tokenizers` library."""

import json
from types import SimpleNamespace

import tokenizers
from tokenizers import models, trainers

from danlu.tokenizer.bpe import byte_alphabet, count_words
from danlu.tokenizer.pretokenize import byte_level

SOLUTION = {
    "merge_pair": "danlu.tokenizer.bpe:merge_pair",
    "learn_merges": "danlu.tokenizer.bpe:learn_merges",
    "BytePairEncoding": "danlu.tokenizer.bpe:BytePairEncoding",
}

CORPUS = [
    "low low lower 春风 春风 春天",
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
    "the lowest of the low, the newest of the new: 3 low rooms, 30 new ones",
    "春风吹又生，春雨润无声；春天来了，春水绿了。",
]


def _learn(exercise: SimpleNamespace, texts: list[str], size: int, least: int = 1) -> tuple[list[bytes], list]:
    counts = count_words(texts)
    tokens = [bytes([byte]) for byte in byte_alphabet()]
    numbers = {token[0]: number for number, token in enumerate(tokens)}
    words = [[numbers[byte] for byte in word] for word in counts]
    pairs = exercise.learn_merges(words, list(counts.values()), tokens, size, least)
    return tokens, [(tokens[left], tokens[right]) for left, right in pairs]


def check_a_pair_is_joined_everywhere(exercise: SimpleNamespace) -> None:
    """Each place where 1 is followed by 2 becomes 3; the rest stays.
    凡是 1 后面跟着 2 的地方都变成 3，其余不变。
    """
    symbols = [9, 1, 2, 1, 2, 2, 1]
    exercise.merge_pair(symbols, (1, 2), 3)
    assert symbols == [9, 3, 3, 2, 1], f"{symbols}"


def check_a_run_is_joined_from_the_left(exercise: SimpleNamespace) -> None:
    """Three of a kind hold one pair and one left over: [1, 1, 1] becomes [2, 1].
    三个连续相同的符号只能合并一对，剩下一个：[1, 1, 1] 变成 [2, 1]。
    """
    symbols = [1, 1, 1]
    exercise.merge_pair(symbols, (1, 1), 2)
    assert symbols == [2, 1], f"{symbols}"


def check_merges_by_hand(exercise: SimpleNamespace) -> None:
    """aab three times and ab twice: (a, b) occurs 5 times and goes first, then (a, ab) with 3.
    aab 出现三次、ab 出现两次：(a, b) 共 5 次，先合并；然后是 3 次的 (a, ab)。
    """
    tokens, words = [b"a", b"b"], [[0, 0, 1], [0, 1]]
    assert exercise.learn_merges(words, [3, 2], tokens, 10, 1) == [(0, 1), (0, 2)]
    assert tokens == [b"a", b"b", b"ab", b"aab"], f"{tokens}"
    assert words == [[3], [2]], f"{words}"


def check_ties_take_the_smaller_ids(exercise: SimpleNamespace) -> None:
    """Three pairs occur 4 times each: (0, 1) comes before (0, 2) and (2, 1).
    三对各出现 4 次时，(0, 1) 先于 (0, 2) 和 (2, 1)。
    """
    tokens = [b"a", b"b", b"c"]
    assert exercise.learn_merges([[2, 1], [0, 2], [0, 1]], [4, 4, 4], tokens, 4, 1) == [(0, 1)]


def check_rare_pairs_are_left_alone(exercise: SimpleNamespace) -> None:
    """With `least` 3, a pair that occurs twice is not joined.
    least 为 3 时，只出现两次的对不合并。
    """
    tokens = [b"a", b"b", b"c"]
    assert exercise.learn_merges([[0, 1], [1, 2]], [3, 2], tokens, 10, 3) == [(0, 1)]


def check_the_lesson_by_hand(exercise: SimpleNamespace) -> None:
    """Eight merges on the lesson's line end with 春风, one token of six bytes.
    在课文那一行上合并八次，最后得到“春风”：一个含六个字节的词元。
    """
    tokens, merges = _learn(exercise, CORPUS[:1], 256 + 8)
    wanted = [b"lo", b"\xe6\x98", b"low", "春".encode(), b"\xa3\x8e", "风".encode(), b" low", "春风".encode()]
    assert tokens[256:] == wanted, f"{tokens[256:]}"
    assert len(merges) == 8


def check_equals_the_library(exercise: SimpleNamespace) -> None:
    """Merges and ids are those of the compiled `tokenizers` library on the same corpus.
    在同一份语料上，合并规则与编号都应与编译实现的 tokenizers 库一致。
    """
    tokens, merges = _learn(exercise, CORPUS, 256 + 60)
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = byte_level()
    alphabet = list(byte_alphabet().values())
    library.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=256 + 60, initial_alphabet=alphabet, show_progress=False)
    )
    byte_of = {character: byte for byte, character in byte_alphabet().items()}
    theirs = [
        tuple(bytes(byte_of[character] for character in part) for part in pair)
        for pair in json.loads(library.to_str())["model"]["merges"]
    ]
    first = next((number for number, (a, b) in enumerate(zip(merges, theirs, strict=False)) if a != b), None)
    assert merges == theirs, (
        f"merge {first}: {merges[first]} instead of {theirs[first]}" if first is not None else "size"
    )
    encoding = exercise.BytePairEncoding(tokens, merges)
    for text in (*CORPUS, "slow 春雨"):
        assert encoding.encode(text) == library.encode(text).ids, text


def check_the_first_learnt_is_applied_first(exercise: SimpleNamespace) -> None:
    """(b, c) was learnt before (a, b), so abc is a + bc, although ab stands further to the left.
    (b, c) 先于 (a, b) 学到，所以 abc 应切成 a + bc，尽管 ab 更靠左。
    """
    tokens = [b"a", b"b", b"c", b"bc", b"ab"]
    encoding = exercise.BytePairEncoding(tokens, [(b"b", b"c"), (b"a", b"b")])
    assert encoding.encode("abc") == [0, 3], f"{encoding.encode('abc')}"
    assert encoding.encode("abab") == [4, 4], f"{encoding.encode('abab')}"


def check_any_text_survives(exercise: SimpleNamespace) -> None:
    """Decoding gives the text back, also characters the corpus never had: they are spelt in bytes.
    解码应还原原文，语料里没有的字也不例外：它们用字节拼写。
    """
    encoding = exercise.BytePairEncoding(*_learn(exercise, CORPUS, 256 + 60))
    for text in ("", "春雨", "slowly", "龘 😀\n\t café"):
        assert encoding.decode(encoding.encode(text)) == text, repr(text)


def check_half_a_character_is_shown_as_such(exercise: SimpleNamespace) -> None:
    """Join the bytes of all tokens first, then decode once; two of 龘's three bytes are U+FFFD, not an error.
    先把所有词元的字节接起来，再一次解码；“龘”的三个字节只有两个时，得到 U+FFFD，而不是报错。
    """
    encoding = exercise.BytePairEncoding([bytes([byte]) for byte in byte_alphabet()], [])
    ids = encoding.encode("龘")
    assert len(ids) == 3
    assert encoding.decode(ids) == "龘", "the bytes are decoded one by one"
    assert encoding.decode(ids[:2]) == "\ufffd", repr(encoding.decode(ids[:2]))
