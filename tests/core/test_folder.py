import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from danlu.core import files
from danlu.core.errors import FolderError, StorageError
from danlu.core.folder import Lineage, ModelFolder

CONFIG = {"model_type": "llama"}


def save(path: Path, value: float = 1.0, **options) -> ModelFolder:
    tensors = {"a": torch.full((3, 2), value), "b": torch.arange(4).to(torch.bfloat16), "c": torch.ones(2, 5).T}
    return ModelFolder.save(path, config=CONFIG, tensors=tensors, lineage=Lineage(verb="test"), **options)


def write_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")


def full_save(path: Path) -> ModelFolder:
    return save(path, save_tokenizer=write_tokenizer, generation={"eos_token_id": [0]})


FILES = [
    "config.json",
    "danlu.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]


def test_round_trip(tmp_path: Path):
    saved = full_save(tmp_path / "m")
    assert sorted(file.name for file in saved.path.iterdir()) == FILES
    opened = ModelFolder.open(str(tmp_path / "m"))
    tensors = dict(opened.tensors())
    torch.testing.assert_close(tensors["a"], torch.ones(3, 2))
    assert tensors["b"].dtype == torch.bfloat16
    torch.testing.assert_close(tensors["c"], torch.ones(5, 2))
    assert opened.config == CONFIG
    assert opened.generation == {"eos_token_id": [0]}
    assert opened.lineage == Lineage(verb="test")
    assert opened.weight_bytes == (tmp_path / "m" / "model.safetensors").stat().st_size


def test_hash_is_of_the_content(tmp_path: Path):
    one, same, other = save(tmp_path / "1"), save(tmp_path / "2"), save(tmp_path / "3", value=2.0)
    assert one.hash == same.hash != other.hash
    one.record(val_loss=3.5)
    one.record(form=0.9)
    again = ModelFolder.open(tmp_path / "1")
    assert again.hash == same.hash, "what is measured later does not make another model"
    assert again.lineage is not None
    assert again.lineage.measured == {"val_loss": 3.5, "form": 0.9}


def test_a_folder_from_elsewhere_opens_and_has_a_hash(tmp_path: Path):
    folder = save(tmp_path / "m")
    (tmp_path / "m" / "danlu.json").unlink()
    opened = ModelFolder.open(tmp_path / "m")
    assert opened.lineage is None
    assert opened.hash == folder.hash
    opened.record(val_loss=1.0)
    assert not (tmp_path / "m" / "danlu.json").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
def test_damage_to_any_file_names_it(name: str, damage: str, tmp_path: Path):
    file = full_save(tmp_path / "m").path / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0x15
    file.write_bytes({"cut": content[:-3], "empty": b""}.get(damage, content))
    if damage == "gone":
        file.unlink()
    if (name, damage) == ("danlu.json", "gone"):
        assert ModelFolder.open(tmp_path / "m").lineage is None
        return
    with pytest.raises(FolderError) as caught:
        ModelFolder.open(tmp_path / "m")
    if name != "danlu.json" or damage != "flip":  # a changed list blames the file whose entry it is
        assert name in caught.value.what
    assert caught.value.do


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "chat_template.jinja"])
def test_a_file_added_later_that_would_be_read_is_refused(name: str, tmp_path: Path):
    folder = full_save(tmp_path / "m").path
    (folder / "README.md").write_text("harmless")
    ModelFolder.open(folder)
    (folder / name).write_text("{}")
    with pytest.raises(FolderError, match=name):
        ModelFolder.open(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "danlu.json", "generation_config.json", "model.safetensors.index.json"]
)
@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"'])
def test_json_of_another_kind_is_told(name: str, content: str, tmp_path: Path):
    folder = save(tmp_path / "m").path
    (folder / "danlu.json").unlink()
    (folder / name).write_text(content)
    with pytest.raises(FolderError, match=name):
        opened = ModelFolder.open(folder)
        assert opened.generation == {}
        list(opened.tensors())


@pytest.mark.parametrize("content", [{}, {"files": []}, {"files": None}])
def test_a_manifest_without_files_is_told(content: dict, tmp_path: Path):
    folder = save(tmp_path / "m").path
    (folder / "danlu.json").write_text(json.dumps(content))
    with pytest.raises(FolderError, match=r"danlu\.json"):
        ModelFolder.open(folder)


