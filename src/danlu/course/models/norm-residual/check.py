"""Checks for RMSNorm and the pre-norm layer; the references are hand computations and formulas in float64."""

import math
from types import ModuleType

import torch
from torch import Tensor, nn

SOLUTION = "danlu.models.blocks"


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class _Attention(nn.Module):
    """Stands for attention: a linear map that takes what a layer hands over."""

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self.inner = nn.Linear(size, size, bias=False)
        nn.init.normal_(self.inner.weight, std=scale * size**-0.5)

    def forward(self, x: Tensor, view: object, cache: object, layer: int) -> Tensor:
        assert (view, cache, layer) == ("view", None, 3), "view, cache and layer are handed on"
        return self.inner(x)


def _layer(exercise: ModuleType, scale: float = 1.0, size: int = 8) -> nn.Module:
    torch.manual_seed(0)
    mlp = nn.Linear(size, size, bias=False)
    nn.init.normal_(mlp.weight, std=scale * size**-0.5)
    return exercise.DecoderLayer(_Attention(size, scale), mlp, size, 1e-6)


def check_rms_by_hand(exercise: ModuleType) -> None:
    """(3, 4): the mean square is 12.5, so x / 3.536 = (0.849, 1.131).
    (3, 4)：平方的平均是 12.5，所以 x / 3.536 = (0.849, 1.131)。
    """
    found = exercise.RMSNorm(2, 0.0)(torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(found.detach(), torch.tensor([3.0, 4.0]) / math.sqrt(12.5))


def check_the_mean_stays(exercise: ModuleType) -> None:
    """Unlike LayerNorm it subtracts nothing: (5, 5, 5) becomes (1, 1, 1), not (0, 0, 0).
    与 LayerNorm 不同，它不减均值：(5, 5, 5) 变成 (1, 1, 1)，而不是 (0, 0, 0)。
    """
    torch.testing.assert_close(exercise.RMSNorm(3, 0.0)(torch.full((3,), 5.0)).detach(), torch.ones(3))


def check_weight_and_eps(exercise: ModuleType) -> None:
    """Each number has a learned factor; eps stands inside the root.
    每个数有一个可学习的系数；eps 在根号里面。
    """
    norm, x = exercise.RMSNorm(16, 0.5), _draw(4, 16)
    norm.weight.data = _draw(16, seed=1)
    y = x.double()
    wanted = y / (y.square().mean(-1, keepdim=True) + 0.5).sqrt() * norm.weight.double()
    torch.testing.assert_close(norm(x).detach(), wanted.detach().float())


def check_size_does_not_matter(exercise: ModuleType) -> None:
    """A vector and the same vector 1,000 times as large give the same.
    向量放大 1,000 倍，结果不变。
    """
    norm, x = exercise.RMSNorm(16, 1e-6), _draw(4, 16)
    torch.testing.assert_close(norm(1000 * x), norm(x), atol=1e-4, rtol=1e-4)


def check_half_precision(exercise: ModuleType) -> None:
    """300² does not fit into float16: square in float32, give back float16.
    300² 放不进 float16：平方要用 float32 算，结果再转回 float16。
    """
    norm = exercise.RMSNorm(16, 1e-6).half()
    x = (300 * _draw(4, 16)).half()
    found = norm(x)
    assert found.dtype == torch.float16, f"dtype {found.dtype}"
    wanted = x.double() / x.double().square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(found.double(), wanted, atol=0.01, rtol=0.01)


def check_blocks_that_say_nothing(exercise: ModuleType) -> None:
    """If attention and MLP give 0, the layer passes x on untouched.
    如果注意力和前馈都输出 0，这一层应当原样传递 x。
    """
    layer, x = _layer(exercise, scale=0.0), _draw(2, 5, 8)
    torch.testing.assert_close(layer(x, "view", None, 3), x, rtol=0, atol=0)


def check_order_of_the_blocks(exercise: ModuleType) -> None:
    """The MLP reads the norm of what attention has already been added to.
    前馈读的是已经加上注意力结果之后再归一化的 x。
    """
    layer, x = _layer(exercise), _draw(2, 5, 8)
    layer.input_layernorm.weight.data = _draw(8, seed=1)
    layer.post_attention_layernorm.weight.data = _draw(8, seed=2)

    def rms(y: Tensor, weight: Tensor) -> Tensor:
        return y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    y = x + layer.self_attn.inner(rms(x, layer.input_layernorm.weight))
    wanted = y + layer.mlp(rms(y, layer.post_attention_layernorm.weight))
    torch.testing.assert_close(layer(x, "view", None, 3), wanted)


def check_gradients_pass_sixty_layers(exercise: ModuleType) -> None:
    """Through 60 layers the gradient arrives at the first in about the size it left the last.
    穿过 60 层之后，梯度到达第一层时应与离开最后一层时大小相仿。
    """
    layers, x = [_layer(exercise, scale=0.1) for _ in range(60)], _draw(2, 5, 8).requires_grad_()
    y = x
    for layer in layers:
        y = layer(y, "view", None, 3)
    y.sum().backward()
    assert x.grad is not None, "no gradient"
    size = float(x.grad.norm()) / math.sqrt(x.numel())
    assert 0.1 < size < 10, f"{size:.2g}"
