"""Training with experts: the balancing loss that `cross_entropy` adds."""

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from danlu.models import auto
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.train.config import TrainConfig
from danlu.train.hooks import mean_loss
from danlu.train.loop import Hook, fit
from danlu.train.objective import cross_entropy
from tests.conftest import tiny_decoder

SHAPE = {
    "vocab_size": 23,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "router_aux_loss_coef": 0.3,
    "max_position_embeddings": 32,
}


@pytest.fixture
def pair() -> tuple[Decoder, MixtralForCausalLM]:
    """Ours and theirs, with the same weights, both training."""
    torch.manual_seed(0)
    theirs = MixtralForCausalLM(MixtralConfig(**SHAPE, output_router_logits=True, attn_implementation="eager"))
    with torch.no_grad():
        theirs.model.embed_tokens.weight += 0.05 * torch.randn(16)  # what tokens have in common favours some experts
        for name, parameter in theirs.named_parameters():
            if name.endswith("gate.weight"):
                parameter.mul_(20)
    ours = auto.build(theirs.config.to_dict())
    assert isinstance(ours, Decoder)
    ours.load_state_dict(_unfused(theirs.state_dict(), ours))
    return ours.train(), theirs.train()


def _unfused(state: dict[str, torch.Tensor], model: Decoder) -> dict[str, torch.Tensor]:
    """transformers keeps the experts of a layer in two stacked tensors; on disk, and here, each has its own."""
    found = {}
    for name, tensor in state.items():
        place = name.replace(".mlp.", ".block_sparse_moe.")
        if name.endswith("experts.gate_up_proj"):
            for number, (one, three) in enumerate(part.chunk(2) for part in tensor):
                stem = place.removesuffix("gate_up_proj") + str(number)
                found |= {f"{stem}.w1.weight": one, f"{stem}.w3.weight": three}
        elif name.endswith("experts.down_proj"):
            for number, part in enumerate(tensor):
                found[place.removesuffix("down_proj") + f"{number}.w2.weight"] = part
        else:
            found[place] = tensor
    assert found.keys() == model.state_dict().keys()
    return found


def batch_of(rows: int, length: int, seed: int = 1) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 23, (rows, length), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "labels": ids.clone()}


@pytest.mark.parametrize("padded", [False, True])
def test_loss_and_gradients_are_those_of_transformers(pair, padded):
    ours, theirs = pair
    batch = batch_of(3, 8)
    mask = torch.ones(3, 8, dtype=torch.long)
    if padded:
        mask[1, 5:] = mask[2, 2:] = 0
        batch["segment_ids"] = mask
        batch["labels"][mask == 0] = -100
    told = theirs(input_ids=batch["input_ids"], attention_mask=mask, labels=batch["labels"])
    mine = cross_entropy(ours, batch)
    torch.testing.assert_close(mine.total / mine.count, told.loss)
    torch.testing.assert_close(mine.metrics["expert_balance"] / mine.count, told.aux_loss)
    assert abs(told.aux_loss - 2) > 0.02
    (mine.total / mine.count).backward()
    told.loss.backward()
    expected = _unfused({name: p.grad for name, p in theirs.named_parameters()}, ours)
    for name, parameter in ours.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad  # None: nobody came
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4)


def test_accumulation_weighs_the_balance_of_micro_batches_by_their_counts(pair):
    ours, theirs = pair
    parts = [batch_of(1, 5, seed=2), batch_of(2, 8, seed=3)]
    losses = [cross_entropy(ours, part) for part in parts]
    mine = sum(loss.total for loss in losses) / sum(loss.count for loss in losses)
    aux = [theirs(input_ids=part["input_ids"], labels=part["labels"]).aux_loss for part in parts]
    ours.eval()
    text = [cross_entropy(ours, part) for part in parts]
    assert [int(loss.count) for loss in losses] == [4, 14]
    expected = sum(loss.total for loss in text) / 18 + 0.3 * (4 * aux[0] + 14 * aux[1]) / 18
    torch.testing.assert_close(mine, expected)


