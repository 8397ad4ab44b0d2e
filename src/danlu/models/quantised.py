"""Linear layers whose weights are int8, in the on-disk names of the compressed-tensors format."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from danlu.core.errors import FolderError
from danlu.core.i18n import tr
from danlu.models.surgery import replace
from danlu.ops.quant import int8_linear, quantise_rows

__all__ = ["INT8_CONFIG", "Int8Linear", "int8_config", "is_quantisable", "prepare_quantised"]

_IN_A_BLOCK = re.compile(r"\.\d+\.")  # blocks are numbered, what is around them is not

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
    """A linear layer: `weight` int8 [out, in], `weight_scale` [out, 1]; its `bias` [out], if it has one, as it was."""

    weight: Tensor
    weight_scale: Tensor
    bias: nn.Parameter | None

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale)
        self.register_parameter("bias", bias)

    @classmethod
    def replacing(cls, name: str, linear: nn.Module) -> "Int8Linear":
        """What `surgery.replace` puts in a linear layer's place; a layer without memory gives one without."""
        assert isinstance(linear, nn.Linear), name
        if linear.weight.is_meta:
            out, inner = linear.weight.shape
            weight = torch.empty(out, inner, dtype=torch.int8, device="meta")
            return cls(weight, torch.empty(out, 1, device="meta"), linear.bias)
        return cls(*quantise_rows(linear.weight.detach()), linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        product = int8_linear(x, self.weight, self.weight_scale)
        return product if self.bias is None else product + self.bias


def is_quantisable(name: str, module: nn.Module) -> bool:
    """Linear layers inside the blocks; the output matrix is shared with the embedding, and heads are small: they stay."""
    return isinstance(module, nn.Linear) and _IN_A_BLOCK.search(name) is not None


def int8_config(model: nn.Module) -> dict[str, Any]:
    """The `quantization_config` of a model whose quantisable layers are int8: the other linear layers are named."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {
        **INT8_CONFIG,
        "ignore": sorted(name for name, module in linear.items() if not is_quantisable(name, module)),
    }


def prepare_quantised(model: nn.Module, config: Mapping[str, Any]) -> None:
    """Give a model that is about to be loaded the layers that its `quantization_config` describes."""
    if config != int8_config(model):
        raise FolderError(
            tr(
                f"this quantization_config is not implemented: {config}",
                f"尚未实现这种 quantization_config:{config}",
            ),
            tr("implemented: int8, weight-only, as written by danlu int8", "已实现:danlu int8 写出的 int8 权重量化"),
        )
    replace(model, is_quantisable, Int8Linear.replacing)
