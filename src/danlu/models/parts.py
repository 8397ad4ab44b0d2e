"""What GPT-2 and the encoders share: parts kept under the names of the file, activations, dropout in attention."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.ops.attention import additive, attention, attention_weights

__all__ = ["ACTIVATIONS", "Parts", "activation_of", "graft", "mix_heads", "start_normal"]

_TANH_GELU = partial(F.gelu, approximate="tanh")
# Hugging Face's names; `gelu_new` is the tanh approximation written out (Hendrycks & Gimpel 2016).
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _TANH_GELU,
    "gelu_pytorch_tanh": _TANH_GELU,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def activation_of(name: str, setting: str = "hidden_act") -> Callable[[Tensor], Tensor]:
    """The function called `name`. Raises ConfigError naming the setting for one that danlu does not implement."""
    if name not in ACTIVATIONS:
        raise ConfigError(
            tr(f"{setting} '{name}' is not implemented", f"尚未实现 {setting}“{name}”"),
            tr(f"one of: {', '.join(ACTIVATIONS)}", f"可选：{'、'.join(ACTIVATIONS)}"),
        )
    return ACTIVATIONS[name]


def graft(root: nn.Module, path: str, part: nn.Module | nn.Parameter) -> None:
    """Put `part` at the dotted `path` below `root`, with empty modules on the way where there are none."""
    *above, leaf = path.split(".")
    for name in above:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    setattr(root, leaf, part)


class Parts(nn.Module):
    """A module whose parts stand where a table says, so that parameters have the names they have on disk.

    `places` tells the dotted path of each part, and `self["query"]` is the part itself: families that compute alike
    and only name things differently share one class.
    """

    def __init__(self, places: Mapping[str, str], parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._places = {name: places[name] for name in parts}
        for name, part in parts.items():
            graft(self, places[name], part)

    def __getitem__(self, part: str) -> nn.Module:
        return self.get_submodule(self._places[part])

    def __contains__(self, part: str) -> bool:
        return part in self._places


def mix_heads(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """Attention whose weights lose a share `dropout` of their entries, the others growing to make up for it.

    q, k, v: [B, H, T, d]; mask: additive, in q's dtype. Returns [B, H, T, d]. Dropout needs the weights themselves,
    so it takes the plain path; without it this is `danlu.ops.attention.attention`.
    """
    if not dropout:
        return attention(q, k, v, mask, causal=causal)
    if mask is None and causal:
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        mask = additive(seen, q.dtype)
    return F.dropout(attention_weights(q, k, mask), dropout) @ v


def start_normal(model: nn.Module, generator: torch.Generator, residual: tuple[str, ...] = (), depth: int = 1) -> None:
    """N(0, 0.02) for matrices, 0 for biases, 1 for norms (Devlin et al. 2019; Radford et al. 2019, §2.3).

    Matrices whose names end in one of `residual` write into a residual stream that nobody norms again: theirs are
    smaller by √(2·depth).
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        else:
            scale = (2 * depth) ** -0.5 if residual and name.endswith(residual) else 1.0
            nn.init.normal_(parameter, std=0.02 * scale, generator=generator)
