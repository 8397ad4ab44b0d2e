"""Exercise: documents of uneven length into rows of equal length. 练习：把长短不一的文档排进等长的行。"""

import numpy as np


def cut(starts: np.ndarray, lengths: np.ndarray, seq_len: int, long: str) -> tuple[np.ndarray, np.ndarray]:
    """Start and size of each piece, int64 [pieces], in order.

    Document d lies at `starts[d]` and has `lengths[d]` tokens (int64 [documents]). One of `seq_len` tokens or fewer is a
    piece as it is. A longer one is cut into pieces of at most `seq_len` that overlap by one token, so that every token
    but the first is predicted in exactly one piece; no piece has a single token. With long="truncate" it loses
    what lies beyond `seq_len` instead.
    """
    raise NotImplementedError


def best_fit_decreasing(lengths: np.ndarray, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack `lengths` (int64 [documents], each 1 to `seq_len`): the longest first, each into the fullest row that holds it.

    Returns the lengths in the order in which they lie, row after row, int64 [documents], and where each row begins in
    that list, int64 [rows + 1]. A hundred thousand documents should take a second or so, not minutes.
    """
    raise NotImplementedError


def lay_rows(
    tokens: np.ndarray, counted: np.ndarray, sizes: np.ndarray, rows: np.ndarray, shape: tuple[int, int], pad_id: int
) -> dict[str, np.ndarray]:
    """`input_ids`, `labels`, `position_ids` and `segment_ids`, each int64 `shape`, of pieces that lie end to end.

    `tokens` and `counted` have sum(sizes) entries; piece p has `sizes[p]` tokens and lies in row `rows[p]`, behind the
    pieces before it. Positions begin at 0 in each piece; segments are 1, 2, ... in each row; what is left of a row is
    `pad_id`, position 0, segment 0. A label is the token itself (the model shifts), -100 where it is not counted, at the
    first token of each piece and on padding.
    """
    raise NotImplementedError
