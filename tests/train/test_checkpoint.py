import json
import os

import pytest
import torch

from danlu.core import files
from danlu.core.errors import FolderError, StorageError
from danlu.train.checkpoint import Checkpoints, latest, load_checkpoint, save_checkpoint
from danlu.train.loop import TrainState


def state(step: int = 3) -> TrainState:
    torch.manual_seed(step)
    tensors = {"model.w": torch.randn(3, 4), "optimizer.w.step": torch.tensor(2.0), "rng.torch": torch.get_rng_state()}
    tensors["model.half"] = torch.randn(5).bfloat16()
    return TrainState(step, 70, 1.5, {"best_val_loss": 2.5}, {"epoch": 1}, tensors)


def test_round_trip_is_exact_and_holds_no_pickle(tmp_path):
    save_checkpoint(tmp_path / "step-00000003", state())
    again = load_checkpoint(tmp_path / "step-00000003")
    assert (again.step, again.tokens, again.seconds, again.values, again.data) == (
        3,
        70,
        1.5,
        {"best_val_loss": 2.5},
        {"epoch": 1},
    )
    for name, tensor in state().tensors.items():
        assert torch.equal(again.tensors[name], tensor)
    kinds = {file.suffix for file in (tmp_path / "step-00000003").iterdir()}
    assert kinds == {".json", ".safetensors"}


def test_damage_is_named(tmp_path):
    path = tmp_path / "step-00000003"
    save_checkpoint(path, state())
    file = next(path.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(FolderError, match=file.name):
        load_checkpoint(path)


def test_only_complete_ones_count(tmp_path):
    save_checkpoint(tmp_path / "step-00000003", state(3))
    (tmp_path / ".step-00000009.tmp-1").mkdir()
    assert latest(tmp_path).name == "step-00000003"
    assert latest(tmp_path / "none") is None


class Fake:
    """The part of a loop that the hook uses."""

    def __init__(self):
        self.state = TrainState()

    def snapshot(self):
        return state(self.state.step)


def test_keeps_the_last_ones_and_the_end(tmp_path):
    hook, loop = Checkpoints(tmp_path, every=2, keep=2), Fake()
    for loop.state.step in range(1, 8):
        hook.on_step(loop, {})
    hook.on_end(loop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000006", "step-00000007"]


def test_a_full_disk_is_told_in_the_training_thread_and_the_old_checkpoint_stands(tmp_path, monkeypatch):
    hook, loop = Checkpoints(tmp_path, every=1, keep=2), Fake()
    loop.state.step = 1
    hook.on_step(loop, {})
    hook.wait()

    def full(path):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(files, "_fsync", full)
    loop.state.step = 2
    hook.on_step(loop, {})
    with pytest.raises(StorageError):
        hook.wait()
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert load_checkpoint(latest(tmp_path)).step == 1


def test_a_really_full_disk_is_told_and_the_old_checkpoint_stands(small_disk):
    """DCP wraps what the system says in an exception of its own, which is no `Exception`."""
    disk = small_disk("64k")
    save_checkpoint(disk / "step-00000003", state())
    large = state(4)
    large.tensors["model.large"] = torch.zeros(100_000)
    with pytest.raises(StorageError, match="full"):
        save_checkpoint(disk / "step-00000004", large)
    assert [path.name for path in disk.iterdir()] == ["step-00000003"]
    assert load_checkpoint(latest(disk)).step == 3


def test_state_is_readable_json(tmp_path):
    save_checkpoint(tmp_path / "step-00000003", state())
    assert json.loads((tmp_path / "step-00000003" / "state.json").read_text())["step"] == 3