def test_no_folder_and_no_weights(tmp_path: Path):
    with pytest.raises(FolderError, match="no model folder"):
        ModelFolder.open(tmp_path / "none")
    with pytest.raises(FolderError, match=r"config\.json is missing"):
        ModelFolder.open(tmp_path)
    folder = save(tmp_path / "m").path
    (folder / "danlu.json").unlink()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(FolderError, match="safetensors"):
        list(ModelFolder.open(folder).tensors())


def test_an_index_may_not_point_outside(tmp_path: Path):
    save(tmp_path / "other")
    folder = save(tmp_path / "m").path
    (folder / "danlu.json").unlink()
    index = {"weight_map": {"a": "../other/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FolderError):
        list(ModelFolder.open(folder).tensors())


def test_a_save_that_fails_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = save(tmp_path / "m").hash

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_fsync", full)
    with pytest.raises(StorageError, match="full"):
        save(tmp_path / "m", value=2.0)
    assert ModelFolder.open(tmp_path / "m").hash == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_really_full_disk_leaves_the_old_model(small_disk: Callable[[str], Path]):
    disk = small_disk("64k")
    before = save(disk / "m").hash
    tensors = {"a": torch.ones(100_000)}
    with pytest.raises(StorageError, match="full"):
        ModelFolder.save(disk / "m", config=CONFIG, tensors=tensors, lineage=Lineage(verb="test"))
    assert ModelFolder.open(disk / "m").hash == before
    assert [path.name for path in disk.iterdir()] == ["m"]


def test_what_safetensors_says_of_a_full_disk_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(StorageError, match="full"):
        save(tmp_path / "m")


def test_layout_is_read_from_the_header_alone(tmp_path: Path):
    folder = save(tmp_path / "m")
    assert folder.layout() == {"a": ((3, 2), torch.float32), "b": ((4,), torch.bfloat16), "c": ((5, 2), torch.float32)}


def test_tensors_are_cast_some_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the size of the parts, the values are those of a cast of the whole; integers stay as they are."""
    draw = torch.Generator().manual_seed(0)
    tensors = {
        "large": torch.randn(50, 7, generator=draw),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "whole": torch.arange(90),
    }
    folder = ModelFolder.save(tmp_path / "m", config=CONFIG, tensors=tensors, lineage=Lineage(verb="test"))
    for size in (1, 100, 1 << 20):
        monkeypatch.setattr("danlu.core.folder._MAPPED", size)
        cast = dict(folder.tensors(torch.bfloat16))
        assert torch.equal(cast["large"], tensors["large"].to(torch.bfloat16))
        assert torch.equal(cast["scalar"], tensors["scalar"].to(torch.bfloat16))
        assert (cast["empty"].shape, cast["empty"].dtype) == ((0, 3), torch.bfloat16)
        assert torch.equal(cast["whole"], tensors["whole"])


def test_int8_begins_where_kernels_can_read_it(tmp_path: Path):
    """An odd number of bytes in front of each: some lie well in the file, most do not."""
    tensors = {f"t{number}": torch.arange(101 + number).to(torch.int8) for number in range(40)}
    folder = ModelFolder.save(tmp_path / "m", config=CONFIG, tensors=tensors, lineage=Lineage(verb="test"))
    for name, tensor in folder.tensors():
        assert tensor.data_ptr() % 16 == 0
        assert torch.equal(tensor, tensors[name])


def test_a_name_in_two_files_is_refused(tmp_path: Path):
    save(tmp_path / "m")
    (tmp_path / "m" / "danlu.json").unlink()
    safetensors.torch.save_file({"a": torch.zeros(3, 2)}, tmp_path / "m" / "more.safetensors")
    index = {"weight_map": {"a": "more.safetensors", "b": "model.safetensors"}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FolderError, match=r"more\.safetensors.* a "):
        ModelFolder.open(tmp_path / "m").layout()


def test_a_dtype_that_danlu_does_not_read_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    safetensors.torch.save_file({"odd": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(FolderError, match="odd.*F8_E4M3"):
        ModelFolder.open(tmp_path).layout()


@pytest.mark.parametrize("files", [None, [], {"config.json": 3}, {"../config.json": "0"}, {"a\0b": "0"}, {"": "0"}])
def test_a_manifest_that_is_no_list_of_files(files: object, tmp_path: Path):
    folder = save(tmp_path / "m")
    (folder.path / "danlu.json").write_text(json.dumps({"files": files}))
    with pytest.raises(FolderError, match=r"danlu\.json"):
        ModelFolder.open(folder.path)
