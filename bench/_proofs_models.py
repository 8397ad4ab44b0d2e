"""Proofs about what models are built of: positions, norms, residuals."""

import torch
from _small import BYTES
from norms import depths
from torch import Tensor

from danlu.models import gpt2
from danlu.models.blocks import RMSNorm
from danlu.ops.positions import alibi_bias, alibi_slopes, relative_buckets, sinusoidal

__all__ = ["PROOFS"]


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).detach().abs().max())


def sinusoids() -> dict[str, float]:
    """Against the table that transformers computes for Marian, whose sines stand in the first half."""
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    theirs = MarianSinusoidalPositionalEmbedding(600, 64)
    table = theirs.create_weight()
    mine = sinusoidal(torch.arange(600), 64)
    return {"difference": _gap(torch.cat((mine[:, ::2], mine[:, 1::2]), -1), table)}


def learned_positions() -> dict[str, float]:
    """The logits of a GPT-2 whose second document counts from 0 again, against transformers with the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    ).eval()
    mine = gpt2.from_hf({**theirs.config.to_diff_dict(), "model_type": "gpt2"}, "proof").eval()
    mine.load_state_dict(theirs.state_dict())
    ids = torch.randint(50, (2, 24))
    positions = torch.cat((torch.arange(10), torch.arange(14))).expand(2, -1)
    with torch.no_grad():
        told = mine.logits(mine.hidden({"input_ids": ids, "position_ids": positions}))
        return {"difference": _gap(told, theirs(ids, position_ids=positions).logits)}


def relative_positions() -> dict[str, float]:
    """T5's buckets and ALiBi's bias against those of transformers."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-600, 601)
    different = sum(
        int(
            (
                relative_buckets(distance, bidirectional=both) != T5Attention._relative_position_bucket(distance, both)
            ).sum()
        )
        for both in (True, False)
    )
    theirs = build_alibi_tensor(torch.ones(1, 40, dtype=torch.long), 12, torch.float32)  # [H, 1, S]: slope · key
    at = torch.arange(40)
    mine = alibi_bias(alibi_slopes(12), at, at)[:, 39:]  # of the last query: the same but for a constant
    return {"different_buckets": different, "difference": _gap(mine - mine[..., -1:], theirs - theirs[..., -1:])}


def layer_norm() -> dict[str, float]:
    """The norm of danlu's GPT-2 against the formula in float64, for vectors whose mean is far from 0."""
    torch.manual_seed(0)
    norm = gpt2.GPT2(gpt2.GPT2Config(n_embd=64, n_layer=1, n_head=2)).transformer.ln_f
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(100, 64, generator=torch.Generator().manual_seed(0)) + 3
    y = x.double() - x.double().mean(-1, keepdim=True)
    exact = y / (y.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias
    return {"difference": _gap(norm(x), exact)}


def rms_norm() -> dict[str, float]:
    """Against the norm of transformers' Llama and against the formula in float64."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    torch.manual_seed(0)
    mine, theirs = RMSNorm(64, 1e-5), LlamaRMSNorm(64, 1e-5)
    torch.nn.init.normal_(mine.weight)
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(100, 64, generator=torch.Generator().manual_seed(0)) + 3
    y = x.double()
    exact = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * mine.weight
    return {"difference": _gap(mine(x), exact), "transformers": _gap(mine(x), theirs(x))}


def residuals() -> dict[str, float]:
    """How many times larger the gradient is at the first of eight layers than at the last, before any training."""
    ids = torch.randint(BYTES, (4, 64), generator=torch.Generator().manual_seed(0))
    found = {}
    for name, kind in (("with", "pre-norm, RMSNorm"), ("without", "neither")):
        gradient = depths(kind, ids)[1]
        found[name] = gradient[0] / gradient[-1]
    return found


PROOFS = {
    "position-sinusoidal": sinusoids,
    "position-learned": learned_positions,
    "position-relative": relative_positions,
    "layer-norm": layer_norm,
    "rms-norm": rms_norm,
    "residual-connections": residuals,
}
