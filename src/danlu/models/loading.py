"""What loading a model needs before its weights are read: a shell of it, and the certainty that they fit.

Nothing here reads a weight: names, shapes and dtypes come from the files' headers, so a folder that does not fit is
refused before any memory is taken for it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from danlu.core.errors import FolderError
from danlu.core.folder import Stored
from danlu.core.i18n import tr
from danlu.models.base import LanguageModel

__all__ = ["check_counts", "check_dtypes", "check_types", "common_dtype", "fill_tied", "weightless"]

# Settings that say how many modules there are, of any family; each of them holds at least one tensor.
_COUNTS = frozenset(
    {"n_layer", "n_layers", "num_layers", "num_hidden_layers", "num_decoder_layers", "num_experts", "num_local_experts"}
)
_SHOWN = 5  # names listed before "and n more"


class _Uninitialised(TorchFunctionMode):
    """Initialising is skipped: on meta it changes nothing, and torch would import its compiler to do so (1.3 s)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def weightless() -> Iterator[None]:
    """Modules made inside have shapes but neither memory nor values, for weights that are about to be loaded."""
    with torch.device("meta"), _Uninitialised():
        yield


def check_counts(config: Mapping[str, Any], tensors: int, where: str) -> None:
    """Raise FolderError naming a setting that asks for more modules than there are tensors to fill them.

    Without this, building the shell of an absurd number of layers would take the memory of their modules.
    """
    for key in sorted(_COUNTS & config.keys()):
        if isinstance(config[key], int) and config[key] > tensors:
            raise FolderError(
                tr(
                    f"{where}: {key} is {config[key]}, but the weights are only {tensors} tensors",
                    f"{where}:{key} 为 {config[key]},而权重只有 {tensors} 个张量",
                ),
                tr("copy the folder again from its source", "请从来源重新拷贝该文件夹"),
            )


def check_types(config: Mapping[str, Any], written: Mapping[str, Any], where: str) -> None:
    """Raise FolderError naming a setting of another JSON type than danlu would write, such as true for a number.

    Reading is lenient elsewhere: on a command line, 'true' and '1' may well be the same. written: `hf_config`.
    """
    for key in config.keys() & written.keys():
        given, expected = config[key], written[key]
        if isinstance(given, dict) and isinstance(expected, dict) and key.startswith("rope"):
            check_types(given, expected, f"{where}: {key}")
        elif None not in (given, expected) and _json_type(given) != _json_type(expected):
            kinds = _json_type(given), _json_type(expected)
            raise FolderError(
                tr(
                    f"{where}: {key} is a {kinds[0]} where a {kinds[1]} belongs: {given!r}",
                    f"{where}:{key} 的类型为 {kinds[0]},应为 {kinds[1]}:{given!r}",
                ),
                tr("copy the folder again from its source", "请从来源重新拷贝该文件夹"),
            )


def _json_type(value: object) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object"}
    return kinds.get(type(value), "list")


def check_dtypes(model: nn.Module, stored: Mapping[str, Stored], where: str) -> None:
    """Raise FolderError naming tensors that hold another sort of number than the model computes with."""
    wrong = [
        f"{name} {str(stored[name].dtype).removeprefix('torch.')}"
        for name, expected in sorted(model.state_dict().items())
        if name in stored and not _suits(stored[name].dtype, expected.dtype)
    ]
    if wrong:
        more = f" (+{len(wrong) - _SHOWN})" if len(wrong) > _SHOWN else ""
        raise FolderError(
            tr(f"{where}: wrong dtype: ", f"{where}:数值类型不符:") + ", ".join(wrong[:_SHOWN]) + more,
            tr("copy the folder again from its source", "请从来源重新拷贝该文件夹"),
        )


def _suits(dtype: torch.dtype, expected: torch.dtype) -> bool:
    if not expected.is_floating_point:
        return dtype == expected
    return dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def common_dtype(model: nn.Module, stored: Mapping[str, Stored]) -> torch.dtype | None:
    """The narrowest dtype that holds all parameters exactly; None when they agree and need no cast."""
    found = {stored[name].dtype for name, _ in model.named_parameters() if name in stored}
    if len(found) < 2:
        return None
    first, *others = found
    for other in others:
        first = torch.promote_types(first, other)
    return first


def fill_tied(model: LanguageModel, state: dict[str, Tensor], where: str) -> None:
    """Complete `state` by the names that tying leaves out.

    Raises FolderError where config.json ties two tensors that are both stored and differ: one would be lost.
    """
    for name, source in model.tied().items():
        for one, other in ((name, source), (source, name)):  # either may have been left out
            if other in state:
                state.setdefault(one, state[other])
        own, shared = state[name], state[source]
        if own is not shared and not torch.equal(own, shared):
            raise FolderError(
                tr(
                    f"{where}: config.json ties {name} to {source}, but the two differ",
                    f"{where}:config.json 称 {name} 与 {source} 共用,但两者不同",
                ),
                tr("set tie_word_embeddings to false", "请将 tie_word_embeddings 设为 false"),
            )
