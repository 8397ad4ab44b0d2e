"""Attention that stores its weights beside torch's fused kernel, training and reading, at several lengths.

存下权重的注意力与 torch 的融合算子：在不同长度下比较训练与推理的耗时。

Backs the length at which danlu.ops.attention changes from the one to the other, and proves both against NumPy in
float64, and multi-head attention against torch's. The shape is the quickstart's: 2,048 tokens a step, 6 heads of 32,
documents packed into the rows.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from _common import Raw, arguments, interleave, ratio, show, write
from torch import Tensor

from danlu.models.blocks import Attention
from danlu.ops.attention import additive, attention, attention_weights, packed_mask

TOKENS, HEADS, HEAD_DIM = 2048, 6, 32
LENGTHS = (128, 256, 512, 1024)
DOCUMENT = 40  # tokens
WORK = (
    f"attention over {TOKENS} tokens a step, {HEADS} heads of {HEAD_DIM}, by length of the rows / "
    f"每步 {TOKENS} 个词元、{HEADS} 个 {HEAD_DIM} 维的头，行长不同时的注意力"
)


def inputs(length: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """q, k, v [B, H, T, d] that ask for gradients, and the additive mask of rows packed with short documents."""
    generator = torch.Generator().manual_seed(length)
    shape = (TOKENS // length, HEADS, length, HEAD_DIM)
    parts = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3)]
    segments = (torch.arange(length) // DOCUMENT + 1).expand(shape[0], length)
    return parts, additive(packed_mask(segments), dtype)


def plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The formula as it is written: all weights are stored."""
    if v.shape[1] != q.shape[1]:
        v = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)
    return attention_weights(q, k, mask) @ v


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """torch's kernel, block by block: the weights are never stored."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def formula(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> np.ndarray:
    """softmax(q kᵀ / √d + mask) v in NumPy and float64, query by query; neighbouring heads share their keys."""
    expected = np.empty(q.shape)
    rows, heads, length, width = q.shape
    for row, head, at in np.ndindex(rows, heads, length):
        shared = head // (heads // k.shape[1])
        scores = k[row, shared].double().numpy() @ q[row, head, at].double().numpy() / math.sqrt(width)
        scores += mask[row, 0, at].double().numpy()
        weights = np.exp(scores - scores.max())
        expected[row, head, at] = weights / weights.sum() @ v[row, shared].double().numpy()
    return expected


def differences() -> dict[str, float]:
    """The largest distance of `attention` and `plain` from `formula`, with all heads of k and v and with a third of
    them; and that of `danlu.models.blocks.Attention` without positions from torch's own multi-head attention."""
    found = {}
    (q, k, v), mask = inputs(128, torch.float32)
    q, k, v, mask = (part.detach()[:2] for part in (q, k, v, mask))
    for name, heads in (("formula", HEADS), ("grouped", HEADS // 3)):
        expected = formula(q, k[:, :heads], v[:, :heads], mask)
        told = [way(q, k[:, :heads], v[:, :heads], mask) for way in (attention, plain)]
        found[name] = max(float(np.abs(one.double().numpy() - expected).max()) for one in told)
    found["multi_head"] = _from_torch()
    return found


@torch.no_grad()
def _from_torch() -> float:
    torch.manual_seed(0)
    size = HEADS * HEAD_DIM
    mine = Attention(size, HEADS, HEADS, HEAD_DIM)
    theirs = torch.nn.MultiheadAttention(size, HEADS, bias=False, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in (mine.q_proj, mine.k_proj, mine.v_proj)]))
    theirs.out_proj.weight.copy_(mine.o_proj.weight)
    x = torch.randn(2, 64, size)
    unturned = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)  # cos and sin of an angle of 0
    later = torch.ones(64, 64, dtype=torch.bool).triu(1)
    return float(
        (mine(x, unturned, None, None, 0) - theirs(x, x, x, attn_mask=later, need_weights=False)[0]).abs().max()
    )


def measure(length: int, dtype: torch.dtype, backward: bool, repeats: int) -> Raw:
    """Seconds of one pass for each of the three."""
    parts, mask = inputs(length, dtype)
    if not backward:
        parts = [part.detach() for part in parts]

    def passes(function: Callable[..., Tensor]) -> None:
        out = function(*parts, mask)
        if backward:
            out.backward(torch.ones_like(out))
            for part in parts:
                part.grad = None

    each = {"danlu": attention, "fused": fused, "plain": plain}
    return interleave({name: lambda function=function: passes(function) for name, function in each.items()}, repeats)


def main() -> None:
    parser = arguments(__doc__, repeats=15)
    parser.add_argument("--quick", action="store_true", help="only prove, at one length / 只做验证与一个长度")
    read = parser.parse_args()
    ratios, raw, rows = {}, {}, []
    lengths = LENGTHS[:1] if read.quick else LENGTHS
    for way, backward in (("train", True), ("read", False)):
        for dtype, short in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
            for length in lengths:
                times = measure(length, dtype, backward, read.repeats)
                name = f"{way}_{short}_{length}"
                raw |= {f"{name}_{who}": seconds for who, seconds in times.items()}
                ratios[f"{name}_vs_fused"] = ratio(times, "danlu", "fused")
                ratios[f"{name}_vs_plain"] = ratio(times, "danlu", "plain")
                best = {who: 1000 * min(seconds) for who, seconds in times.items()}
                rows.append(
                    (way, short, length, best["plain"], best["fused"], ratio(times, "plain", "fused")["median"])
                )
    show(("pass", "dtype", "keys", "plain, ms", "fused, ms", "fused / plain"), rows)
    found = differences()
    print("\nlargest difference:", ", ".join(f"{name} {value:.1e}" for name, value in found.items()), end="\n\n")
    write(read.json, WORK, ratios, raw, difference=found)


if __name__ == "__main__":
    main()
