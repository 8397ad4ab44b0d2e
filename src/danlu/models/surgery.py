"""Module surgery: LoRA, quantisation and pruning replace modules instead of threading options through builders."""

from collections.abc import Callable

from torch import nn

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr

__all__ = ["replace"]


def replace(
    model: nn.Module, match: Callable[[str, nn.Module], bool], make: Callable[[str, nn.Module], nn.Module]
) -> list[str]:
    """Put `make(name, module)` where `match(name, module)` holds; return the names.

    Raises ConfigError when nothing matches: a method that changes no layer would train nothing and say so nowhere.
    """
    found = [(name, module) for name, module in model.named_modules() if name and match(name, module)]
    if not found:
        kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
        raise ConfigError(
            tr("no module of the model matches", "模型中没有匹配的模块"),
            tr(f"its modules are: {kinds}", f"它的模块有:{kinds}"),
        )
    for name, module in found:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, make(name, module))
    return [name for name, _ in found]
