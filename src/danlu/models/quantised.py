"""Linear layers whose weights are int8, in the on-disk names of the compressed-tensors format."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from danlu.core.errors import FolderError
from danlu.core.i18n import tr
from danlu.models.surgery import replace
from danlu.ops.quant import int8_linear, quantise_rows

__all__ = ["INT8_CONFIG", "Int8Linear", "is_quantisable", "prepare_quantised"]

# What compressed-tensors calls int8, weight-only, symmetric, one scale a row: transformers and vLLM read it.
INT8_CONFIG: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "naive-quantized",
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "format": "naive-quantized",  # here too: readers otherwise assume four weights packed into an int32
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
            "input_activations": None,
            "output_activations": None,
        }
    },
    "ignore": ["lm_head"],
}


class Int8Linear(nn.Module):
    """A linear layer without bias: `weight` int8 [out, in], `weight_scale` [out, 1]."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, weight: Tensor, weight_scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale)

    @classmethod
    def replacing(cls, name: str, linear: nn.Module) -> "Int8Linear":
        """What `surgery.replace` puts in a linear layer's place; a layer without memory gives one without."""
        assert isinstance(linear, nn.Linear), name
        if linear.weight.is_meta:
            out, inner = linear.weight.shape
            return cls(torch.empty(out, inner, dtype=torch.int8, device="meta"), torch.empty(out, 1, device="meta"))
        return cls(*quantise_rows(linear.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        return int8_linear(x, self.weight, self.weight_scale)


def is_quantisable(name: str, module: nn.Module) -> bool:
    """Linear layers inside the blocks; the output matrix is shared with the embedding and stays."""
    return isinstance(module, nn.Linear) and module.bias is None and name != "lm_head"


def prepare_quantised(model: nn.Module, config: Mapping[str, Any]) -> None:
    """Give a model that is about to be loaded the layers that its `quantization_config` describes."""
    if dict(config) != INT8_CONFIG:
        raise FolderError(
            tr(
                f"this quantization_config is not implemented: {dict(config)}",
                f"尚未实现这种 quantization_config:{dict(config)}",
            ),
            tr("implemented: int8, weight-only, as written by danlu int8", "已实现:danlu int8 写出的 int8 权重量化"),
        )
    replace(model, is_quantisable, Int8Linear.replacing)
