"""Flags, environment and YAML into a `Config`, in that order of precedence."""

import inspect
from pathlib import Path
from typing import Annotated, Any, TypeVar

import cyclopts
from cyclopts import App, Parameter
from cyclopts.config import Dict, Env
from pydantic import ValidationError
from rich.console import Console

from danlu.core.config import Config, describe, load_yaml
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr

__all__ = ["parse"]

C = TypeVar("C", bound=Config)


def parse(kind: type[C], words: list[str], verb: str, summary: str, example: str) -> C | None:
    """The config that `words` describe, or None when help was asked for and printed.

    `--config FILE.yaml` gives values below flags and environment (DANLU_VERB_FIELD), above defaults.
    Raises ConfigError naming the setting at fault.
    """
    words, file = _take_config(words)
    sources: list[Any] = [Env("DANLU_" + verb.replace(" ", "_").replace("-", "_").upper() + "_", command=False)]
    if file is not None:
        values = load_yaml(file)
        kind.parse_known(values, str(file))
        sources.append(Dict(values, source=str(file)))

    def run(config: Any) -> Any:
        return config

    annotation = Annotated[kind, Parameter(name="*")]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("config", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)]
    )
    run.__annotations__ = {"config": annotation}
    app = App(
        name=f"danlu {verb}",
        help=summary + (tr(f"\n\nExample: {example}", f"\n\n例:{example}") if example else ""),
        help_format="plaintext",
        help_epilogue=tr("Settings can come from a file too: --config FILE.yaml", "设置也可写在文件里:--config 文件.yaml"),
        config=sources,
        version_flags=[],
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
        console=Console(),
    )
    app.default(run)
    try:
        return app(words)
    except cyclopts.CycloptsError as error:
        raise ConfigError(_say(error), tr(f"danlu {verb} --help lists the settings", f"全部设置:danlu {verb} --help")) from None
    except ValidationError as error:
        raise ConfigError(describe(error)) from None


def _say(error: cyclopts.CycloptsError) -> str:
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
