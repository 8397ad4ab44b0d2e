"""The model folder: the one artifact that passes between stages.

Hugging Face's layout (`config.json`, `model.safetensors` or shards with an index, `tokenizer.json`,
`tokenizer_config.json`, `generation_config.json`) plus `danlu.json`: the sha256 of every file and the lineage.
Only safetensors and JSON are read; nothing is unpickled.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from danlu.core.config import Config
from danlu.core.errors import FolderError
from danlu.core.files import atomic_folder, read_json, sha256_file, write_json
from danlu.core.i18n import tr

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Lineage", "ModelFolder", "Stored"]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_MANIFEST = "danlu.json"
_SHARD_BYTES = 5_000_000_000
_ALIGNED = 16  # what kernels for int8 ask of an address; a file promises 8 bytes only
_MAPPED = 8 << 20  # bytes of a file that stay mapped while they are cast
# What safetensors calls the dtypes that danlu reads -> torch's name
_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"},
}
# Files that need not be there, but are read where they are.
_OPTIONAL = (_INDEX, "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class Lineage(Config):
    """Where a model comes from: who made it, out of what, by which recipe, and what was measured."""

    verb: str
    recipe: dict[str, Any] = {}
    parent: str | None = None  # content hash of the folder it was made from
    run: str | None = None
    measured: dict[str, Any] = {}


class Stored(NamedTuple):
    """A tensor as its file's header describes it."""

    shape: tuple[int, ...]
    dtype: "torch.dtype"


