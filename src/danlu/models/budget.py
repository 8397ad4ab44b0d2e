"""What a model takes: bytes to run it, bytes to train it, operations a token. Arithmetic only.

Sources: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models" (activations);
Rajbhandari et al. 2020, "ZeRO" (weights, gradients, optimiser); Kaplan et al. 2020, Table 1, and Chowdhery et al.
2022, "PaLM", App. B (operations); Dettmers et al. 2023, "QLoRA" (4-bit weights in training).
"""

from typing import Literal, NamedTuple, get_args

from danlu.models.anatomy import Anatomy, Look, Shape

__all__ = [
    "METHODS",
    "Flops",
    "Inference",
    "Method",
    "Stored",
    "Training",
    "activation_bytes",
    "adapter_size",
    "decoder_parameters",
    "flops",
    "inference",
    "kv_bytes",
    "recomputed_bytes",
    "training",
    "weight_bytes",
]

Stored = Literal["fp32", "bf16", "int8", "int4"]
Method = Literal["adamw", "muon", "lora", "qlora"]
METHODS = get_args(Method)

_GROUP = 32  # weights of int4 that share a 2-byte scale: 4.5 bits each
# NF4 with double quantisation: 4 bits, and 8/64 + 32/(64 · 256) for the scales (Dettmers et al. 2023, §3)
_NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
_FLOAT = {"fp32": 4, "bf16": 2}
_STEP = 4  # the optimiser counts its steps in one float32 a tensor


class Inference(NamedTuple):
    """Bytes while generating: all weights, and the cache of `batch` sequences of `context` tokens."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        return self.weights + self.cache


class Training(NamedTuple):
    """Bytes while training: what stays, and the activations that one micro-batch keeps for its backward pass."""

    weights: int
    copies: int  # matrices in the products' precision, and the gradient of the output matrix that the loss makes
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self)


class Flops(NamedTuple):
    """Floating-point operations a token, a multiplication and an addition counting as two."""

    matrices: int
    attention: int

    @property
    def forward(self) -> int:
        return self.matrices + self.attention

    @property
    def training(self) -> int:
        """The backward pass is twice the forward one: by the inputs, and by the weights (Kaplan et al. 2020, §2.1)."""
        return 3 * self.forward


# lesson: parameters
def decoder_parameters(shape: Shape) -> int:
    """Parameters of a dense decoder like Llama, counted by hand: no biases, RMSNorm, a gated MLP.

    `dissect` counts every family, by walking through its modules; here is the sum behind the number.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = 2 * shape.hidden * queries + 2 * shape.hidden * keys  # q and o, k and v
    mlp = 3 * shape.hidden * shape.inner  # gate, up, down
    layer = attention + mlp + 2 * shape.hidden  # and two norms
    embeddings = (1 if shape.tied else 2) * shape.vocabulary * shape.hidden
    return embeddings + shape.layers * layer + shape.hidden  # and the last norm


# end lesson


def weight_bytes(anatomy: Anatomy, stored: Stored) -> int:
    """All weights. int8 and int4 are of the matrices in the layers, one float32 scale a row or one float16 scale for
    32 weights; embeddings, norms and the output matrix then stay in two bytes."""
    if stored in _FLOAT:
        return _FLOAT[stored] * anatomy.total
    rest = 2 * (anatomy.total - anatomy.in_layers)
    if stored == "int8":
        return rest + anatomy.in_layers + 4 * sum(matrix.out for matrix in anatomy.inside)
    return rest + anatomy.in_layers // 2 + 2 * (anatomy.in_layers // _GROUP)


# lesson: kv-bytes
def kv_bytes(shape: Shape, size: int, length: int = 1, *, windowed: bool = False) -> int:
    """Keys and values of one sequence: 2 · attentions · kv_heads · head_dim · bytes, for each of `length` tokens.

    size: bytes of a number. windowed: as if layers that slide kept their window only, which danlu's cache does not.
    An encoder-decoder's decoder also keeps those of the source: the same again for each of its tokens.
    """
    each = 2 * shape.kv_heads * shape.head_dim * size
    seen = [min(length, look.window or length) if windowed else length for look in shape.looks if look.causal]
    return each * sum(seen)


def inference(anatomy: Anatomy, stored: Stored, context: int, batch: int) -> Inference:
    """Bytes to generate with; the cache is in two bytes a number unless the weights are in four."""
    source = 2 if anatomy.shape.encoder_decoder else 1
    cache = batch * source * kv_bytes(anatomy.shape, _FLOAT.get(stored, 2), context)
    return Inference(weight_bytes(anatomy, stored), cache)


# end lesson


