"""A model that is served: its engine, its name, and what a page wants to know of it."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danlu.core.errors import ConfigError
from danlu.core.folder import ModelFolder
from danlu.core.gguf import is_gguf
from danlu.core.i18n import tr
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import SamplingParams

__all__ = ["Served", "name_of", "names_of"]

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
_HAN = re.compile("[\u4e00-\u9fff]")
_MOSTLY = 0.5


@dataclass(frozen=True)
class Served:
    """`defaults` are the sampling settings of requests that say nothing: the folder's, else temperature 1.

    `tuned`: it was taught to answer a chat. `poet`: verse is what it knows (it was measured by it, or its tokens
    are single Chinese characters); only the page's first tab depends on that.
    """

    name: str
    engine: Engine
    fingerprint: str
    created: int = 0  # Unix time
    defaults: SamplingParams = field(default_factory=lambda: SamplingParams(temperature=1.0))
    tuned: bool = True
    poet: bool = False

    @classmethod
    def open(cls, folder: Path | str, name: str | None = None, config: EngineConfig | None = None) -> "Served":
        """Load a model folder, or a GGUF file. Raises FolderError, ConfigError."""
        engine = Engine.open(folder, config)
        if is_gguf(folder):
            return cls.of(engine, name or name_of(Path(folder)))
        opened = ModelFolder.open(folder)
        lineage = opened.lineage
        measured = lineage.measured.get("evaluation", {}) if lineage else {}
        told = {key: opened.generation[key] for key in _SAMPLING if opened.generation.get(key) is not None}
        defaults = {"temperature": 1.0, **told}
        return cls(
            name=name or name_of(Path(folder)),
            engine=engine,
            fingerprint="fp_" + opened.hash[:12],
            created=int((opened.path / "config.json").stat().st_mtime),
            defaults=SamplingParams.parse(defaults, str(opened.path / "generation_config.json")),
            tuned=engine.tokenizer.has_chat and not (lineage and lineage.verb == "pretrain"),
            poet="rhyme" in measured or _writes_characters(engine),
        )

    @classmethod
    def of(cls, engine: Engine, name: str, **more: Any) -> "Served":
        """A model that lies in memory."""
        kind = repr(engine.model.hf_config()).encode()
        told = {"tuned": engine.tokenizer.has_chat, "poet": _writes_characters(engine), **more}
        return cls(name, engine, "fp_" + hashlib.sha256(kind).hexdigest()[:12], **told)

    @property
    def card(self) -> dict[str, Any]:
        """An entry of /v1/models; what OpenAI does not tell is under `danlu`."""
        own = {
            "context": self.engine.model.context,
            "parameters": self.engine.model.parameter_count,
            "chat": self.engine.tokenizer.has_chat,
            "tuned": self.tuned,
            "poet": self.poet,
        }
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "danlu", "danlu": own}


def _writes_characters(engine: Engine) -> bool:
    """Nearly every token is one Chinese character; special tokens and bytes, written <...>, do not count."""
    tokens = [token for token in engine.tokenizer.backend.get_vocab() if not (token[0] == "<" and token[-1] == ">")]
    return sum(bool(_HAN.fullmatch(token)) for token in tokens) > _MOSTLY * max(1, len(tokens))


def name_of(folder: Path) -> str:
    """runs/poet/sft/model -> sft: 'model' alone tells nothing. poet.gguf -> poet."""
    path = folder.resolve()
    if path.suffix == ".gguf":
        return path.stem
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name for each; where two would be the same, with the folder above. Raises ConfigError for the same folder."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError(tr("the same folder is given twice", "同一个文件夹给了两次"))
    names = [name_of(folder) for folder in folders]
    shown = [folder.resolve().parent if folder.resolve().name == "model" else folder.resolve() for folder in folders]
    for _ in range(max(len(path.parts) for path in shown)):
        twice = {name for name in names if names.count(name) > 1}
        if not twice:
            break
        names = [
            "/".join(path.parts[-name.count("/") - 2 :]) if name in twice else name
            for name, path in zip(names, shown, strict=True)
        ]
    return names
