"""Checks for sampling; the references are hand computations and transformers' own warpers."""

from types import ModuleType

import torch

SOLUTION = "danlu.ops.sampling"

GUESS = (0.40, 0.25, 0.15, 0.08, 0.06, 0.03, 0.02, 0.01)


def _kept(logits: torch.Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def _guess(rows: int = 1) -> torch.Tensor:
    return torch.tensor([GUESS] * rows).log()


def _random(rows: int = 6, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(rows, 40, generator=torch.Generator().manual_seed(seed))


def check_top_k_by_hand(exercise: ModuleType) -> None:
    """Of 0.40, 0.25, 0.15, 0.08, ... the best 1, the best 4, or all (0), each row as it wishes.
    概率为 0.40、0.25、0.15、0.08……：三行分别只取 1 个、4 个和全部（0）。
    """
    logits = _guess(3)
    kept = exercise.keep_top_k(logits, torch.tensor([1, 4, 0]))
    assert _kept(kept) == [[0], [0, 1, 2, 3], list(range(8))], f"kept {_kept(kept)}"
    torch.testing.assert_close(kept[1, :4], logits[1, :4])


def check_top_k_keeps_equals_together(exercise: ModuleType) -> None:
    """Two tokens share the second place: with k = 2 both stay, wherever they stand. k may exceed the vocabulary.
    有两个词元并列第二：k = 2 时都要留下，与它们的次序无关；k 也可以比词表大。
    """
    logits = torch.tensor([[1.0, 3.0, 0.0, 1.0], [1.0, 3.0, 0.0, 1.0]])
    kept = exercise.keep_top_k(logits, torch.tensor([2, 9]))
    assert _kept(kept) == [[0, 1, 3], [0, 1, 2, 3]], f"kept {_kept(kept)}"


def check_top_p_by_hand(exercise: ModuleType) -> None:
    """0.40 + 0.25 + 0.15 = 0.80 is the first sum to reach 0.75; the token that reaches it stays.
    0.40 + 0.25 + 0.15 = 0.80 最先达到 0.75；使累积达到它的那个词元要留下。
    """
    kept = exercise.keep_top_p(_guess(4), torch.tensor([0.75, 0.3, 0.95, 1.0]))
    assert _kept(kept) == [[0, 1, 2], [0], [0, 1, 2, 3, 4, 5], list(range(8))], f"kept {_kept(kept)}"


def check_top_p_needs_no_order(exercise: ModuleType) -> None:
    """The ids of tokens do not come by falling probability: sort, and put the answer back into place.
    词元编号并非按概率排列：排序之后，要把结果放回原处。
    """
    shuffled = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    kept = exercise.keep_top_p(_guess()[:, shuffled], torch.tensor([0.75]))
    assert {int(shuffled[at]) for at in _kept(kept)[0]} == {0, 1, 2}, f"kept {_kept(kept)}"


def check_min_p_by_hand(exercise: ModuleType) -> None:
    """0.12 times the best is 0.048: 0.06 stays, 0.03 goes.
    最佳者的 0.12 倍是 0.048：0.06 留下，0.03 去掉。
    """
    kept = exercise.keep_min_p(_guess(2), torch.tensor([0.12, 0.0]))
    assert _kept(kept) == [[0, 1, 2, 3, 4], list(range(8))], f"kept {_kept(kept)}"


def check_filters_equal_those_of_transformers(exercise: ModuleType) -> None:
    """Random logits, in any chain: the same tokens stay, with the same values.
    随机 logits，任意组合：留下的词元与数值都应一致。
    """
    from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits, ids = _random(), torch.zeros(6, 1, dtype=torch.int64)
    chain = (
        (exercise.keep_top_k, torch.full((6,), 20), TopKLogitsWarper(20)),
        (exercise.keep_top_p, torch.full((6,), 0.8), TopPLogitsWarper(0.8)),
        (exercise.keep_min_p, torch.full((6,), 0.1), MinPLogitsWarper(0.1)),
    )
    told = wanted = logits
    for keep, setting, warper in chain:
        told, wanted = keep(told, setting), warper(ids, wanted)
        torch.testing.assert_close(told, wanted)


def check_the_draw_by_hand(exercise: ModuleType) -> None:
    """Cumulative 0.40, 0.65, 0.80, ...: 0.39 draws token 0, 0.41 token 1, 0.79 token 2, 0 the first, 0.999 the last.
    累积概率为 0.40、0.65、0.80……：0.39 抽到 0 号，0.41 抽到 1 号，0.79 抽到 2 号，0 抽到最前，0.999 抽到最后。
    """
    uniform = torch.tensor([0.39, 0.41, 0.79, 0.0, 0.999])
    tokens = exercise.sample(_guess(5), uniform, torch.ones(5))
    assert tokens.dtype == torch.int64, f"dtype {tokens.dtype}"
    assert tokens.tolist() == [0, 1, 2, 0, 7], f"drawn {tokens.tolist()}"


def check_temperature_zero_is_greedy(exercise: ModuleType) -> None:
    """A row of temperature 0 takes its best token whatever its random number; the others still draw.
    温度为 0 的行无论随机数是多少都取最佳词元；其他行照常抽取。
    """
    tokens = exercise.sample(_guess(3), torch.tensor([0.99, 0.985, 0.7]), torch.tensor([0.0, 1.0, 1.0]))
    assert tokens.tolist() == [0, 6, 2], f"drawn {tokens.tolist()}"


def check_temperature_comes_before_top_p(exercise: ModuleType) -> None:
    """At temperature 2, top-p 0.75 keeps five tokens, not three: number 4 has to be drawn sometimes.
    温度为 2 时，top-p 0.75 留下的是五个词元而不是三个：4 号应当能被抽到。
    """
    number = 1000
    uniform = (torch.arange(number) + 0.5) / number
    two, most = torch.full((number,), 2.0), torch.full((number,), 0.75)
    tokens = exercise.sample(_guess(number), uniform, two, None, most)
    counts = torch.bincount(tokens, minlength=8) / number
    wanted = _guess()[0].div(2).softmax(-1) * (torch.arange(8) < 5)
    torch.testing.assert_close(counts, wanted / wanted.sum(), atol=2e-3, rtol=0)


def check_rows_do_not_disturb_each_other(exercise: ModuleType) -> None:
    """What a row draws is the same alone and beside rows with other settings.
    一行抽到什么，单独计算与放在一批里（其他行设置不同）应当相同。
    """
    logits, uniform = _random(), torch.rand(6, generator=torch.Generator().manual_seed(1))
    settings = (
        torch.tensor([0.0, 0.5, 1.0, 1.0, 2.0, 1.0]),
        torch.tensor([0, 5, 0, 3, 0, 0]),
        torch.tensor([1.0, 1.0, 0.6, 0.9, 1.0, 1.0]),
        torch.tensor([0.0, 0.0, 0.0, 0.0, 0.2, 0.0]),
    )
    together = exercise.sample(logits, uniform, *settings)
    alone = [exercise.sample(*(part[at : at + 1] for part in (logits, uniform, *settings))) for at in range(6)]
    assert together.tolist() == [int(token) for token in alone]
