import copy

import pytest
import torch
from torch import nn

from danlu.train.config import TrainConfig
from danlu.train.optim import Muon, build_optimizers, orthogonalise
from tests.conftest import tiny_decoder
from tests.models.tiny_t5 import tiny_t5


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_muon_equals_torch(decay):
    torch.manual_seed(0)
    mine = nn.ParameterList(
        [nn.Parameter(torch.randn(8, 12)), nn.Parameter(torch.randn(12, 8)), nn.Parameter(torch.randn(8, 12))]
    )
    theirs = copy.deepcopy(mine)
    one = Muon(list(mine), lr=0.02, weight_decay=decay)
    other = torch.optim.Muon(list(theirs), lr=0.02, weight_decay=decay, momentum=0.95)
    for _ in range(5):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        one.step()
        other.step()
    for a, b in zip(mine, theirs, strict=True):
        # both iterate in bfloat16; a batch may round otherwise than a single matrix
        assert (a - b).norm() / b.norm() < 2e-3


@pytest.mark.parametrize("shape", [(6, 6), (4, 20), (20, 4)])
def test_orthogonalise_brings_singular_values_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, *shape)).float())
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_every_parameter_has_one_optimiser_and_vectors_do_not_decay():
    model = tiny_decoder(30, tie_word_embeddings=False)
    made = build_optimizers(model, TrainConfig(optimizer="muon", weight_decay=0.1))
    groups = [(type(one).__name__, group, p) for one in made for group in one.param_groups for p in group["params"]]
    assert sorted(id(p) for *_, p in groups) == sorted(id(p) for p in model.parameters())
    by_id = {id(p): (kind, group["weight_decay"]) for kind, group, p in groups}
    assert by_id[id(model.model.layers[0].mlp.up_proj.weight)] == ("Muon", 0.1)
    assert by_id[id(model.model.embed_tokens.weight)] == ("AdamW", 0.1)
    assert by_id[id(model.model.norm.weight)] == ("AdamW", 0.0)
    assert len(build_optimizers(model, TrainConfig(optimizer="adamw"))) == 1


def test_tables_inside_a_block_are_not_for_muon(tokenizer):
    model = tiny_t5(tokenizer)
    made = build_optimizers(model, TrainConfig(optimizer="muon"))
    kinds = {id(p): type(one).__name__ for one in made for group in one.param_groups for p in group["params"]}
    attention = model.decoder.block[0].layer[0].SelfAttention
    assert kinds[id(attention.q.weight)] == "Muon"
    assert kinds[id(attention.relative_attention_bias.weight)] == kinds[id(model.shared.weight)] == "AdamW"
    assert sum(kind == "Muon" for kind in kinds.values()) == 2 * (4 + 3) + 2 * (4 + 4 + 3)
