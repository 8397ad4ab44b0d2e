"""Checks for multi-head and grouped attention; the references are torch's module and one head at a time."""

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from danlu.models.blocks import View

SOLUTION = "danlu.models.blocks"
CAUSAL = View(None, None)


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _make(exercise: ModuleType, heads: int, kv_heads: int, head_dim: int = 4, size: int = 24) -> Any:
    torch.manual_seed(0)
    return exercise.Attention(size, heads, kv_heads, head_dim)


def _one_by_one(layer: Any, x: Tensor, heads: int, kv_heads: int, d: int) -> Tensor:
    """The definition: head after head, token after token."""
    found = torch.zeros(x.shape[0], x.shape[1], heads * d)
    q, k, v = (projection(x) for projection in (layer.q_proj, layer.k_proj, layer.v_proj))
    for head in range(heads):
        mine, shared = slice(head * d, head * d + d), head // (heads // kv_heads)
        theirs = slice(shared * d, shared * d + d)
        for t in range(x.shape[1]):
            scores = (k[:, : t + 1, theirs] @ q[:, t, mine, None]).squeeze(-1) / math.sqrt(d)
            found[:, t, mine] = (scores.softmax(-1)[..., None] * v[:, : t + 1, theirs]).sum(1)
    return layer.o_proj(found)


def check_sizes_of_the_projections(exercise: ModuleType) -> None:
    """6 query heads, 2 key heads of width 4: q makes 24 numbers, k and v make 8, o reads 24.
    6 个查询头、2 个键头、头宽 4：q 输出 24 个数，k 和 v 输出 8 个，o 读入 24 个。
    """
    layer = _make(exercise, 6, 2, size=20)
    sizes = {name: tuple(weight.shape) for name, weight in layer.state_dict().items()}
    wanted = {"q_proj.weight": (24, 20), "k_proj.weight": (8, 20), "v_proj.weight": (8, 20), "o_proj.weight": (20, 24)}
    assert sizes == wanted, f"{sizes}"


def check_multi_head_is_that_of_torch(exercise: ModuleType) -> None:
    """With as many key heads as query heads it is torch.nn.MultiheadAttention.
    键头与查询头一样多时，应与 torch.nn.MultiheadAttention 相同。
    """
    layer, x = _make(exercise, 6, 6), _draw(2, 7, 24)
    torchs = nn.MultiheadAttention(24, 6, bias=False, batch_first=True)
    torchs.in_proj_weight.data = torch.cat([layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.weight]).detach()
    torchs.out_proj.weight.data = layer.o_proj.weight.detach()
    mask = torch.full((7, 7), -math.inf).triu(1)
    torch.testing.assert_close(layer(x, CAUSAL, None, 0), torchs(x, x, x, attn_mask=mask, need_weights=False)[0])


def check_groups_share_in_order(exercise: ModuleType) -> None:
    """6 query heads, 2 key heads: queries 0, 1, 2 use the first, 3, 4, 5 the second.
    6 个查询头、2 个键头：0、1、2 号用第一个，3、4、5 号用第二个。
    """
    layer, x = _make(exercise, 6, 2), _draw(2, 7, 24)
    torch.testing.assert_close(layer(x, CAUSAL, None, 0), _one_by_one(layer, x, 6, 2, 4))


def check_multi_query(exercise: ModuleType) -> None:
    """One head of keys and values for all queries.
    所有查询共用一个键值头。
    """
    layer, x = _make(exercise, 4, 1, head_dim=6), _draw(2, 5, 24)
    torch.testing.assert_close(layer(x, CAUSAL, None, 0), _one_by_one(layer, x, 4, 1, 6))


def check_tokens_stay_apart(exercise: ModuleType) -> None:
    """Split the width into heads, then swap the two dimensions: reshaping alone would mix tokens, the future too.
    先把宽度拆成头，再交换两个维度：只做变形会把不同词元混在一起，连后面的也混进来。
    """
    layer, x = _make(exercise, 6, 2), _draw(1, 6, 24)
    changed = x.clone()
    changed[:, -1] += 5
    before, after = layer(x, CAUSAL, None, 0), layer(changed, CAUSAL, None, 0)
    torch.testing.assert_close(before[:, :-1], after[:, :-1])
    assert not torch.allclose(before[:, -1], after[:, -1]), "the last token changes nothing"


def check_a_mask_is_added(exercise: ModuleType) -> None:
    """A mask that lets tokens see themselves only: the output is o(v), each value repeated for its group.
    掩码只让词元看到自己时，输出就是 o(v)，每个值按组重复。
    """
    layer, x = _make(exercise, 6, 2), _draw(2, 5, 24)
    alone = torch.full((1, 1, 5, 5), -math.inf).masked_fill(torch.eye(5).bool(), 0.0)
    values = layer.v_proj(x).unflatten(-1, (2, 1, 4)).expand(-1, -1, -1, 3, -1).flatten(2)
    torch.testing.assert_close(layer(x, View(None, alone), None, 0), layer.o_proj(values))


def check_everything_learns(exercise: ModuleType) -> None:
    """All four projections receive a gradient.
    四个投影都应收到梯度。
    """
    layer = _make(exercise, 6, 2)
    layer(_draw(2, 5, 24), CAUSAL, None, 0).square().sum().backward()
    still = [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still, f"no gradient: {still}"
