"""From a GGUF file to a model: llama.cpp's names become Hugging Face's, its blocks become weights."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.core.errors import ConfigError, FolderError
from danlu.core.gguf import GGUF
from danlu.core.i18n import tr
from danlu.models import auto
from danlu.models.base import LanguageModel
from danlu.models.loading import weightless

__all__ = ["ARCHITECTURES", "config_of", "gguf_name", "interleave", "load_gguf"]

# general.architecture -> model_type, for those whose tensors go by the names below
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
# These, llama.cpp turns in pairs (2i, 2i+1), Hugging Face in pairs (i, i + d/2): the rows of q and k change places.
_INTERLEAVED = {"llama"}
_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_INNER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_BLOCK = re.compile(r"blk\.(\d+)\.")
# Metadata that change the computation in ways that danlu's families have not; 0 and 1 leave it as it is.
_ELSEWHERE = (
    "attention.clamp_kqv", "attention.max_alibi_bias", "attention.scale", "attn_logit_softcapping", "embedding_scale", "expert_count",
    "final_logit_softcapping", "logit_scale", "residual_scale", "rope.scaling.attn_factor", "use_parallel_residual",
)  # fmt: skip
_MOST = 2**31  # of anything that is counted in metadata
_SHOWN = 5  # names listed before "and n more"


def gguf_name(name: str) -> str | None:
    """llama.cpp's name of the parameter that Hugging Face calls `name`; None when it has none."""
    stem, _, ending = name.rpartition(".")
    layer = _LAYER.fullmatch(stem)
    found = _INNER.get(layer[2]) if layer else _OUTER.get(stem)
    if found is None:
        return None
    return f"blk.{layer[1]}.{found}.{ending}" if layer else f"{found}.{ending}"


# lesson: interleave
def interleave(heads: int, rows: int) -> Tensor:
    """Which row of Hugging Face's q or k projection stands at each place of llama.cpp's: theirs = ours[it]. int64 [rows].

    In each head, row i of the first half goes to 2i and row i of the second half to 2i + 1.
    """
    return torch.arange(rows).view(heads, 2, -1).transpose(1, 2).reshape(-1)


# end lesson


