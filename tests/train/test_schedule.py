import pytest
import torch

from danlu.train.schedule import rate


def factors(schedule, steps=10, **wish):
    settings = {"warmup": 0, "floor": 0.0, "decay": 0.2} | wish
    return [rate(schedule, step, steps, **settings) for step in range(steps)]


def test_warmup_rises_linearly_to_the_peak():
    assert factors("constant", warmup=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_ends_at_the_floor(schedule):
    told = factors(schedule, warmup=2, floor=0.1)
    assert told[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(told[2:], told[3:], strict=False))


def test_cosine_equals_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.05)
    for mine in factors("cosine", floor=0.05):
        optimizer.step()
        theirs.step()
        assert mine == pytest.approx(theirs.get_last_lr()[0])


def test_wsd_is_flat_then_falls_over_its_last_share():
    told = factors("wsd", decay=0.3)
    assert told[:7] == [1.0] * 7
    assert told[7:] == pytest.approx([2 / 3, 1 / 3, 0.0])
