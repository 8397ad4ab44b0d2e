"""ModernBERT's layer (Warner et al. 2024): norms first, rotary positions, a gated MLP, local attention."""

from torch import Tensor, nn

from danlu.models.blocks import View
from danlu.models.encoder_config import EncoderConfig
from danlu.models.parts import Parts, activation_of
from danlu.ops.attention import attention
from danlu.ops.rope import rotate

__all__ = ["ModernLayer", "modern_norm"]


def modern_norm(config: EncoderConfig) -> nn.LayerNorm:
    """LayerNorm, by default without a bias."""
    return nn.LayerNorm(config.hidden_size, config.layer_norm_eps, bias=config.norm_bias)


class ModernLayer(Parts):
    """x + attention(norm(x)), then x + mlp(norm(x)); the first layer's input is normed already."""

    def __init__(self, config: EncoderConfig, number: int) -> None:
        size = config.hidden_size
        parts: dict[str, nn.Module] = {} if number == 0 else {"attention_norm": modern_norm(config)}
        parts["qkv"] = nn.Linear(size, 3 * size, bias=config.attention_bias)
        parts["out"] = nn.Linear(size, size, bias=config.attention_bias)
        parts["mlp_norm"] = modern_norm(config)
        parts["inner"] = nn.Linear(size, 2 * config.inner, bias=config.mlp_bias)
        parts["outer"] = nn.Linear(config.inner, size, bias=config.mlp_bias)
        super().__init__(config.traits.layer, parts)
        self.head_dim = config.head_dim
        self.act = activation_of(config.hidden_act)

    def forward(self, x: Tensor, view: View) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        assert view.rotary is not None
        normed = self["attention_norm"](x) if "attention_norm" in self else x
        q, k, v = self["qkv"](normed).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        cos, sin = (part.to(q.dtype) for part in view.rotary)
        mixed = attention(rotate(q, cos, sin), rotate(k, cos, sin), v, view.mask)
        x = x + self["out"](mixed.transpose(1, 2).flatten(2))
        opened, gate = self["inner"](self["mlp_norm"](x)).chunk(2, dim=-1)
        return x + self["outer"](self.act(opened) * gate)
