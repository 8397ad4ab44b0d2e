import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from danlu.models.base import KVCache
from danlu.models.blocks import Attention, DecoderLayer, GatedMLP, RMSNorm, View
from danlu.ops.rope import inverse_frequencies, rotary_angles


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


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_with_a_cache_equals_attention_without(kv_heads):
    """Token by token, the second row two tokens ahead of the first."""
    torch.manual_seed(0)
    block = Attention(16, 4, kv_heads, 4)
    x = torch.randn(2, 7, 16)
    frequencies = inverse_frequencies(4, 10000.0)
    positions = torch.arange(7).expand(2, 7)
    with torch.no_grad():
        whole = block(x, View(rotary_angles(positions, frequencies), None), None, 0)
        cache = KVCache(1, 2, kv_heads, 7, 4, torch.float32, torch.device("cpu"))
        for row, start in ((0, 1), (1, 3)):
            cache.select(row, positions[:1, :start])
            block(x[row : row + 1, :start], View(rotary_angles(positions[:1, :start], frequencies), None), cache, 0)
        for step in range(4):
            at = torch.tensor([[1 + step], [3 + step]])
            cache.select(0, at)
            new = torch.stack([x[0, 1 + step], x[1, 3 + step]])[:, None]
            told = block(new, View(rotary_angles(at, frequencies), None), cache, 0)
            torch.testing.assert_close(told[0, 0], whole[0, 1 + step], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(told[1, 0], whole[1, 3 + step], atol=1e-6, rtol=1e-5)


def test_the_residual_stream_is_only_added_to():
    torch.manual_seed(0)
    layer = DecoderLayer(Attention(16, 4, 2, 4), GatedMLP(16, 24), 16, 1e-5)
    torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
    torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    x = torch.randn(2, 5, 16)
    rotary = rotary_angles(torch.arange(5).expand(2, 5), inverse_frequencies(4, 10000.0))
    assert torch.equal(layer(x, View(rotary, None), None, 0), x)
