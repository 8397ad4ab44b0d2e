"""Flags, environment and YAML into a `Config`, in that order of precedence."""

import difflib
import inspect
import os
from copy import copy
from pathlib import Path
from typing import Annotated, Any, TypeVar

import cyclopts
from cyclopts import App, Parameter
from cyclopts.config import Dict, Env
from pydantic import BaseModel, ValidationError, create_model
from rich.console import Console

from danlu.core.config import Config, describe, find_settings, load_yaml, nested_config
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr

__all__ = ["parse"]

C = TypeVar("C", bound=Config)
_DASH = "\ue000"  # stands for '-', standard input, which the parser would take for an option


def parse(kind: type[C], words: list[str], verb: str, summary: str, example: str) -> C | None:
    """The config that `words` describe, or None when help was asked for and printed.

    `--config FILE.yaml` (or the name of one that comes with danlu) gives values below flags and environment (DANLU_VERB_FIELD), above defaults.
    Raises ConfigError naming the setting at fault.
    """
    words, file = _take_config(words)
    prefix = "DANLU_" + verb.replace(" ", "_").replace("-", "_").upper() + "_"
    _refuse_unknown_variables(kind, prefix)
    sources: list[Any] = [Env(prefix, command=False)]
    if file is not None:
        file = find_settings(verb, file)
        values = load_yaml(file)
        kind.parse_known(values, str(file))
        sources.append(Dict(values, source=str(file)))

    needed = any(field.is_required() for field in kind.model_fields.values())

    def run(config: Any = None) -> Any:
        return kind() if config is None else config

    asked = _as_shown(kind) if {"--help", "-h"}.intersection(words) else kind
    annotation = Annotated[asked, Parameter(name="*")]
    default = inspect.Parameter.empty if needed else None
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("config", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation, default=default)]
    )
    run.__annotations__ = {"config": annotation}
    app = App(
        name=f"danlu {verb}",
        help=summary + (tr(f"\n\nExample: {example}", f"\n\n例:{example}") if example else ""),
        help_format="plaintext",
        help_epilogue=tr(
            "Settings can come from a file too: --config FILE.yaml", "设置也可写在文件里:--config 文件.yaml"
        ),
        config=sources,
        version_flags=[],
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
        console=Console(),
    )
    app.default(run)
    try:
        config = app([_DASH if word == "-" else word for word in words])
        if config is None or "-" not in words:
            return config
        return kind.model_validate_json(config.model_dump_json(exclude_unset=True, by_alias=True).replace(_DASH, "-"))
    except cyclopts.CycloptsError as error:
        raise ConfigError(
            _say(error), tr(f"danlu {verb} --help lists the settings", f"全部设置:danlu {verb} --help")
        ) from None
    except ValidationError as error:
        raise ConfigError(describe(error)) from None


def _as_shown(kind: type[C], default: Config | None = None) -> type[C]:
    """`kind` with the defaults that its fields have inside another config, for help to show."""
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        value = field.default if default is None else getattr(default, name)
        shown = copy(field)
        shown.default = value
        fields[name] = (_as_shown(type(value), value) if isinstance(value, Config) else field.annotation, shown)
    return create_model(kind.__name__, __base__=kind, **fields)


def _refuse_unknown_variables(kind: type[Config], prefix: str) -> None:
    known = _variables(kind, prefix)
    for name in os.environ:
        if name.startswith(prefix) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                tr(f"unknown environment variable {name}", f"没有名为 {name} 的环境变量设置"),
                tr(f"did you mean {near[0]}?", f"是不是想写 {near[0]}?") if near else tr("unset it", "请取消该变量"),
            )


def _variables(kind: type[BaseModel], prefix: str) -> list[str]:
    """Names of the environment variables that set a field."""
    found = []
    for name, field in kind.model_fields.items():
        variable = prefix + (field.alias or name).upper()
        found.append(variable)
        if nested := nested_config(field.annotation):
            found += _variables(nested, variable + "_")
    return found


def _say(error: cyclopts.CycloptsError) -> str:
    """The fault in the reader's language; rare ones in the library's words."""
    if isinstance(error, cyclopts.UnknownOptionError) and error.token.source == "cli":
        word = error.token.keyword or error.token.value
        names = [name for argument in error.argument_collection for name in argument.names]
        near = difflib.get_close_matches(word, names, n=1)
        told = tr(f"unknown setting {word}", f"没有名为 {word} 的设置")
        return told + (tr(f"; did you mean {near[0]}?", f";是不是想写 {near[0]}?") if near else "")
    if type(error) is cyclopts.MissingArgumentError and error.argument is not None:
        return tr(f"{error.argument.name} is missing", f"缺少 {error.argument.name}")
    if isinstance(error, cyclopts.ValidationError) and isinstance(error.__cause__, ValidationError):
        return describe(error.__cause__)
    return str(error).strip()


def _take_config(words: list[str]) -> tuple[list[str], Path | None]:
    """Pull `--config FILE` out of the words."""
    kept, file = [], None
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--config":
            if position + 1 == len(words):
                raise ConfigError(tr("--config needs a file", "--config 需要一个文件"))
            file = Path(words[position + 1])
            position += 2
            continue
        if word.startswith("--config="):
            file = Path(word.partition("=")[2])
        else:
            kept.append(word)
        position += 1
    return kept, file
