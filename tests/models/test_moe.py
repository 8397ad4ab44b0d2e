import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from danlu.core.errors import ConfigError
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.models.moe import MixtralExpert, Router, Routing, SparseMoE, expert_load, load_balancing_loss, record_routing
from tests.conftest import tiny_decoder


def layer(experts: int = 4, chosen: int = 2, normalise: bool = True) -> SparseMoE:
    torch.manual_seed(0)
    return SparseMoE(Router(8, experts, chosen, normalise), [MixtralExpert(8, 12) for _ in range(experts)])


@pytest.mark.parametrize("normalise", [True, False])
def test_equals_every_expert_on_every_token_weighted(normalise):
    moe, x = layer(normalise=normalise), torch.randn(2, 5, 8)
    probabilities = torch.softmax(x @ moe.gate.weight.T, -1)
    kept = torch.zeros_like(probabilities)
    for row in range(2):
        for token in range(5):
            best = probabilities[row, token].argsort(descending=True)[:2]
            kept[row, token, best] = probabilities[row, token, best]
    if normalise:
        kept = kept / kept.sum(-1, keepdim=True)
    expected = sum(kept[..., number, None] * expert(x) for number, expert in enumerate(moe.experts))
    torch.testing.assert_close(moe(x), expected)


def test_the_router_and_the_visited_experts_learn():
    moe = layer(chosen=4)  # every token visits every expert
    moe(torch.randn(6, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in moe.parameters())


def test_balance_and_load_by_hand():
    # two experts, k = 1; of the three tokens that count, two visit expert 0. Probabilities (.5 .5) (.8 .2) (.4 .6):
    # shares 2/3, 1/3; mean probabilities 1.7/3, 1.3/3; loss 2 (2/3 · 1.7/3 + 1/3 · 1.3/3) = 9.4/9
    probabilities = torch.tensor([[0.5, 0.5], [0.8, 0.2], [0.4, 0.6], [0.01, 0.99]])
    routing = Routing(probabilities.log(), probabilities.amax(-1, keepdim=True), torch.tensor([[0], [0], [1], [1]]))
    counted = torch.tensor([[1, 1, 1, 0]]).bool()
    torch.testing.assert_close(load_balancing_loss([routing], counted), torch.tensor(9.4 / 9))
    torch.testing.assert_close(expert_load([routing], counted), torch.tensor([[2 / 3, 1 / 3]]))
    torch.testing.assert_close(expert_load([routing, routing]), torch.full((2, 2), 0.5))


@pytest.mark.parametrize("masked", [False, True])
def test_balance_and_its_gradient_agree_with_transformers(masked):
    torch.manual_seed(0)
    scores = [torch.randn(12, 5, requires_grad=True) for _ in range(3)]
    mask = torch.ones(3, 4, dtype=torch.long)
    if masked:
        mask[1, 2:] = mask[2, 1:] = 0
    expected = load_balancing_loss_func(tuple(scores), 5, 2, mask if masked else None)
    routings = [Routing(score, *score.softmax(-1).topk(2)) for score in scores]
    mine = load_balancing_loss(routings, mask.bool() if masked else None)
    torch.testing.assert_close(mine, expected)
    for one, other in zip(torch.autograd.grad(mine, scores), torch.autograd.grad(expected, scores), strict=True):
        torch.testing.assert_close(one, other)


def test_an_even_router_loses_k_and_a_collapsed_one_more():
    x = torch.randn(64, 8)
    even, collapsed = layer(), layer()
    with torch.no_grad():
        even.gate.weight.zero_()
        collapsed.gate.weight[0] = x.mean(0) * 0 + 5.0
    for moe, bound in ((even, (2.0, 2.0)), (collapsed, (2.01, 8.0))):
        with record_routing(moe) as routings:
            moe(x.abs())
        assert bound[0] - 1e-4 <= load_balancing_loss(routings).item() <= bound[1] + 1e-4


def test_training_the_balance_evens_the_load():
    moe, x = layer(), torch.randn(256, 8)
    x[:, 0] = 1.0
    with torch.no_grad():
        moe.gate.weight[0, 0] += 1.0  # expert 0 is in everybody's choice
    optimizer = torch.optim.Adam(moe.gate.parameters(), lr=0.03)
    largest = []
    for _ in range(50):
        with record_routing(moe) as routings:
            moe(x)
        largest.append(float(expert_load(routings).max()))
        optimizer.zero_grad()
        load_balancing_loss(routings).backward()
        optimizer.step()
    assert largest[0] == 0.5
    assert largest[-1] < 0.3  # 0.25 is even


def test_recording_names_each_sparse_layer_and_leaves_nothing_behind():
    shape = {
        "family": "qwen3_moe",
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "mlp_only_layers": (0,),
        "num_hidden_layers": 3,
    }
    model = Decoder(
        DecoderConfig(vocab_size=20, hidden_size=16, num_attention_heads=2, max_position_embeddings=32, **shape)
    )
    model.initialise(torch.Generator().manual_seed(0))
    ids = torch.randint(0, 20, (2, 6))
    with record_routing(model) as routings, torch.no_grad():
        told = model({"input_ids": ids})
    assert [routing.experts.shape for routing in routings] == [(12, 2)] * 2
    with torch.no_grad():
        torch.testing.assert_close(model({"input_ids": ids}), told)
    assert len(routings) == 2


def test_a_dense_model_has_no_routing():
    with pytest.raises(ConfigError, match=r"experts|专家"), record_routing(tiny_decoder(20)):
        pass


def test_expert_outputs_in_mixed_precision():
    moe = layer()
    x = torch.randn(3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        told = moe(x)
    torch.testing.assert_close(told.float(), moe(x), atol=5e-2, rtol=5e-2)
    assert told.dtype == x.dtype
