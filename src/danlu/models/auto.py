"""From a model folder to a model, and back."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danlu.core.errors import FolderError
from danlu.core.folder import Lineage, ModelFolder, Stored
from danlu.core.gguf import is_gguf
from danlu.core.i18n import tr
from danlu.models.base import LanguageModel
from danlu.models.encoders import ENCODERS
from danlu.models.families import DECODERS
from danlu.models.loading import check_counts, check_dtypes, check_types, common_dtype, fill_tied, weightless
from danlu.models.quantised import prepare_quantised

__all__ = ["FAMILIES", "build", "count_parameters", "load", "save", "state_to_save"]

# model_type of config.json -> the module whose `from_hf(config, where)` builds it
FAMILIES = {
    **dict.fromkeys(DECODERS, "danlu.models.decoder"),
    "gpt2": "danlu.models.gpt2",
    **dict.fromkeys(ENCODERS, "danlu.models.encoder"),
    "t5": "danlu.models.t5",
}
_SHOWN = 5  # names listed before "and n more"


def build(config: Mapping[str, Any], where: str = "config.json") -> LanguageModel:
    """An uninitialised model for a Hugging Face config.

    Raises FolderError for a family, or a setting of one, that danlu does not implement.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise FolderError(
            tr(f"{where}: model_type '{kind}' is not implemented", f"{where}:尚未实现 model_type“{kind}”"),
            tr(f"implemented: {', '.join(FAMILIES)}", f"已实现:{'、'.join(FAMILIES)}"),
        )
    return import_module(FAMILIES[kind]).from_hf(config, where)


def load(path: Path | str, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> LanguageModel:
    """Open a folder, or a GGUF file, and load it; `dtype` casts the floating-point weights (default: as stored).

    Raises FolderError naming every tensor that is missing, surplus or of another shape.
    """
    if is_gguf(path):
        return import_module("danlu.models.gguf").load_gguf(path, dtype=dtype, device=device)
    folder = ModelFolder.open(path)
    stored, where = folder.layout(), str(folder.path / "config.json")
    check_counts(folder.config, len(stored), where)
    with weightless():
        model = build(folder.config, where)
        if "quantization_config" in folder.config:
            prepare_quantised(model, folder.config["quantization_config"])
    check_types(folder.config, model.hf_config(), where)
    names = _adopted(model, stored, folder.path)
    stored = {names[name]: told for name, told in stored.items() if name in names}
    _fit_state(model, stored, folder.path)
    check_dtypes(model, stored, str(folder.path))
    tensors = folder.tensors(dtype or common_dtype(model, stored), device)
    state = {names[name]: tensor for name, tensor in tensors if name in names}
    fill_tied(model, state, str(folder.path))
    model.load_state_dict(state, assign=True)
    model.tie()
    return model.eval()


def _adopted(model: LanguageModel, stored: Mapping[str, Stored], path: Path) -> dict[str, str]:
    """`model.adopt`, in which no two tensors of the file may be the same one of the model's."""
    names = model.adopt(stored.keys())
    twice = [told for told, own in names.items() if told != own and own in names]
    if twice:
        raise FolderError(
            tr(
                f"{path}: {twice[0]} and {names[twice[0]]} are one tensor",
                f"{path}:{twice[0]} 与 {names[twice[0]]} 是同一个张量",
            ),
            tr("copy the folder again from its source", "请从来源重新拷贝该文件夹"),
        )
    return names


def _fit_state(model: LanguageModel, stored: Mapping[str, Stored], path: Path) -> None:
    """Check what is stored against the model's names and shapes; tying says what may be left out."""
    expected, state = model.state_dict(), dict(stored)
    for name, source in model.tied().items():
        for one, other in ((name, source), (source, name)):  # either may have been left out
            if other in state:
                state.setdefault(one, state[other])
    faults = [
        (tr("missing", "缺少"), sorted(expected.keys() - state.keys())),
        (tr("surplus", "多余"), sorted(state.keys() - expected.keys())),
        (
            tr("wrong shape", "形状不符"),
            [
                f"{name} {list(state[name].shape)} != {list(expected[name].shape)}"
                for name in sorted(expected.keys() & state.keys())
                if state[name].shape != expected[name].shape
            ],
        ),
    ]
    told = [
        f"{kind}: {', '.join(names[:_SHOWN])}{f' (+{len(names) - _SHOWN})' if len(names) > _SHOWN else ''}"
        for kind, names in faults
        if names
    ]
    if told:
        raise FolderError(
            tr(f"{path}: the weights do not fit config.json; ", f"{path}:权重与 config.json 不符;") + "; ".join(told),
            tr("copy the folder again from its source", "请从来源重新拷贝该文件夹"),
        )


def state_to_save(model: LanguageModel) -> dict[str, Tensor]:
    """The tensors that belong on disk: tied ones once."""
    return {name: tensor for name, tensor in model.state_dict().items() if name not in model.tied()}


def save(
    model: LanguageModel,
    path: Path | str,
    *,
    lineage: Lineage,
    save_tokenizer: Callable[[Path], object] | None = None,
    generation: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> ModelFolder:
    """Write a model folder that `transformers` opens. `config` adds to, or replaces in, config.json."""
    return ModelFolder.save(
        path,
        config={**model.hf_config(), **(config or {})},
        tensors=state_to_save(model),
        lineage=lineage,
        save_tokenizer=save_tokenizer,
        generation={**model.hf_generation(), **(generation or {})},
    )


def count_parameters(model: nn.Module) -> int:
    """Parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
