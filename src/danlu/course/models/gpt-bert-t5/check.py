"""Checks of the masking exercise: shares over many tokens, words as wholes, and T5's way back by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np

SOLUTION = {"mask_words": "danlu.data.masking:mask_words", "restore": "danlu.data.denoise:restore"}

MASK, SPECIAL = 3, 2
ORDINARY = np.arange(10, 1000)


def _masked(exercise: SimpleNamespace, ids: np.ndarray, starts: np.ndarray, seed: int = 0, **other: Any) -> Any:
    settings = {"maskable": ids >= 10, "rate": 0.15, "mask_id": MASK, "ordinary": ORDINARY, **other}
    return exercise.mask_words(ids, starts, random=np.random.default_rng(seed), **settings)


def _text(tokens: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).choice(ORDINARY, tokens)


def check_labels_are_what_stood_there(exercise: SimpleNamespace) -> None:
    """Labels: the old id where a token was chosen, -100 everywhere else; what was not chosen stays as it was.
    labels 在选中处是原来的 id，其余都是 -100；没选中的词元保持原样。
    """
    ids = _text(5000)
    before = ids.copy()
    told = _masked(exercise, ids, np.ones(5000, dtype=bool))
    assert (ids == before).all(), "the ids that came in were changed"
    chosen = told.labels != -100
    assert (told.labels[chosen] == before[chosen]).all(), "a label is not the id that stood there"
    assert (told.ids[~chosen] == before[~chosen]).all(), "a token that was not chosen was changed"
    assert told.ids.shape == told.labels.shape == ids.shape


def check_how_many_are_chosen(exercise: SimpleNamespace) -> None:
    """15 % of the words, whatever their length.
    选中的词占 15 %，不论词长。
    """
    ids = _text(40_000)
    for length in (1, 4):
        starts = np.arange(len(ids)) % length == 0
        share = float((_masked(exercise, ids, starts).labels != -100).mean())
        assert 0.13 < share < 0.17, f"words of {length}: {share:.1%} chosen, not 15 %"


def check_eighty_ten_ten(exercise: SimpleNamespace) -> None:
    """Of the chosen: 80 % become [MASK], 10 % any other token, 10 % stay.
    选中的词元里：80 % 变成 [MASK]，10 % 换成随机词元，10 % 保持不变。
    """
    ids = _text(100_000)
    told = _masked(exercise, ids, np.ones(len(ids), dtype=bool))
    chosen = told.labels != -100
    hidden = float((told.ids[chosen] == MASK).mean())
    left = float((told.ids[chosen] == ids[chosen]).mean())
    assert abs(hidden - 0.8) < 0.02, f"{hidden:.1%} hidden, not 80 %"
    assert abs(left - 0.1) < 0.02, f"{left:.1%} left as they were, not 10 %"
    others = told.ids[chosen & (told.ids != MASK) & (told.ids != ids)]
    assert len(np.unique(others)) > 500, "replaced by few different tokens: draw each from `ordinary`"
    assert np.isin(others, ORDINARY).all(), "replaced by a token that is not ordinary"


def check_words_are_chosen_whole(exercise: SimpleNamespace) -> None:
    """One draw for each word, not for each token: np.cumsum(starts) numbers the words.
    每个词只抽一次签，而不是每个词元一次：np.cumsum(starts) 就是词的编号。
    """
    ids, starts = _text(9000), np.arange(9000) % 3 == 0
    chosen = (_masked(exercise, ids, starts).labels != -100).reshape(-1, 3)
    assert (chosen.all(1) == chosen.any(1)).all(), "a word was chosen in part"
    assert 0.1 < chosen[:, 0].mean() < 0.2, f"{chosen[:, 0].mean():.0%} of the words chosen"


def check_each_token_has_its_own_fate(exercise: SimpleNamespace) -> None:
    """Within a chosen word, hiding, replacing and leaving are drawn token by token.
    选中的词里，遮住、替换还是保留，逐个词元抽签。
    """
    ids, starts = _text(30_000), np.arange(30_000) % 3 == 0
    told = _masked(exercise, ids, starts)
    words = (told.labels != -100).reshape(-1, 3)[:, 0]
    hidden = (told.ids == MASK).reshape(-1, 3)[words]
    assert (hidden.any(1) & ~hidden.all(1)).any(), "all tokens of a word always share one fate"


def check_special_tokens_stay(exercise: SimpleNamespace) -> None:
    """What is not maskable ([CLS], padding) is neither hidden nor labelled, though it stands in a chosen word.
    不可遮盖的（[CLS]、填充）既不遮也不给标签，哪怕它在选中的词里。
    """
    ids = np.where(np.arange(6000) % 5 == 0, SPECIAL, _text(6000))
    told = _masked(exercise, ids, np.arange(6000) % 5 == 0, rate=0.9)
    special = ids == SPECIAL
    assert (told.ids[special] == SPECIAL).all(), "a special token was changed"
    assert (told.labels[special] == -100).all(), "a special token has a label"


def check_a_text_that_begins_within_a_word(exercise: SimpleNamespace) -> None:
    """The first token need not begin a word: numbers then count from 0, and there is one more word than starts.
    第一个词元未必是词首：此时编号从 0 开始，词的个数比词首多一个。
    """
    ids, starts = _text(6), np.array([False, False, True, False, True, False])
    for seed in range(20):
        chosen = (_masked(exercise, ids, starts, seed, rate=0.5).labels != -100).reshape(-1, 2)
        assert (chosen.all(1) == chosen.any(1)).all(), f"chosen: {chosen.tolist()}"


def check_the_way_back(exercise: SimpleNamespace) -> None:
    """a b <0> e <1> and <0> c d <1> f <2> give a b c d e f; the last sentinel only ends the target.
    a b <0> e <1> 配上 <0> c d <1> f <2>，得到 a b c d e f；最后一个哨兵只表示结束。
    """
    told = exercise.restore([1, 2, 90, 5, 91], [90, 3, 4, 91, 6, 92], [90, 91, 92])
    assert list(told) == [1, 2, 3, 4, 5, 6], list(told)


def check_what_is_not_answered_stays_open(exercise: SimpleNamespace) -> None:
    """A sentinel that the target leaves empty or does not name stays in the text.
    目标里空着的、没提到的哨兵，仍留在原文里。
    """
    told = exercise.restore([1, 90, 2, 91, 3], [90, 91, 7, 92], [90, 91, 92])
    assert list(told) == [1, 90, 2, 7, 3], list(told)
    assert list(exercise.restore([1, 90], [], [90, 91])) == [1, 90]
