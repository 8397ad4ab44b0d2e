"""Every setting of danlu is a field of a `Config`: one declaration gives flags, YAML, help and checks."""

import difflib
import types
import typing
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr

__all__ = ["Config", "Input", "Output", "describe", "doc", "find_settings", "load_yaml", "nested_config", "paths_of"]

# A path that a stage reads or writes: the pipeline hashes the one and skips on the other.
Input = typing.Annotated[Path, "input"]
Output = typing.Annotated[Path, "output"]


def doc(default: Any, en: str, zh: str, **options: Any) -> Any:
    """A field with its help in both languages; `...` as default makes it required."""
    return Field(default, description=tr(en, zh), **options)


class Config(BaseModel):
    """Frozen settings. An unknown key is an error that names the nearest known one.

    A field that Python or pydantic will not let have its name ends in `_`; people write it without: `json_` is `json`.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
        alias_generator=lambda name: name.rstrip("_"),
        populate_by_name=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _keep_nested_defaults(cls, values: Any) -> Any:
        """Giving one setting of a nested default leaves the others as that default has them."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for name, field in cls.model_fields.items():
            key = field.alias if field.alias in values else name
            if isinstance(field.default, Config) and isinstance(values.get(key), dict):
                values[key] = field.default.model_dump(exclude_unset=True, by_alias=True) | values[key]
        return values

    @classmethod
    def parse(cls, values: dict[str, Any], where: str = "config") -> Self:
        """Build from plain values; raise ConfigError naming `where` and the field at fault."""
        if not isinstance(values, dict):
            raise ConfigError(tr(f"{where}: expected a mapping of settings", f"{where}:应为“键: 值”的设置"))
        _refuse_unknown(cls, values, where)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {describe(error)}") from None

    @classmethod
    def parse_known(cls, values: dict[str, Any], where: str) -> None:
        """Check names only: raise ConfigError at the first unknown key."""
        _refuse_unknown(cls, values, where)

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        return cls.parse(load_yaml(path), str(path))

    def plain(self) -> dict[str, Any]:
        """JSON-ready values, in declaration order."""
        return self.model_dump(mode="json")


def describe(error: ValidationError) -> str:
    """One line a fault: 'train.lr: input should be greater than 0 (got -1)'."""
    lines = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"]) or "?"
        got = "" if fault["type"] == "missing" else tr(" (got ", "(得到 ") + f"{fault['input']!r})"
        lines.append(f"{place}: {fault['msg']}{got}")
    return "; ".join(lines)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; faults name the file and the line."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            tr(f"no such file: {path}", f"没有这个文件:{path}"),
            tr(
                "check the path; recipes that come with danlu: danlu run --list",
                "请检查路径;自带的配方:danlu run --list",
            ),
        ) from None
    except OSError as error:
        raise ConfigError(
            tr(f"cannot read {path}: {error.strerror}", f"无法读取 {path}:{error.strerror}"),
            tr("give a YAML file", "请给出 YAML 文件"),
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(tr(f"{path} is not valid YAML: {error}", f"{path} 不是合法的 YAML:{error}")) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(tr(f"{path}: expected a mapping of settings", f"{path}:应为“键: 值”的设置"))
    return values


def find_settings(verb: str, file: Path) -> Path:
    """`file`, or the settings of that name that come with danlu for a verb: recipes/data-prepare/workshop.yaml."""
    shipped = Path(__file__).parents[1] / "recipes" / verb.replace(" ", "-") / f"{file}.yaml"
    return shipped if len(file.parts) == 1 and not file.exists() and shipped.is_file() else file


def _refuse_unknown(cls: type[BaseModel], values: dict[str, Any], where: str) -> None:
    fields = {field.alias or name: field for name, field in cls.model_fields.items()}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.5)
            known = ", ".join(fields)
            raise ConfigError(
                tr(f"{where}: unknown setting '{key}'", f"{where}:没有名为“{key}”的设置"),
                tr(f"did you mean '{near[0]}'?", f"是不是想写“{near[0]}”?")
                if near
                else tr(f"known: {known}", f"可用的有:{known}"),
            )
        nested = nested_config(fields[key].annotation)
        parts = (
            {f"{key}[{number}]": part for number, part in enumerate(value)} if isinstance(value, list) else {key: value}
        )
        for place, part in parts.items():
            if nested and isinstance(part, dict):
                _refuse_unknown(nested, part, f"{where}: {place}")


def nested_config(annotation: Any) -> type[BaseModel] | None:
    """The Config class inside `annotation`, also when it is optional or there are many of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple):
        found = [nested_config(part) for part in typing.get_args(annotation)]
        return next((part for part in found if part), None)
    return None


def paths_of(config: Config, role: str) -> dict[str, Path]:
    """The fields marked `Input` (role 'input') or `Output` (role 'output') that are set.

    A marked field may be optional (`Input | None`); lists of inputs are numbered.
    """
    found: dict[str, Path] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if value is None or not _marked(field.annotation, field.metadata, role):
            continue
        values = value if isinstance(value, list) else [value]
        for number, path in enumerate(values):
            found[name if len(values) == 1 else f"{name}[{number}]"] = Path(path)
    return found


def _marked(annotation: Any, metadata: typing.Sequence[Any], role: str) -> bool:
    if role in metadata:
        return True
    return any(_marked(part, getattr(part, "__metadata__", ()), role) for part in typing.get_args(annotation))
