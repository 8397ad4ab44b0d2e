"""Exercise: what a model takes, from its shape alone. 练习：只凭形状，算出模型要占多少。

A `Shape` has the numbers that you need: hidden, layers, heads, kv_heads, head_dim, inner, vocabulary, tied.
An `Anatomy` has the shape, and the matrices that were found by walking through the model.
"""

from typing import Literal

from danlu.models.anatomy import Anatomy, Shape
from danlu.models.budget import Flops, Training

# Given, for `training`: activation_bytes(shape, tokens, precision) and adapter_size(anatomy, rank) of danlu.models.budget.


def decoder_parameters(shape: Shape) -> int:
    """Parameters of a dense decoder like Llama: no biases, RMSNorm, a gated MLP (three matrices).

    q and o have heads · head_dim outputs or inputs, k and v have kv_heads · head_dim. Two norms a layer and one
    behind them all. The output matrix is a second embedding, unless `shape.tied`.
    """
    raise NotImplementedError


def kv_bytes(shape: Shape, size: int, length: int = 1) -> int:
    """Keys and values that one sequence of `length` tokens leaves in the cache; `size` is the bytes of a number.

    Count the attentions that keep a cache: the looks in shape.looks that are causal.
    """
    raise NotImplementedError


def training(
    anatomy: Anatomy, method: Literal["adamw", "muon"], precision: Literal["fp32", "bf16"], tokens: int
) -> Training:
    """Bytes to train all weights with; `tokens` are those of one micro-batch.

    Weights and gradients are float32. AdamW keeps two float32 for each parameter and Muon one for each parameter
    of the matrices in the layers (anatomy.in_layers, one by one in anatomy.inside), two for the others; both also
    count their steps in one float32 for each tensor (anatomy.tensors), but Muon not for its own matrices. copies:
    with bf16 two bytes for each parameter in the layers' matrices; and always four for each element of the output
    matrix (anatomy.output), whose gradient the loss makes at once. Activations: activation_bytes.
    """
    raise NotImplementedError


def flops(anatomy: Anatomy, length: int, *, full: bool = False) -> Flops:
    """Operations a token in a text of `length`, averaged over its tokens; a multiplication and an addition are two.

    For matrices: 2 for each weight that the token is multiplied with (matrix.size · matrix.share for each of
    anatomy.matrices), and for each element of the output matrix; an embedding is looked up, not multiplied. For attention: 4 · heads · head_dim
    for each token looked at, in each of shape.looks. Token t sees t tokens: the average is (length + 1) / 2. With
    `full`, as kernels compute it, each sees all of `length`.
    """
    raise NotImplementedError
