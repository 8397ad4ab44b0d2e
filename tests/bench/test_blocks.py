"""The measurements of heads, experts and norms: that what they compare differs in what they say, and in nothing else."""

import sys

import pytest
import torch

from tests.bench.test_measurements import BENCH, load


@pytest.fixture(scope="module", autouse=True)
def on_path():
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


def ids(rows: int = 2, length: int = 20) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(1))}


@torch.no_grad()
def test_spreading_key_heads_changes_nothing_in_the_right_order_only():
    heads = load("heads")
    one = heads.model(8, 2, seed=0).eval()
    for parameter in one.parameters():
        parameter.mul_(3)
    assert torch.allclose(one(ids()), heads.spread(one, "repeat_interleave")(ids()), atol=1e-5)
    assert not torch.allclose(one(ids()), heads.spread(one, "repeat")(ids()), atol=1e-2)


@torch.no_grad()
def test_averaging_what_was_spread_gives_it_back():
    heads = load("heads")
    one = heads.model(8, 2, seed=0).eval()
    back = heads.averaged(heads.spread(one, "repeat_interleave"), 2)
    assert all(torch.allclose(value, one.state_dict()[name]) for name, value in back.state_dict().items())


def test_the_cache_shrinks_with_the_key_heads():
    heads = load("heads")
    sizes = [heads.cache_bytes(heads.model(8, kv, 0)) for kv in (8, 4, 2, 1)]
    assert sizes == [2 * 2 * 8 * kv * 4 for kv in (8, 4, 2, 1)]  # k and v, 2 layers, heads of 8 numbers, 4 bytes


def test_a_byte_meets_two_of_eight_experts():
    moe = load("moe")
    every, active = moe.parameters(moe.sparse(0.0))
    assert every - active == 2 * 6 * 3 * 64 * 64  # in two layers, six experts of three matrices


def test_balance_by_layer_is_the_mean_of_the_layers():
    moe = load("moe")
    model = moe.sparse(0.0)
    batch = {**ids(), "segment_ids": torch.ones(2, 20, dtype=torch.long)}
    batch["labels"] = batch["input_ids"]
    plain = moe.cross_entropy(model, batch)
    told = moe.each_layer(0.5)(model, batch)
    with moe.record_routing(model) as routings:
        model.hidden(batch)
    layers = [float(moe.load_balancing_loss([one]).detach()) for one in routings]
    extra = float((told.total - plain.total).detach() / told.count)
    assert len(layers) == 2
    assert extra == pytest.approx(0.5 * sum(layers) / 2, rel=1e-4)


def test_router_of_one_normalised_expert_gets_no_gradient():
    found = load("moe").alone()
    assert found["1 chosen, normalised"] < 1e-4
    assert found["1 chosen, as they are"] > 0.1


@torch.no_grad()
def test_pre_norm_is_the_layer_of_the_house():
    norms = load("norms")
    made = norms.model("pre-norm, RMSNorm")
    house = norms.Decoder(made.config)
    names = {"norms.0": "input_layernorm", "norms.1": "post_attention_layernorm"}
    state = made.state_dict()
    for old, new in names.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    state = {name: value for name, value in state.items() if name in house.state_dict()}
    house.model.layers[0].mlp = made.model.layers[0].mlp  # of another inner width
    for mine, theirs in zip(made.model.layers, house.model.layers, strict=True):
        theirs.mlp = mine.mlp
    house.load_state_dict(state)
    assert torch.allclose(made(ids()), house(ids()), atol=1e-5)


def test_kinds_of_norms_begin_alike():
    norms = load("norms")
    weights = [{n: p for n, p in norms.model(kind).named_parameters() if p.ndim > 1} for kind in norms.KINDS]
    assert all(torch.equal(weights[0][name], one[name]) for one in weights[1:] for name in weights[0])


def test_gradients_by_depth_are_of_every_layer():
    norms = load("norms")
    for kind in norms.KINDS:
        size, gradient = norms.depths(kind, ids()["input_ids"])
        assert len(size) == len(gradient) == norms.LAYERS
        assert (min(gradient) > 0) == (kind != "neither")
        assert gradient[-1] > 0
