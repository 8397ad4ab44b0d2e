import pytest
import torch

from danlu.core.errors import Interrupted
from danlu.core.run import Run, read_metrics
from danlu.data.batches import PackedBatches
from danlu.train.checkpoint import latest
from danlu.train.config import TrainConfig
from danlu.train.loop import Hook
from danlu.train.objective import cross_entropy
from danlu.train.session import train
from tests.conftest import tiny_decoder
from tests.train.test_loop import EXACT, VOCABULARY, documents

CONFIG = TrainConfig(**(EXACT | {"steps": 9, "batch_size": 4, "checkpoint_every": 2, "log_every": 1}))


def go(path, *hooks):
    model = tiny_decoder(VOCABULARY)
    held_out = list(PackedBatches(documents(seed=5), 16, 4, shuffle=False, epochs=1))
    with Run(path, "test", CONFIG) as run:
        train(run, model, PackedBatches(documents(), 16, 4), cross_entropy, CONFIG, valid=lambda: held_out, hooks=hooks)
        return model, run.measured


class Interrupt(Hook):
    def on_step(self, loop, metrics):
        if loop.state.step == 5:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)


def test_interrupted_then_again_equals_uninterrupted(tmp_path):
    whole, measured = go(tmp_path / "whole")
    with pytest.raises(Interrupted, match="5"):
        go(tmp_path / "twice", Interrupt())
    assert latest(tmp_path / "twice" / "checkpoints").name == "step-00000005"
    resumed, again = go(tmp_path / "twice")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert again["val_loss"] == measured["val_loss"]
    assert again["tokens"] == measured["tokens"]
    steps = [line["step"] for line in read_metrics(tmp_path / "twice") if "loss" in line]
    assert steps == list(range(1, 10))


def test_killed_before_the_first_checkpoint_it_begins_anew(tmp_path):
    class Die(Hook):
        def on_step(self, loop, metrics):
            if loop.state.step == 1:
                raise MemoryError

    with pytest.raises(MemoryError):
        go(tmp_path / "run", Die())
    assert [line["step"] for line in read_metrics(tmp_path / "run") if "loss" in line] == [1]
    go(tmp_path / "run")
    steps = [line["step"] for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert steps == list(range(1, 10))


def test_what_is_measured(tmp_path):
    _, measured = go(tmp_path / "run")
    assert {"steps", "tokens", "train_seconds", "tokens_per_second", "val_loss", "best_val_loss"} <= measured.keys()
