"""Several low-rank adapters on one model, each token by its own: LoRA folders as `peft` writes them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from danlu.core.errors import ConfigError, FolderError
from danlu.core.i18n import tr
from danlu.models.base import LanguageModel
from danlu.models.surgery import replace

__all__ = ["Adapter", "AdapterBank", "read_adapter"]

_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
# Settings of peft that change the computation, with the one value that is implemented.
_ONLY = {
    "peft_type": "LORA", "use_dora": False, "bias": "none", "fan_in_fan_out": False, "rank_pattern": {},
    "alpha_pattern": {}, "modules_to_save": None, "lora_bias": False,
}  # fmt: skip


class Adapter(NamedTuple):
    """What is added to some linear layers: y += (x Aᵀ) Bᵀ · scale (Hu et al. 2022, eq. 3). A: [r, in], B: [out, r]."""

    layers: Mapping[str, tuple[Tensor, Tensor]]
    scale: float


def read_adapter(path: Path | str) -> Adapter:
    """Open a folder with adapter_config.json and adapter_model.safetensors.

    Raises FolderError for a file that is missing or damaged, and for settings that are not implemented.
    """
    folder = Path(path)
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:  # type: ignore[no-untyped-call]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise FolderError(
            tr(f"{folder} is no LoRA folder: {error}", f"{folder} 不是 LoRA 文件夹:{error}"),
            tr(
                "it needs adapter_config.json and adapter_model.safetensors",
                "需要 adapter_config.json 与 adapter_model.safetensors",
            ),
        ) from None
    if not isinstance(config, dict):
        raise FolderError(tr(f"{folder}/adapter_config.json is no mapping", f"{folder}/adapter_config.json 不是映射"))
    for key, only in _ONLY.items():
        if config.get(key) not in (only, None):
            raise FolderError(
                tr(f"{folder}: {key} {config[key]!r} is not implemented", f"{folder}:尚未实现 {key} {config[key]!r}")
            )
    return Adapter(_paired(tensors, folder), _scale(config, folder))


def _scale(config: Mapping[str, Any], folder: Path) -> float:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise FolderError(
            tr(
                f"{folder}: r {rank!r} and lora_alpha {alpha!r} make no scale",
                f"{folder}:r {rank!r} 与 lora_alpha {alpha!r} 无效",
            )
        )
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _paired(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None or tensor.ndim != 2:
            raise FolderError(tr(f"{folder}: {name} is no LoRA matrix", f"{folder}:{name} 不是 LoRA 矩阵"))
        found.setdefault(match[1], {})[match[2]] = tensor
    halves = [name for name, pair in found.items() if len(pair) < 2 or pair["A"].shape[0] != pair["B"].shape[1]]
    if halves or not found:
        raise FolderError(tr(f"{folder}: A and B do not fit: {halves[:5]}", f"{folder}:A 与 B 不配:{halves[:5]}"))
    return {name: (pair["A"], pair["B"]) for name, pair in found.items()}


class _Adapted(nn.Module):
    """A linear layer, and what the adapters of the tokens at hand add to it."""

    def __init__(self, name: str, base: nn.Module, bank: "AdapterBank") -> None:
        super().__init__()
        self.base, self._name, self._bank = base, name, [bank]  # in a list: the bank is no submodule

    @property
    def weight(self) -> Tensor:
        return self.base.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        for adapter, (start, end) in self._bank[0].selected:
            pair = adapter.layers.get(self._name)
            if pair is not None:
                a, b = pair
                y[:, start:end] += (x[:, start:end] @ a.T) @ b.T * adapter.scale
        return y


class AdapterBank:
    """Adapters on a model. `select` says, before each pass of one row, which of its tokens use which.

    The model's own weights are shared and stay as they are. Raises ConfigError when an adapter does not fit.
    """

    def __init__(self, model: LanguageModel, adapters: Mapping[str, Adapter]) -> None:
        self.adapters = dict(adapters)
        self.selected: list[tuple[Adapter, tuple[int, int]]] = []
        modules = dict(model.named_modules())
        parameter = next(model.parameters(), None)
        if parameter is None:
            raise ConfigError(
                tr("adapters need float weights, not packed ones", "适配器需要浮点权重,不能用打包的权重"),
                tr("leave out engine.weights", "请去掉 engine.weights"),
            )
        for name, adapter in adapters.items():
            for layer, (a, b) in adapter.layers.items():
                base = modules.get(layer)
                shape = getattr(base, "weight", torch.empty(0)).shape
                if not isinstance(base, nn.Linear) or shape != (b.shape[0], a.shape[1]):
                    raise ConfigError(
                        tr(f"adapter {name} does not fit: {layer} {[b.shape[0], a.shape[1]]} against {list(shape)}",
                           f"适配器 {name} 与模型不符:{layer} {[b.shape[0], a.shape[1]]},模型为 {list(shape)}"),
                    )  # fmt: skip
        own = {"device": parameter.device, "dtype": parameter.dtype}
        self.adapters = {
            name: adapter._replace(
                layers={layer: (a.to(**own), b.to(**own)) for layer, (a, b) in adapter.layers.items()}
            )
            for name, adapter in adapters.items()
        }
        touched = {layer for adapter in adapters.values() for layer in adapter.layers}
        replace(model, lambda name, _: name in touched, lambda name, module: _Adapted(name, module, self))

    @contextmanager
    def select(self, tokens: Sequence[tuple[str | None, int]]) -> Iterator[None]:
        """Within the block, so many tokens of this adapter (None: of the model as it is), then so many of the next, ..."""
        at = 0
        for name, count in tokens:
            if name is not None:
                self.selected.append((self.adapters[name], (at, at + count)))
            at += count
        try:
            yield
        finally:
            self.selected.clear()
