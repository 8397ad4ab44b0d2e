import os
import signal

import pytest
import torch

from danlu.core.run import Run, read_metrics
from danlu.data.batches import PackedBatches
from danlu.train import hooks as module
from danlu.train.config import TrainConfig
from danlu.train.hooks import Every, Interruption, Log, Preflight, ProgressBar, Validation, mean_loss
from danlu.train.loop import Hook, fit
from danlu.train.objective import cross_entropy
from tests.conftest import tiny_decoder
from tests.train.test_loop import EXACT, VOCABULARY, documents


def go(hooks, model=None, **settings):
    config = TrainConfig(**(EXACT | {"steps": 6, "batch_size": 4} | settings))
    return fit(model or tiny_decoder(VOCABULARY), PackedBatches(documents(), 16, 4), cross_entropy, config, hooks=hooks)


@pytest.fixture
def run(tmp_path):
    with Run(tmp_path / "run", "test", TrainConfig()) as opened:
        yield opened


def test_mean_loss_weighs_tokens_and_leaves_the_model_alone():
    model = tiny_decoder(VOCABULARY).train()
    batches = list(PackedBatches(documents(), 16, 4, shuffle=False, epochs=1, drop_last=False))
    told = mean_loss(model, batches, cross_entropy, torch.device("cpu"), "fp32")
    with torch.no_grad():
        losses = [cross_entropy(model, batch) for batch in batches]
    assert told == pytest.approx(float(sum(one.total for one in losses)) / int(sum(one.count for one in losses)))
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_log_writes_first_last_and_every(run):
    go([Log(run, every=4)])
    lines = read_metrics(run.path)
    assert [line["step"] for line in lines] == [1, 4, 6]
    assert {"loss", "grad_norm", "lr", "tokens", "tokens_per_second"} <= lines[0].keys()


def test_validation_is_logged_and_stops_early_when_nothing_improves(run):
    batches = list(PackedBatches(documents(), 16, 4, shuffle=False, epochs=1))
    hook = Validation(run, lambda: batches, cross_entropy, every=1, patience=2)
    frozen = tiny_decoder(VOCABULARY)
    for parameter in list(frozen.parameters())[1:]:
        parameter.requires_grad_(False)
    end = go([hook], frozen, lr=1e-12, steps=50)
    # the first validation is the best by default, the next two are not better
    assert end.step <= 4
    assert end.values["validations_since_best"] == 2
    assert len([line for line in read_metrics(run.path) if "val_loss" in line]) == end.step


def test_validation_does_not_change_training(run):
    one, other = tiny_decoder(VOCABULARY), tiny_decoder(VOCABULARY)
    batches = list(PackedBatches(documents(), 16, 4, shuffle=False, epochs=1))
    go([], one)
    go(
        [
            Validation(run, lambda: batches, cross_entropy, every=2, patience=None),
            Log(run, 1),
            ProgressBar("t"),
            Preflight(run),
        ],
        other,
    )
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_every_and_at_the_end():
    seen = []
    go([Every(4, lambda loop: seen.append(loop.state.step))])
    assert seen == [4, 6]


def test_interruption_finishes_the_step_and_gives_the_signals_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    class Interrupt(Hook):
        def on_step(self, loop, metrics):
            if loop.state.step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    hook = Interruption()
    end = go([hook, Interrupt()])
    assert end.step == 3
    assert hook.asked
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_interrupt_does_not_wait():
    class Twice(Hook):
        def on_step(self, loop, metrics):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        go([Interruption(), Twice()])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_after_an_error_every_hook_that_started_gives_back_what_it_took():
    before = signal.getsignal(signal.SIGINT)
    told = []

    class Told(Hook):
        def __init__(self, name, fails=""):
            self.name, self.fails = name, fails

        def on_start(self, loop):
            if self.fails == "start":
                raise ValueError
            told.append(f"{self.name} starts")

        def on_step(self, loop, metrics):
            if self.fails == "step":
                raise ValueError

        def on_end(self, loop):
            told.append(f"{self.name} ends")

        def on_exit(self, loop):
            told.append(f"{self.name} exits")

    bar = ProgressBar("t")
    with pytest.raises(ValueError):  # noqa: PT011
        go([Interruption(), bar, Told("a"), Told("b", fails="step")])
    assert told == ["a starts", "b starts", "b exits", "a exits"]
    assert not bar._bar.live.is_started
    assert signal.getsignal(signal.SIGINT) == before
    told.clear()
    with pytest.raises(ValueError):  # noqa: PT011
        go([Told("a"), Told("b", fails="start")])
    assert told == ["a starts", "a exits"]
    told.clear()
    go([Told("a")])
    assert told == ["a starts", "a ends", "a exits"]


def test_a_run_that_ended_early_does_not_go_on_when_it_is_resumed(run, capsys):
    """Killed after the last checkpoint and before the model was saved."""
    batches = list(PackedBatches(documents(), 16, 4, shuffle=False, epochs=1))

    class Keep(Hook):
        def on_end(self, loop):
            self.saved = loop.snapshot()

    keep = Keep()
    validation = Validation(run, lambda: batches, cross_entropy, every=1, patience=2)
    first = go([validation, keep], lr=1e-30, matrix_lr=1e-30, steps=50)
    assert first.step < 50
    assert f"stopping at step {first.step}" in capsys.readouterr().err
    config = TrainConfig(**(EXACT | {"steps": 50, "batch_size": 4}))
    model = tiny_decoder(VOCABULARY, seed=9)
    again = fit(model, PackedBatches(documents(), 16, 4), cross_entropy, config, hooks=[validation], state=keep.saved)
    assert again.step == first.step


def test_preflight_predicts_then_tells_its_error(run, monkeypatch):
    monkeypatch.setattr(module, "_CALIBRATION_SECONDS", 0.0)
    go([Preflight(run)], steps=30)
    told = run.measured["preflight"]
    assert set(told) == {"seconds", "memory_bytes"}
    for pair in told.values():
        assert pair["predicted"] > 0
        assert pair["error"] == pytest.approx(pair["predicted"] / pair["actual"] - 1, abs=0.05)
    assert abs(told["memory_bytes"]["error"]) < 0.5
