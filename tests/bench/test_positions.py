"""The measurement of positions: what each kind tells its model, and that the same bytes are asked about."""

import sys

import pytest
import torch

from tests.bench.test_measurements import BENCH, load


@pytest.fixture(scope="module")
def positions():
    sys.path.insert(0, str(BENCH))
    yield load("positions")
    sys.path.remove(str(BENCH))


def model(positions, kind):
    made = positions.Positioned(kind)
    made.initialise(torch.Generator().manual_seed(0))
    return made.eval()


@pytest.fixture(scope="module")
def kinds(positions):
    return {kind: model(positions, kind) for kind in positions.TRAINED}


@torch.no_grad()
def test_no_kind_sees_what_comes_later(positions, kinds):
    ids = torch.randint(256, (2, 40), generator=torch.Generator().manual_seed(1))
    other = ids.clone()
    other[:, 30:] = 7
    for kind, one in kinds.items():
        before, after = one.hidden({"input_ids": ids}), one.hidden({"input_ids": other})
        assert torch.allclose(before[:, :30], after[:, :30], atol=1e-6), kind
        assert not torch.allclose(before[:, 30:], after[:, 30:], atol=1e-6), kind


@torch.no_grad()
def test_all_kinds_start_alike_but_for_positions(kinds):
    shared = [
        {name: p for name, p in one.named_parameters() if not name.startswith(("places", "nearness"))}
        for one in kinds.values()
    ]
    for parameters in shared[1:]:
        assert parameters.keys() == shared[0].keys()
        assert all(torch.equal(parameters[name], shared[0][name]) for name in parameters)


@torch.no_grad()
def test_only_the_kinds_that_count_distance_tell_a_row_of_equal_bytes_apart(kinds):
    """Equal bytes mix to equal states whatever the weights of the mix; only what is added to them differs by place."""
    ids = torch.full((1, 20), 65)
    for kind, one in kinds.items():
        hidden = one.hidden({"input_ids": ids})[0]
        assert bool(torch.allclose(hidden, hidden[:1], atol=1e-5)) == (kind not in ("sinusoidal", "learned")), kind


@torch.no_grad()
def test_order_matters_to_every_kind_but_none(positions, kinds):
    """The last state of two rows whose earlier bytes are in opposite order, in a model of one layer."""
    ids = torch.randint(256, (1, 20), generator=torch.Generator().manual_seed(2))
    swapped = torch.cat((ids[:, :-1].flip(1), ids[:, -1:]), dim=1)
    for kind, one in kinds.items():
        first = type(one)(kind)
        first.load_state_dict(one.state_dict())
        for parameter in first.parameters():
            parameter.mul_(3)  # far enough from the start for attention to prefer something
        first.layers = first.layers[:1]
        states = [first.hidden({"input_ids": row})[0, -1] for row in (ids, swapped)]
        assert bool(torch.allclose(*states, atol=1e-5)) == (kind == "none"), kind


@torch.no_grad()
def test_dials_are_slowed_for_longer_rows_only(positions):
    one = model(positions, "rope")
    ids = torch.randint(256, (1, 256), generator=torch.Generator().manual_seed(3))
    plain = one.hidden({"input_ids": ids})
    for how in positions.STRETCHED:
        positions.stretch(one, how, 1)
        assert torch.allclose(one.hidden({"input_ids": ids[:, :64]}), plain[:, :64], atol=1e-5), how
        positions.stretch(one, how, 4)
        assert not torch.allclose(one.hidden({"input_ids": ids}), plain, atol=1e-5), how


def test_the_same_bytes_are_asked_about_at_every_length(positions, monkeypatch):
    asked = torch.arange(2 * 512).view(2, 512) % 256
    seen = []
    monkeypatch.setattr(
        positions, "linear_cross_entropy", lambda hidden, weight, targets: seen.append(targets) or torch.zeros(())
    )
    for times in positions.TIMES:
        positions.loss(model(positions, "none"), asked, times * positions.LENGTH)
    assert len(seen) == 4
    assert all(torch.equal(one, asked[:, -63:].flatten()) for one in seen)


def test_text_that_is_asked_about_is_not_learned_from(positions):
    train, held_out = positions.source()
    assert len(train) > 5 * len(held_out) > 100_000
    assert positions.rows(held_out, 3, 100, seed=1).shape == (3, 100)
    for row in positions.rows(held_out, 20, 200, seed=2).tolist():
        assert bytes(row) not in train


def test_a_small_run_measures_every_kind_at_every_length(positions, monkeypatch):
    monkeypatch.setattr(positions, "ROWS", 2)
    raw, ended = positions.measure(seeds=1, steps=2, windows=2)
    assert len(raw) == 9 * 4
    for how in positions.STRETCHED:
        assert raw[f"{how}@64"] == pytest.approx(raw["rope@64"], rel=1e-6)
    assert set(ended) == set(positions.TRAINED)
