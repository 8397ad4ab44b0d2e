import copy
import math

import pytest
import torch
import torch.multiprocessing as mp

from danlu.core.errors import ConfigError, DataError
from danlu.data.batches import PackedBatches
from danlu.data.pack import Document
from danlu.train.config import TrainConfig
from danlu.train.loop import Hook, TrainState, fit
from danlu.train.objective import cross_entropy
from tests.conftest import tiny_decoder

VOCABULARY = 30
EXACT = {"precision": "fp32", "warmup": 2, "lr": 1e-2, "seq_len": 16}


def documents(number: int = 60, seed: int = 0) -> list[Document]:
    """Counting sequences of uneven length: easy to learn, and no two micro-batches hold as many tokens."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 15, (number,), generator=draw).tolist()
    starts = torch.randint(0, VOCABULARY, (number,), generator=draw).tolist()
    return [
        Document([(start + i) % VOCABULARY for i in range(length)])
        for start, length in zip(starts, lengths, strict=True)
    ]


class Gradients(Hook):
    """Catches what the optimiser is about to use."""

    def on_start(self, loop):
        self.caught = {}

        def catch(*_):
            self.caught |= {name: p.grad.clone() for name, p in loop.model.named_parameters() if p.grad is not None}

        loop.optimizers[0].register_step_pre_hook(catch)


def gradients(batches, **settings) -> dict[str, torch.Tensor]:
    hook = Gradients()
    config = TrainConfig(**(EXACT | {"steps": 1, "clip": 1e9, "optimizer": "adamw"} | settings))
    fit(tiny_decoder(VOCABULARY), batches, cross_entropy, config, hooks=[hook])
    return hook.caught


def test_accumulation_gives_the_gradient_of_the_whole_batch():
    """1 x 32 and 8 x 4 rows of uneven documents: equal to 1e-5 relative."""
    few = documents(200)
    whole = next(iter(PackedBatches(few, 16, 32, shuffle=False)))
    parts = [{name: tensor[i : i + 4] for name, tensor in whole.items()} for i in range(0, 32, 4)]
    counts = {int((part["labels"] != -100).sum()) for part in parts}
    assert len(counts) > 1, "the test needs uneven micro-batches"
    once = gradients([whole], batch_size=32)
    split = gradients(parts, batch_size=4, accumulate=8)
    for name, gradient in once.items():
        assert (split[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_gradient_is_that_of_the_mean_over_tokens():
    batch = next(iter(PackedBatches(documents(), 16, 8)))
    told = gradients([batch], batch_size=8)
    model = tiny_decoder(VOCABULARY)
    labels = batch["labels"][:, 1:]
    logits = model(batch)[:, :-1]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(told[name], parameter.grad, atol=1e-6, rtol=1e-4)


def test_padding_changes_nothing():
    batch = next(iter(PackedBatches(documents(), 16, 8)))
    wider = {
        name: torch.nn.functional.pad(tensor, (0, 5), value=-100 if name == "labels" else 0)
        for name, tensor in batch.items()
    }
    one, other = gradients([batch], batch_size=8), gradients([wider], batch_size=8)
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns(optimizer, precision):
    losses = []

    class Watch(Hook):
        def on_step(self, loop, metrics):
            losses.append(metrics["loss"])

    config = TrainConfig(**(EXACT | {"precision": precision, "steps": 60, "batch_size": 8, "optimizer": optimizer}))
    end = fit(tiny_decoder(VOCABULARY), PackedBatches(documents(), 16, 8), cross_entropy, config, hooks=[Watch()])
    assert end.step == 60
    assert losses[0] == pytest.approx(math.log(VOCABULARY), abs=0.2)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("at", [1, 7, 13])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_resume_is_exact_to_the_bit(at, optimizer):
    config = TrainConfig(**(EXACT | {"steps": 15, "batch_size": 4, "accumulate": 2, "optimizer": optimizer}))

    class Stop(Hook):
        def on_step(self, loop, metrics):
            if loop.state.step == at:
                self.saved = copy.deepcopy(loop.snapshot())
                loop.stop = "enough"

    def batches():
        return PackedBatches(documents(), 16, 4, seed=3)

    whole = tiny_decoder(VOCABULARY)
    fit(whole, batches(), cross_entropy, config)
    stop = Stop()
    fit(tiny_decoder(VOCABULARY), batches(), cross_entropy, config, hooks=[stop])
    resumed = tiny_decoder(VOCABULARY, seed=99)  # other weights: all must come from the state
    end = fit(resumed, batches(), cross_entropy, config, state=stop.saved)
    assert end.step == 15
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_state_for_other_data_is_refused():
    config = TrainConfig(**(EXACT | {"steps": 4, "batch_size": 4}))

    class Stop(Hook):
        def on_step(self, loop, metrics):
            self.saved = loop.snapshot()

    stop = Stop()
    fit(tiny_decoder(VOCABULARY), PackedBatches(documents(), 16, 4), cross_entropy, config, hooks=[stop])
    with pytest.raises(DataError):
        fit(tiny_decoder(VOCABULARY), PackedBatches(documents(seed=1), 16, 4), cross_entropy, config, state=stop.saved)


def test_frozen_parameters_stay():
    model = tiny_decoder(VOCABULARY)
    model.model.embed_tokens.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    fit(model, PackedBatches(documents(), 16, 4), cross_entropy, TrainConfig(**(EXACT | {"steps": 3, "batch_size": 4})))
    assert torch.equal(before["model.embed_tokens.weight"], model.model.embed_tokens.weight)
    assert not torch.equal(before["model.norm.weight"], model.model.norm.weight)


def test_steps_come_from_epochs():
    batches = PackedBatches(documents(), 16, 4)
    end = fit(tiny_decoder(VOCABULARY), batches, cross_entropy, TrainConfig(**(EXACT | {"epochs": 2, "batch_size": 4})))
    assert end.step == 2 * len(batches)


def test_a_loss_that_is_no_number_ends_it_with_the_step_and_the_way_out():
    seen = []

    class Watch(Hook):
        def on_step(self, loop, metrics):
            seen.append(metrics["loss"])

    settings = {"steps": 30, "batch_size": 4, "optimizer": "adamw", "lr": 1e30, "warmup": 0}
    with pytest.raises(ConfigError, match=r"the loss is (nan|inf) at step \d+\n.*train\.lr"):
        fit(
            tiny_decoder(VOCABULARY),
            PackedBatches(documents(), 16, 4),
            cross_entropy,
            TrainConfig(**(EXACT | settings)),
            hooks=[Watch()],
        )
    assert all(map(math.isfinite, seen)), "no hook gets to see it: no checkpoint of it is written"


def test_no_data_and_no_such_device_are_told():
    with pytest.raises(DataError):
        fit(tiny_decoder(VOCABULARY), iter([]), cross_entropy, TrainConfig(steps=3))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda"):
            fit(tiny_decoder(VOCABULARY), [], cross_entropy, TrainConfig(steps=3, device="cuda"))


def _rank(rank: int, ports: str, results) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{ports}", rank=rank, world_size=2)
    whole = next(iter(PackedBatches(documents(200), 16, 32, shuffle=False)))
    # uneven on purpose: 20 rows here, 12 there
    own = {name: tensor[:20] if rank == 0 else tensor[20:] for name, tensor in whole.items()}
    told = gradients([own], batch_size=20)
    if rank == 0:
        torch.save(told, results)
    dist.destroy_process_group()


def test_two_ranks_give_the_gradient_of_one(tmp_path):
    mp.spawn(_rank, args=(str(tmp_path / "meet"), str(tmp_path / "told.pt")), nprocs=2)
    told = torch.load(tmp_path / "told.pt", weights_only=True)
    whole = next(iter(PackedBatches(documents(200), 16, 32, shuffle=False)))
    for name, gradient in gradients([whole], batch_size=32).items():
        assert (told[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_state_defaults_are_fresh():
    assert TrainState().values is not TrainState().values
