"""Checks for scaled dot-product attention; the references are hand computations and torch's own kernel."""

import math
from types import ModuleType

import torch
import torch.nn.functional as F

SOLUTION = "danlu.ops.attention"


def _draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check_one_query_by_hand(exercise: ModuleType) -> None:
    """One query, two keys: scores 2 and 0, divided by √4 they are 1 and 0, so e / (e + 1) ≈ 0.731.
    一个查询、两个键：得分为 2 和 0，除以 √4 得 1 和 0，权重应为 e / (e + 1) ≈ 0.731。
    """
    q, k = torch.tensor([[[[1.0, 1, 0, 0]]]]), torch.tensor([[[[2.0, 0, 0, 0], [0, 0, 1, 0]]]])
    weights = exercise.attention_weights(q, k)
    assert weights.shape == (1, 1, 1, 2), f"shape {tuple(weights.shape)}"
    torch.testing.assert_close(weights.flatten(), torch.tensor([math.e / (math.e + 1), 1 / (math.e + 1)]))


def check_rows_sum_to_one(exercise: ModuleType) -> None:
    """Softmax goes over the keys, the last dimension.
    softmax 应当沿着键的方向（最后一维）。
    """
    torch.testing.assert_close(
        exercise.attention_weights(_draw(2, 3, 4, 8), _draw(2, 3, 5, 8)).sum(-1), torch.ones(2, 3, 4)
    )


def check_scale_is_the_width_of_a_head(exercise: ModuleType) -> None:
    """Divide by the root of the head's width d, not of the whole model's width H · d.
    除以单个头宽度 d 的平方根，而不是整个模型宽度 H · d 的平方根。
    """
    q, k, v = _draw(2, 6, 7, 16), _draw(2, 6, 7, 16, seed=1), _draw(2, 6, 7, 16, seed=2)
    torch.testing.assert_close(exercise.attention_weights(q, k) @ v, F.scaled_dot_product_attention(q, k, v))


def check_heads_share_keys_in_groups(exercise: ModuleType) -> None:
    """With 6 query heads and 2 key heads, queries 0 to 2 use the first and 3 to 5 the second.
    6 个查询头配 2 个键头时，0 到 2 号查询头用第一个，3 到 5 号用第二个。
    """
    q, k = _draw(1, 6, 4, 8), _draw(1, 2, 4, 8, seed=1)
    weights = exercise.attention_weights(q, k)
    for head in range(6):
        alone = exercise.attention_weights(q[:, head : head + 1], k[:, head // 3 : head // 3 + 1])
        torch.testing.assert_close(weights[:, head : head + 1], alone)


def check_documents_stay_apart(exercise: ModuleType) -> None:
    """A token sees its own document up to itself: two triangles, nothing between them, no looking ahead.
    每个词元只能看到自己的文档中到自己为止的部分：两个三角形，互不相通，也不能向后看。
    """
    mask = exercise.packed_mask(torch.tensor([[1, 1, 1, 2, 2]]))
    assert mask.dtype == torch.bool, f"dtype {mask.dtype}"
    assert mask.shape == (1, 1, 5, 5), f"shape {tuple(mask.shape)}"
    rows = ["x....", "xx...", "xxx..", "...x.", "...xx"]
    assert ["".join(".x"[cell] for cell in row) for row in mask[0, 0].int().tolist()] == rows


def check_the_future_changes_nothing(exercise: ModuleType) -> None:
    """Change the last token: what earlier tokens get must stay exactly as it was.
    改动最后一个词元，前面各词元得到的结果必须分毫不变。
    """
    mask = exercise.additive(exercise.packed_mask(torch.ones(1, 6, dtype=torch.int64)), torch.float32)
    x = _draw(1, 1, 6, 8)
    changed = x.clone()
    changed[:, :, -1] += 5
    before, after = (exercise.attention_weights(part, part, mask) @ part for part in (x, changed))
    torch.testing.assert_close(before[:, :, :-1], after[:, :, :-1], rtol=0, atol=0)


def check_padding_gives_numbers(exercise: ModuleType) -> None:
    """A row of softmax with nothing but -inf is NaN: let padding see padding.
    如果一行全是 -inf，softmax 会得到 NaN：让填充看到填充自己。
    """
    mask = exercise.additive(exercise.packed_mask(torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]])), torch.float32)
    weights = exercise.attention_weights(_draw(2, 2, 4, 8), _draw(2, 2, 4, 8, seed=1), mask)
    assert torch.isfinite(weights).all(), "NaN"
    assert float(weights[0, :, :2, 2:].abs().max()) == 0, "text looks at padding"


def check_half_precision(exercise: ModuleType) -> None:
    """-1e9 does not fit into float16, whose largest number is 65504; -inf does.
    float16 最大只能表示 65504，放不下 -1e9，但可以表示 -inf。
    """
    allowed = exercise.packed_mask(torch.tensor([[1, 1, 2, 2]]))
    q, k = _draw(1, 2, 4, 8), _draw(1, 2, 4, 8, seed=1)
    exact = exercise.attention_weights(q, k, exercise.additive(allowed, torch.float32))
    for dtype in (torch.float16, torch.bfloat16):
        mask = exercise.additive(allowed, dtype)
        assert mask.dtype == dtype, f"dtype {mask.dtype}"
        found = exercise.attention_weights(q.to(dtype), k.to(dtype), mask)
        assert found.dtype == dtype, f"dtype {found.dtype}"
        torch.testing.assert_close(found.float(), exact, atol=0.02, rtol=0.02)