def load_gguf(
    path: Path | str, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> LanguageModel:
    """The model of a GGUF file, dequantised into `dtype` (default: float32; bfloat16 when all matrices are that).

    Each weight is written once into its final place, some rows at a time, so loading takes little more memory than
    the model. Raises FolderError for a damaged file, an architecture or a setting that is not implemented, and for
    tensors that are missing, surplus or of another shape.
    """
    file = GGUF(path)
    config = config_of(file)
    try:
        with weightless():
            model = auto.build(config, str(path))
    except ConfigError as error:
        raise FolderError(error.what, error.do) from None
    places = _places(file, model)
    if dtype is None:
        matrices = {info.kind.name for info in file.tensors.values() if len(info.shape) > 1}
        dtype = torch.bfloat16 if matrices == {"BF16"} else torch.float32
    # All places first: memory that is not written costs nothing, and what each part needs is then taken again and
    # again from the same spot instead of from gaps between the weights.
    state = {name: torch.empty(file.tensors[at].shape, dtype=dtype, device=device) for name, at in places.items()}
    for name, source in places.items():
        _write(state[name], file, source, _order(config, name, file))
    for alias, source in model.tied().items():
        state[alias] = state[source]
    model.load_state_dict(state, assign=True)
    model.tie()
    return model.eval()


def config_of(file: GGUF) -> dict[str, Any]:
    """`config.json` as Hugging Face would have it, out of metadata and tensors that agree with each other."""
    kind = file.value("general.architecture", str)
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        file.refuse(
            f"architecture '{kind}' is not implemented (implemented: {known})", f"尚未实现架构“{kind}”(已实现:{known})"
        )

    _refuse_elsewhere(file, kind)

    def count(key: str, default: int | None = None) -> int:
        number = file.value(f"{kind}.{key}", int, default)
        if not 0 < number < _MOST:
            file.refuse(f"{kind}.{key} is {number}", f"{kind}.{key} 为 {number}")
        return number

    def rows(name: str, at: int = 0) -> int:
        if name not in file.tensors or len(file.tensors[name].shape) != 2:
            file.refuse(f"the matrix {name} is missing", f"缺少矩阵 {name}")
        return file.tensors[name].shape[at]

    def agree(key: str, told: int, found: int) -> int:
        if told != found:  # before anything is built: what a tensor holds is bounded by the file, a number is not
            file.refuse(f"{kind}.{key} is {told}, the tensors say {found}", f"{kind}.{key} 为 {told},而张量为 {found}")
        return told

    heads = count("attention.head_count")
    head_dim = count("attention.key_length", max(1, count("embedding_length") // heads))
    agree("rope.dimension_count", count("rope.dimension_count", head_dim), head_dim)
    layers = {int(match[1]) for match in map(_BLOCK.match, file.tensors) if match}
    config = {
        "model_type": ARCHITECTURES[kind],
        "vocab_size": agree("vocab_size", count("vocab_size", rows("token_embd.weight")), rows("token_embd.weight")),
        "hidden_size": agree("embedding_length", count("embedding_length"), rows("token_embd.weight", 1)),
        "num_hidden_layers": agree("block_count", count("block_count"), len(layers)),
        "num_attention_heads": heads,
        "num_key_value_heads": count("attention.head_count_kv", heads),
        "head_dim": agree("attention.key_length", head_dim, rows("blk.0.attn_q.weight") // heads),
        "intermediate_size": agree("feed_forward_length", count("feed_forward_length"), rows("blk.0.ffn_gate.weight")),
        "max_position_embeddings": count("context_length"),
        "rms_norm_eps": _positive(file, f"{kind}.attention.layer_norm_rms_epsilon", None, 1.0),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "rope_parameters": _rope(file, kind),
        "hidden_act": "silu",
    }
    theta = config["rope_parameters"]["rope_theta"]
    return {**config, "rope_theta": theta, **({"attention_bias": True} if _biased(file, kind) else {})}


def _refuse_elsewhere(file: GGUF, kind: str) -> None:
    for key in (f"{kind}.{name}" for name in _ELSEWHERE):
        told = file.metadata.get(key, 0)
        if not isinstance(told, int | float) or told not in (0, 1):
            file.refuse(f"{key} {str(told)[:40]} is not implemented", f"尚未实现 {key} {str(told)[:40]}")
    window = file.value(f"{kind}.attention.sliding_window", int, 0)
    if 0 < window < file.value(f"{kind}.context_length", int):
        file.refuse(f"{kind}.attention.sliding_window {window} is not implemented", f"尚未实现滑动窗口 {window}")


def _biased(file: GGUF, kind: str) -> bool:
    """Whether a llama has biases; qwen2 always has them and its config does not say so."""
    return kind == "llama" and "blk.0.attn_q.bias" in file.tensors


def _positive(file: GGUF, key: str, default: float | None, most: float) -> float:
    number = file.value(key, float, default)
    if not 0 < number <= most:
        file.refuse(f"{key} is {number}", f"{key} 为 {number}")
    # A float32 of 1e-05 is 9.99999974e-06: the shortest decimal that gives the same float32 is what was meant.
    return float(str(np.float32(number)))


def _rope(file: GGUF, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": _positive(file, f"{kind}.rope.freq_base", 10000.0, 1e15),
    }
    scaling = file.value(f"{kind}.rope.scaling.type", str, "none")
    if scaling not in ("none", "linear", "yarn"):
        file.refuse(f"{kind}.rope.scaling.type is '{scaling}'", f"{kind}.rope.scaling.type 为“{scaling}”")
    if scaling != "none":
        found |= {"rope_type": scaling, "factor": _positive(file, f"{kind}.rope.scaling.factor", None, 1e6)}
        if scaling == "yarn":
            length = file.value(f"{kind}.rope.scaling.original_context_length", int)
            found["original_max_position_embeddings"] = length
    return found


def _places(file: GGUF, model: LanguageModel) -> dict[str, str]:
    """Which tensor fills which parameter; raise FolderError naming each one that does not fit."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in model.tied()}
    places = {name: gguf_name(name) or name for name in expected}
    wrong = [
        f"{place} {list(file.tensors[place].shape)} != {list(expected[name])}"
        for name, place in places.items()
        if place in file.tensors and file.tensors[place].shape != expected[name]
    ]
    faults = {
        tr("missing", "缺少"): sorted(set(places.values()) - file.tensors.keys()),
        tr("surplus", "多余"): sorted(file.tensors.keys() - set(places.values())),
        tr("wrong shape", "形状不符"): wrong,
    }
    told = [
        f"{fault}: {', '.join(names[:_SHOWN])}{f' (+{len(names) - _SHOWN})' if len(names) > _SHOWN else ''}"
        for fault, names in faults.items()
        if names
    ]
    if told:
        file.refuse("; ".join(told), ";".join(told))
    return places


def _order(config: dict[str, Any], name: str, file: GGUF) -> Tensor | None:
    """Where each row of llama.cpp's tensor belongs in `name`; None when the order is the same."""
    projection = name.split(".")[-2]
    if file.metadata["general.architecture"] not in _INTERLEAVED or projection not in ("q_proj", "k_proj"):
        return None
    heads = config["num_attention_heads" if projection == "q_proj" else "num_key_value_heads"]
    rows = file.tensors[str(gguf_name(name))].shape[0]
    return interleave(heads, rows)


def _write(weight: Tensor, file: GGUF, source: str, order: Tensor | None) -> None:
    for first, rows in file.rows(source):
        # What is mapped from the file is read-only, which torch does not know; it is only copied from here.
        part = torch.from_numpy(rows if rows.flags.writeable else rows.copy()).to(device=weight.device)
        if order is None:
            weight[first : first + len(rows)] = part
        else:
            weight[order[first : first + len(rows)].to(weight.device)] = part.to(weight.dtype)
