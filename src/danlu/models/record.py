"""Watching a model at work: how much each token looked at each other one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.models.base import LanguageModel
from danlu.ops.attention import additive, attention_weights

__all__ = ["Seen", "attention_maps"]


class Seen(NamedTuple):
    """One attention of one layer: the module that computed it, and its weights [B, H, T, S], float32."""

    place: str
    weights: Tensor


# lesson: attention-maps
class _Watch(TorchFunctionMode):
    """Every call of torch's fused attention within the block is also computed by `attention_weights`, and kept.

    The blocks run as they always do, on their normal path; the fused kernel itself never stores the weights.
    """

    def __init__(self, running: list[str]) -> None:
        super().__init__()
        self.running, self.found = running, list[Seen]()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._keep(*args, **kwargs)
        return func(*args, **kwargs)

    def _keep(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **how: Any) -> None:
        if how.get("is_causal"):
            seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
            attn_mask = additive(seen, q.dtype)
        self.found.append(Seen(self.running[-1], attention_weights(q, k, attn_mask).float()))


# end lesson


@torch.no_grad()
def attention_maps(model: LanguageModel, batch: Mapping[str, Tensor]) -> list[Seen]:
    """Every attention of one forward pass without gradients, in the order in which they were computed.

    Of a decoder or an encoder, that is one a layer; of an encoder-decoder those of the encoder, then of each layer of
    the decoder its own and the one to the source. Raises ConfigError for a model whose attention is not `danlu.ops`'.
    """
    running = [""]

    def enter(name: str) -> Any:
        return lambda _module, _inputs: running.append(name)

    def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        running.pop()

    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(enter(name)))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with _Watch(running) as watch:
            model.hidden(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not watch.found:
        kind = model.hf_config().get("model_type")
        raise ConfigError(
            tr(f"the attention of {kind} cannot be shown", f"无法显示 {kind} 的注意力"),
            tr("it does not go through danlu.ops.attention", "它不经过 danlu.ops.attention"),
        )
    return watch.found
