import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from danlu.models.blocks import GatedMLP, RMSNorm


def test_rms_norm_equals_transformers_and_a_hand_computed_value():
    torch.manual_seed(0)
    mine, theirs = RMSNorm(8, 1e-5), LlamaRMSNorm(8, 1e-5)
    mine.weight.data = torch.randn(8)
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(mine(x), theirs(x))
    # rms of (3, 4) is sqrt(12.5)
    told = RMSNorm(2, 0.0)(torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(told, torch.tensor([3.0, 4.0]) / 12.5**0.5)


def test_gated_mlp_equals_transformers():
    torch.manual_seed(0)
    mine, theirs = GatedMLP(8, 20), LlamaMLP(LlamaConfig(hidden_size=8, intermediate_size=20, num_attention_heads=2))
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(mine(x), theirs(x))