def test_evaluation_measures_the_text_alone(pair):
    ours, theirs = pair
    batch = batch_of(2, 8)
    theirs.config.output_router_logits = False
    told = theirs(input_ids=batch["input_ids"], labels=batch["labels"], output_router_logits=False)
    found = mean_loss(ours, [batch], cross_entropy, torch.device("cpu"), "fp32")
    assert found == pytest.approx(told.loss.item(), abs=1e-5)
    assert cross_entropy(ours.eval(), batch).metrics == {}


def test_packed_texts_count_once_and_padding_not_at_all(pair):
    ours, _ = pair
    long, short = batch_of(1, 6, seed=4), batch_of(1, 3, seed=5)
    packed = {name: torch.cat((long[name], short[name]), 1) for name in long}
    packed["segment_ids"] = torch.tensor([[1] * 6 + [2] * 3])
    packed["position_ids"] = torch.tensor([[*range(6), *range(3)]])
    wider = {name: torch.cat((tensor, torch.zeros(1, 4, dtype=torch.long)), 1) for name, tensor in packed.items()}
    wider["labels"][:, 9:] = -100
    one, other = cross_entropy(ours, packed), cross_entropy(ours, wider)
    assert one.count == other.count
    torch.testing.assert_close(one.total, other.total)
    for name in ("expert_balance", "expert_load_min", "expert_load_max"):
        torch.testing.assert_close(one.metrics[name], other.metrics[name])


class Load(Hook):
    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_step(self, loop, metrics):
        self.seen.append(dict(metrics))


def train(coefficient: float) -> list[dict[str, float]]:
    """40 steps from routers that favour expert 0 for what all tokens have in common."""
    shape = {"family": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    size = {"vocab_size": 23, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
    model = Decoder(DecoderConfig(**size, **shape, max_position_embeddings=32, router_aux_loss_coef=coefficient))
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] += 0.1
        for layer in model.model.layers:
            layer.mlp.gate.weight.copy_(torch.randn(4, 16, generator=torch.Generator().manual_seed(1)) * 0.3)
            layer.mlp.gate.weight[0, 0] = 1.0
    told = Load()
    config = TrainConfig(steps=40, optimizer="adamw", lr=0.01, warmup=0, precision="fp32", device="cpu")
    fit(model, [batch_of(8, 24, seed=number) for number in range(40)], cross_entropy, config, hooks=[told])
    return told.seen


def test_training_evens_the_load_and_logs_it():
    seen, hardly, without = train(0.5), train(1e-9), train(0.0)
    assert "expert_balance" not in without[0]  # nothing is recorded where nothing is asked
    first, last, unhelped = seen[0], seen[-1], hardly[-1]
    assert first["expert_load_max"] > 0.45  # 0.5: in everybody's choice of two
    assert first["expert_balance"] > 2.2
    assert last["expert_balance"] < 2.02
    assert last["expert_load_max"] < 0.4 < unhelped["expert_load_max"]  # 0.25 is even
    assert last["expert_load_min"] > 0.1 > unhelped["expert_load_min"]


def test_a_dense_model_pays_nothing(monkeypatch):
    def refuse(model):
        raise AssertionError("a dense model has nothing to record")

    monkeypatch.setattr("danlu.train.objective.record_routing", refuse)
    model = tiny_decoder(23).train()
    assert model.router_aux_loss_coef == 0.0
    assert cross_entropy(model, batch_of(2, 8)).metrics == {}


def test_experts_in_no_layer_are_no_experts():
    shape = {"family": "qwen3_moe", "num_experts": 4, "mlp_only_layers": (0, 1), "num_hidden_layers": 2}
    model = Decoder(
        DecoderConfig(vocab_size=23, hidden_size=16, num_attention_heads=2, max_position_embeddings=32, **shape)
    )
    assert model.router_aux_loss_coef == 0.0
