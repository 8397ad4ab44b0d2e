"""Checks for packing; the references are hand computations and slow, plain loops."""

import time
from itertools import pairwise
from types import ModuleType

import numpy as np

SOLUTION = "danlu.data.pack"


def _array(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def check_short_documents_are_not_cut(exercise: ModuleType) -> None:
    """Documents of 3, 0 and 8 tokens in rows of 8 stay as they are, even the empty one.
    行长为 8 时，长 3、0、8 的文档都原样保留，空文档也不例外。
    """
    starts, sizes = exercise.cut(_array(0, 3, 3), _array(3, 0, 8), 8, "pieces")
    assert (list(starts), list(sizes)) == ([0, 3, 3], [3, 0, 8]), f"{list(starts)}, {list(sizes)}"


def check_pieces_overlap_by_one(exercise: ModuleType) -> None:
    """8 tokens in rows of 4: tokens 0 to 3, 3 to 6, 6 to 7. Each next piece begins with the last token of the one before.
    长 8 的文档、行长 4：第 0～3、3～6、6～7 个词元。后一段以前一段的最后一个词元开头。
    """
    starts, sizes = exercise.cut(_array(100), _array(8), 4, "pieces")
    assert (list(starts), list(sizes)) == ([100, 103, 106], [4, 4, 2]), f"{list(starts)}, {list(sizes)}"


def check_no_piece_of_a_single_token(exercise: ModuleType) -> None:
    """7 tokens in rows of 4 are two pieces, 4 + 4 with one in common; a third of one token would predict nothing.
    长 7 的文档、行长 4，正好两段（4 + 4，共用一个）；若再有只含一个词元的第三段，它什么也预测不了。
    """
    starts, sizes = exercise.cut(_array(0, 7), _array(7, 5), 4, "pieces")
    assert (list(starts), list(sizes)) == ([0, 3, 7, 10], [4, 4, 4, 2]), f"{list(starts)}, {list(sizes)}"


def check_every_target_once(exercise: ModuleType) -> None:
    """Whatever the lengths: each token but a document's first is, in exactly one piece, not the first.
    无论长度如何：除每篇文档的首词元外，每个词元都恰好在一段里“不是第一个”。
    """
    random = np.random.default_rng(0)
    for seq_len in (2, 3, 7):
        lengths = random.integers(1, 30, 40)
        starts = np.cumsum(lengths) - lengths
        at, sizes = exercise.cut(starts, lengths, seq_len, "pieces")
        found = [token for a, n in zip(at.tolist(), sizes.tolist(), strict=True) for token in range(a + 1, a + n)]
        expected = sorted(set(range(int(lengths.sum()))) - set(starts.tolist()))
        assert sorted(found) == expected, f"seq_len {seq_len}: {len(found)} targets, {len(expected)} expected"
        assert max(sizes) <= seq_len, f"a piece of {max(sizes)} tokens in rows of {seq_len}"


def check_truncate(exercise: ModuleType) -> None:
    """With "truncate" a long document is one piece of seq_len tokens.
    long 为 "truncate" 时，长文档只留前 seq_len 个词元，成一段。
    """
    starts, sizes = exercise.cut(_array(0, 9), _array(9, 2), 4, "truncate")
    assert (list(starts), list(sizes)) == ([0, 9], [4, 2]), f"{list(starts)}, {list(sizes)}"


def check_best_fit_by_hand(exercise: ModuleType) -> None:
    """4, 5, 2, 6, 3, 4 in rows of 8: 6 and 2, 5 and 3, 4 and 4. Three rows, all full.
    行长 8，文档长 4、5、2、6、3、4：6 配 2，5 配 3，4 配 4，三行全满。
    """
    lengths, starts = exercise.best_fit_decreasing(_array(4, 5, 2, 6, 3, 4), 8)
    assert list(starts) == [0, 2, 4, 6], f"rows begin at {list(starts)}"
    rows = {tuple(sorted(lengths[a:b].tolist())) for a, b in pairwise(starts)}
    assert rows == {(2, 6), (3, 5), (4, 4)}, f"rows {rows}"


def check_the_fullest_row_not_the_first(exercise: ModuleType) -> None:
    """10, 9 and then 6, 5 and 4, 4 in rows of 15: each takes the row it leaves the least room in. 38 tokens, 3 rows.
    行长 15，文档长 10、9、6、5、4、4：每篇放进剩余空间最小而仍放得下的行。共 38 个词元，3 行。
    """
    lengths, starts = exercise.best_fit_decreasing(_array(4, 10, 6, 4, 9, 5), 15)
    rows = sorted(sorted(lengths[a:b].tolist()) for a, b in pairwise(starts))
    assert rows == [[4, 4], [5, 10], [6, 9]], f"rows {rows}"


def check_best_fit_against_a_slow_loop(exercise: ModuleType) -> None:
    """Random lengths: as many rows as a loop over all rows gives; every document once; no row too long.
    随机长度：行数应与逐行查找的慢循环一致；每篇恰好一次；没有超长的行。
    """
    random = np.random.default_rng(1)
    for seq_len in (5, 16, 40):
        lengths = random.integers(1, seq_len + 1, 120)
        placed, starts = exercise.best_fit_decreasing(lengths, seq_len)
        assert sorted(placed.tolist()) == sorted(lengths.tolist()), "documents are lost or doubled"
        free: list[int] = []
        for length in sorted(lengths.tolist(), reverse=True):
            rows = [row for row, room in enumerate(free) if room >= length]
            if rows:
                free[min(rows, key=free.__getitem__)] -= length
            else:
                free.append(seq_len - length)
        filled = [int(placed[a:b].sum()) for a, b in pairwise(starts)]
        assert max(filled) <= seq_len, f"a row of {max(filled)} tokens"
        assert len(filled) == len(free), f"{len(filled)} rows, best fit needs {len(free)}"


def check_it_is_fast(exercise: ModuleType) -> None:
    """50,000 documents in rows of 512: looking at every row for every document would take minutes.
    5 万篇文档、行长 512：若为每篇文档查看每一行，要花好几分钟。
    """
    lengths = np.minimum(np.random.default_rng(0).lognormal(4, 1, 50_000).astype(np.int64) + 2, 512)
    began = time.process_time()
    _, starts = exercise.best_fit_decreasing(lengths, 512)
    took, fill = time.process_time() - began, lengths.sum() / ((len(starts) - 1) * 512)
    assert took < 8, f"{took:.0f} s; keep, for each number of free tokens, the rows that have it"
    assert fill > 0.999, f"the rows are only {fill:.1%} full"


def check_a_batch_by_hand(exercise: ModuleType) -> None:
    """Pieces 6 7 8 9 and 3 4 5 in the first row of 8, 1 2 in the second; token 4 is not counted.
    行长 8：第一行放 6 7 8 9 与 3 4 5，第二行放 1 2；其中词元 4 不计损失。
    """
    counted = np.array([True] * 5 + [False] + [True] * 3)
    tokens = _array(6, 7, 8, 9, 3, 4, 5, 1, 2)
    batch = exercise.lay_rows(tokens, counted, _array(4, 3, 2), _array(0, 0, 1), (2, 8), 99)
    expected = {
        "input_ids": [[6, 7, 8, 9, 3, 4, 5, 99], [1, 2, 99, 99, 99, 99, 99, 99]],
        "labels": [[-100, 7, 8, 9, -100, -100, 5, -100], [-100, 2] + [-100] * 6],
        "position_ids": [[0, 1, 2, 3, 0, 1, 2, 0], [0, 1] + [0] * 6],
        "segment_ids": [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1] + [0] * 6],
    }
    for name, wanted in expected.items():
        assert batch[name].tolist() == wanted, f"{name}: {batch[name].tolist()}"
        assert batch[name].dtype == np.int64, f"{name} is {batch[name].dtype}"


def check_small_token_types(exercise: ModuleType) -> None:
    """Shards hold tokens as uint16: there -100 would become 65436. A label that is not counted is -100 all the same.
    分片里的词元是 uint16，-100 放进去会变成 65436；不计损失的标签仍须是 -100。
    """
    tokens = np.array([60_000, 60_001, 7], dtype=np.uint16)
    batch = exercise.lay_rows(tokens, np.array([True, True, False]), _array(3), _array(0), (1, 4), 0)
    assert batch["labels"].tolist() == [[-100, 60_001, -100, -100]], f"labels {batch['labels'].tolist()}"
    assert batch["input_ids"].tolist() == [[60_000, 60_001, 7, 0]], f"input_ids {batch['input_ids'].tolist()}"