# lesson: activation-bytes
def activation_bytes(shape: Shape, tokens: int, precision: Literal["fp32", "bf16"]) -> int:
    """What `tokens` of one micro-batch leave behind for the backward pass, without dropout, with fused attention.

    Korthikanti et al. 2022, §4.1, counted again for grouped queries, gated MLPs, experts and RMSNorm. For each token
    are kept: the input of each norm (and, of RMSNorm, the input divided by its root mean square); the input of every
    matrix; queries, keys, values, the mixed values and one float32 a head; what the activation and the product around
    it saw; the gradient that the loss makes at once. With bf16 the norms work in fp32, and each matrix keeps a bf16
    copy of its input. Not fused, attention also keeps its weights: `heads · length` numbers a token. Where RMSNorm
    has a fused kernel (CUDA) the quotient is not kept, and this is an upper bound.
    """
    size = _FLOAT[precision]
    shared = precision == "fp32"  # matrices that read the same numbers share them
    norms = 4 * (2 if shape.rms else 1) * shape.normed
    heads = size * (2 * shape.heads + 2 * shape.kv_heads) * shape.head_dim + 4 * shape.heads
    attention = heads + size * (1 if shared else 3) * shape.hidden
    inner = 4 if shape.gated else 2
    mlp = size * (inner * shape.inner + (1 if shared or not shape.gated else 2) * shape.hidden)
    layers = len(shape.looks) * attention + (shape.layers - shape.sparse) * mlp
    layers += shape.sparse * _expert_bytes(shape, inner, precision)
    return tokens * (norms + layers + 4 * shape.hidden)


# end lesson


def _expert_bytes(shape: Shape, inner: int, precision: Literal["fp32", "bf16"]) -> int:
    """A sparse layer, a token: the router's input and scores, and for each chosen expert its input, its inner numbers,
    its answer before and after the router's weight, and where the token stood."""
    size = _FLOAT[precision]
    states = 12 if precision == "fp32" else 10  # bytes a number: three of four, or three of two and one of four
    expert = size * inner * shape.expert_inner + states * shape.hidden + 2 * 8
    return 4 * shape.hidden + 2 * 4 * shape.experts + shape.chosen * expert


def recomputed_bytes(shape: Shape, tokens: int, precision: Literal["fp32", "bf16"]) -> int:
    """Activations when every layer is computed again in the backward pass (Chen et al. 2016): what each layer was
    given, and one layer's own. Costs a third more operations."""
    one = activation_bytes(shape, tokens, precision) // max(1, shape.layers)
    return shape.layers * tokens * shape.hidden * 4 + one


def adapter_size(anatomy: Anatomy, rank: int) -> int:
    """Parameters of LoRA on every matrix inside the layers: rank · (in + out) each (Hu et al. 2021, §4.1)."""
    return sum(rank * (matrix.out + matrix.inner) for matrix in anatomy.inside)


# lesson: training-bytes
def training(
    anatomy: Anatomy, method: Method, precision: Literal["fp32", "bf16"], tokens: int, rank: int = 16
) -> Training:
    """Bytes to train with; `tokens` are those of one micro-batch, `rank` is LoRA's.

    As danlu trains: weights and gradients of what learns in fp32, and with bf16 a copy of each matrix in two bytes.
    AdamW keeps two float32 for each parameter, Muon one for each of a layer's matrices (Rajbhandari et al. 2020,
    §3.1, where mixed precision with fp32 masters comes to the same 16 bytes). LoRA's base is frozen in `precision`,
    QLoRA's matrices are in 4 bits and the rest in two bytes.
    """
    inside, total = anatomy.in_layers, anatomy.total
    activations = activation_bytes(anatomy.shape, tokens, precision)
    copied = 2 if precision == "bf16" else 0
    if method in ("adamw", "muon"):
        state = 8 * total + _STEP * anatomy.tensors
        if method == "muon":
            state -= 4 * inside + _STEP * len(anatomy.inside)
        return Training(4 * total, copied * inside + 4 * anatomy.output, 4 * total, state, activations)
    adapters = adapter_size(anatomy, rank)
    frozen = _FLOAT[precision] * total
    if method == "qlora":
        frozen = 2 * (total - inside) + round(inside * _NF4_BITS / 8)
    state = 8 * adapters + _STEP * 2 * len(anatomy.inside)
    return Training(frozen + 4 * adapters, copied * adapters, 4 * adapters, state, activations)


# end lesson


# lesson: flops
def flops(anatomy: Anatomy, length: int, *, full: bool = False) -> Flops:
    """Operations a token in a text of `length`, averaged over its tokens.

    A matrix costs 2 for each weight that the token meets (2N, Kaplan et al. 2020, §2.1), the output matrix included,
    the embedding not. Attention costs 4 · heads · head_dim for each token that it looks at: once for the scores, once
    for the mix. full: as fused kernels are counted, and PaLM App. B does, as if each saw all `length`; else a causal
    one sees (length + 1) / 2 on average, or its window. Of an encoder-decoder: for a token read and one written.
    """
    shape = anatomy.shape
    matrices = sum(2 * matrix.size * matrix.share for matrix in anatomy.matrices if matrix.inside or anatomy.output)
    seen = sum(length if full else _mean_seen(look, length) for look in shape.looks)
    return Flops(round(matrices) + 2 * anatomy.output, round(4 * shape.heads * shape.head_dim * seen))


def _mean_seen(look: Look, length: int) -> float:
    """How many tokens one looks at, averaged over a text."""
    window = min(look.window or length, length)
    if not look.causal:
        return window
    return window - window * (window - 1) / 2 / length  # the first `window` tokens see 1, 2, ..., window


# end lesson