class ModelFolder:
    """A folder on disk, checked when opened.

    Raises FolderError when something is missing, cut short or changed since danlu wrote it.
    A folder from elsewhere (no `danlu.json`) opens too; it just has no manifest to check.
    """

    def __init__(self, path: Path, config: dict[str, Any], manifest: dict[str, Any] | None) -> None:
        self.path, self.config, self._manifest = path, config, manifest

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> "ModelFolder":
        path = Path(path)
        if not path.is_dir():
            raise FolderError(
                tr(f"no model folder at {path}", f"{path} 处没有模型文件夹"),
                tr("give the folder that holds config.json", "请给出含有 config.json 的文件夹"),
            )
        if not (path / "config.json").exists():
            raise FolderError(
                tr(f"{path} is not a model folder: config.json is missing", f"{path} 不是模型文件夹:缺少 config.json"),
                tr(
                    "give the folder that holds config.json and model.safetensors",
                    "请给出含有 config.json 与 model.safetensors 的文件夹",
                ),
            )
        manifest = _read_mapping(path / _MANIFEST) if (path / _MANIFEST).exists() else None
        if manifest is not None and not _is_listing(manifest.get("files")):
            raise _damaged(path / _MANIFEST, tr("it lists no files", "其中没有文件清单"))
        folder = cls(path, _read_mapping(path / "config.json"), manifest)
        if verify:
            folder.verify()
        return folder

    @staticmethod
    def save(
        path: Path | str,
        *,
        config: Mapping[str, Any],
        tensors: Mapping[str, "Tensor"],
        lineage: Lineage,
        save_tokenizer: Callable[[Path], object] | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> "ModelFolder":
        """Write the whole folder, or nothing. `save_tokenizer` writes the tokenizer's files into a folder."""
        with atomic_folder(Path(path)) as temporary:
            _dump(temporary / "config.json", config)
            _dump(temporary / "generation_config.json", generation or {})
            _save_tensors(temporary, tensors)
            if save_tokenizer is not None:
                save_tokenizer(temporary)
            files = {file.name: sha256_file(file) for file in sorted(temporary.iterdir())}
            _dump(temporary / _MANIFEST, {"schema": 1, "files": files, "lineage": lineage.plain()})
        return ModelFolder.open(path, verify=False)

    @property
    def lineage(self) -> Lineage | None:
        if self._manifest is None:
            return None
        return Lineage.parse(self._manifest.get("lineage", {}), str(self.path / _MANIFEST))

    @property
    def generation(self) -> dict[str, Any]:
        """`generation_config.json`, empty when there is none."""
        file = self.path / "generation_config.json"
        return _read_mapping(file) if file.exists() else {}

    @property
    def hash(self) -> str:
        """Content hash: of names and bytes, but not of what was measured afterwards."""
        import hashlib

        files = self._manifest["files"] if self._manifest else {f.name: sha256_file(f) for f in self._files()}
        return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weight files."""
        return sum(file.stat().st_size for file in self.weight_files())

    def _files(self) -> list[Path]:
        return sorted(file for file in self.path.iterdir() if file.is_file() and file.name != _MANIFEST)

    def verify(self) -> None:
        """Compare every file with the manifest, and see that none was added that would be read."""
        if self._manifest is None:
            return
        for name in _OPTIONAL:
            if name not in self._manifest["files"] and (self.path / name).exists():
                raise FolderError(
                    tr(
                        f"{self.path / name} was added since: it is not in {_MANIFEST}",
                        f"{self.path / name} 是后来加入的:{_MANIFEST} 中没有它",
                    ),
                    tr(
                        f"remove it; if you added it on purpose, delete {_MANIFEST}",
                        f"请移除它;若是有意加入,请删除 {_MANIFEST}",
                    ),
                )
        for name, expected in self._manifest["files"].items():
            file = self.path / name
            if not file.exists():
                raise FolderError(
                    tr(f"{self.path}: {name} is missing", f"{self.path}:缺少 {name}"),
                    tr("copy the folder again, or run the stage that made it", "请重新拷贝该文件夹,或重跑生成它的阶段"),
                )
            if sha256_file(file) != expected:
                raise FolderError(
                    tr(
                        f"{file} was changed or cut short: its sha256 is not the one in {_MANIFEST}",
                        f"{file} 被改动或截断:sha256 与 {_MANIFEST} 不符",
                    ),
                    tr(
                        f"copy the folder again; if you changed it on purpose, delete {_MANIFEST}",
                        f"请重新拷贝;若是有意修改,请删除 {_MANIFEST}",
                    ),
                )

    def weight_files(self) -> list[Path]:
        """The safetensors files, in order."""
        if (self.path / _INDEX).exists():
            places = _read_mapping(self.path / _INDEX).get("weight_map")
            if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
                raise _damaged(self.path / _INDEX, tr("it has no weight_map", "其中没有 weight_map"))
            files = [self.path / name for name in sorted(set(places.values()))]
        else:
            files = [self.path / _WEIGHTS]
        for file in files:
            if file.parent != self.path or not file.exists():
                raise FolderError(
                    tr(f"{self.path}: the weights {file.name} are missing", f"{self.path}:缺少权重 {file.name}"),
                    tr(
                        "danlu reads safetensors only; copy them into the folder",
                        "danlu 只读取 safetensors,请将其放入文件夹",
                    ),
                )
        return files

    def layout(self) -> dict[str, Stored]:
        """Every tensor's shape and dtype, out of the headers alone.

        Raises FolderError for a damaged file, a dtype that torch has not, and a name that two files hold.
        """
        import torch

        found: dict[str, Stored] = {}
        for file in self.weight_files():
            with _opened(file) as opened:
                for name in opened.keys():  # noqa: SIM118  (not a dict)
                    part = opened.get_slice(name)
                    if name in found:
                        raise _damaged(file, tr(f"another file holds {name} too", f"另一个文件中也有 {name}"))
                    told = part.get_dtype()
                    if told not in _DTYPES:
                        raise _damaged(file, tr(f"{name} is of dtype {told}", f"{name} 的数值类型为 {told}"))
                    found[name] = Stored(tuple(part.get_shape()), getattr(torch, _DTYPES[told]))
        return found

    def tensors(
        self, dtype: "torch.dtype | None" = None, device: "torch.device | str" = "cpu"
    ) -> "Iterator[tuple[str, Tensor]]":
        """Name and tensor, one at a time; those of floating-point numbers in `dtype` (default: as stored).

        On the CPU and as stored, a tensor is the memory-mapped file itself (int8 where it lies well). Otherwise each is written into its final
        place by parts, and what has been read of the file is unmapped, so that little more than the result is held.
        """
        for file in self.weight_files():
            with _opened(file) as opened:
                caster = _Caster(file, dtype, device)
                for name in opened.keys():  # noqa: SIM118  (not a dict)
                    stored = opened.get_tensor(name)
                    yield name, stored if caster.keeps(stored) else caster.cast(name)

    def record(self, **measured: Any) -> None:
        """Add to what was measured of this model."""
        if self._manifest is None:
            return
        lineage = self._manifest["lineage"]
        lineage["measured"] = {**lineage.get("measured", {}), **measured}
        write_json(self.path / _MANIFEST, self._manifest)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file, memory-mapped; what is wrong with it is a FolderError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except SafetensorError as error:
        raise _damaged(file, str(error)) from None
    except OSError as error:  # a folder of that name, or a file that may not be read
        raise _damaged(file, error.strerror or str(error)) from None


class _Caster:
    """Reads tensors of one file into another dtype or onto another device."""

    def __init__(self, file: Path, dtype: "torch.dtype | None", device: "torch.device | str") -> None:
        import torch

        self._path, self._dtype, self._device = file, dtype, torch.device(device)
        self._file: Any = None
        self._read = 0

    def _target(self, stored: "Tensor") -> "torch.dtype":
        return self._dtype if self._dtype is not None and stored.is_floating_point() else stored.dtype

    def keeps(self, stored: "Tensor") -> bool:
        """Whether the tensor may stay the file's bytes as they are mapped."""
        if stored.element_size() == 1 and stored.data_ptr() % _ALIGNED:
            return False
        return self._device.type == "cpu" and self._target(stored) == stored.dtype

    def cast(self, name: str) -> "Tensor":
        """Some rows at a time; now and then the file is mapped anew, so that what was read does not stay resident."""
        import torch

        stored = self._mapped().get_tensor(name)
        shape, size = stored.shape, stored.nbytes
        found = torch.empty(shape, dtype=self._target(stored), device=self._device)
        if size <= _MAPPED or not shape:
            self._read += size
            return found.copy_(stored)
        del stored
        rows = max(1, _MAPPED * shape[0] // size)
        for first in range(0, shape[0], rows):
            part = self._mapped().get_slice(name)[first : first + rows]
            found[first : first + rows] = part
            self._read += part.nbytes
            del part
        return found

    def _mapped(self) -> Any:
        """The file, of which no more than `_MAPPED` bytes and one part have been read."""
        from safetensors import safe_open

        if self._file is None or self._read >= _MAPPED:
            self._file, self._read = safe_open(self._path, framework="pt"), 0
        return self._file


def _is_listing(files: object) -> bool:
    """Whether it is {name of a file in the folder: its sha256}."""
    return isinstance(files, dict) and all(
        isinstance(digest, str) and Path(name).name == name and "\0" not in name for name, digest in files.items()
    )


def _read_mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise _damaged(path, tr("it is no mapping", "不是“键: 值”结构"))
    return value


def _damaged(file: Path, how: str) -> FolderError:
    return FolderError(
        tr(f"{file} is damaged: {how}", f"{file} 已损坏:{how}"),
        tr("copy it again, or run the stage that made it", "请重新拷贝,或重跑生成它的阶段"),
    )


def _dump(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _save_tensors(folder: Path, tensors: Mapping[str, "Tensor"]) -> None:
    ready = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in ready.items():
        if shards[-1] and filled + tensor.nbytes > _SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += tensor.nbytes
    if len(shards) == 1:
        _save_shard(shards[0], folder / _WEIGHTS)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _save_shard(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in ready.values())
    _dump(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _save_shard(tensors: "dict[str, Tensor]", file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, file, metadata={"format": "pt"})
    except SafetensorError as error:  # it wraps what the system said, such as 'disk full'
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from None
        raise
