"""Rotary positions of a model: one base, one way of reaching beyond the texts it learned on."""

from typing import Literal

import torch
from torch import Tensor

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.ops.rope import (
    dynamic_frequencies,
    inverse_frequencies,
    linear_frequencies,
    llama3_frequencies,
    rotary_angles,
    yarn_attention_factor,
    yarn_frequencies,
)

__all__ = ["RopeScaling", "Rotary"]

_NEEDED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


class RopeScaling(Config):
    """How rotary positions reach beyond the learned context, under Hugging Face's names."""

    rope_type: Literal["linear", "dynamic", "yarn", "llama3"] = doc(..., "kind of scaling", "缩放方式")
    factor: float | None = doc(None, "how many times longer", "扩展的倍数", ge=1, le=1e6)
    original_max_position_embeddings: int | None = doc(
        None, "context before scaling (yarn, llama3)", "缩放前的上下文(yarn、llama3)", gt=0, le=2**31
    )
    attention_factor: float | None = doc(None, "multiplies cos and sin (yarn)", "cos 与 sin 的系数(yarn)", gt=0, le=1e6)
    beta_fast: float = doc(32.0, "turns from which a dial stays (yarn)", "不再缩放的圈数(yarn)", gt=0, le=1e6)
    beta_slow: float = doc(1.0, "turns up to which a dial is slowed fully (yarn)", "完全缩放的圈数(yarn)", gt=0, le=1e6)
    mscale: float | None = doc(None, "numerator of the attention factor (yarn)", "注意力系数的分子(yarn)", ge=0, le=1e6)
    mscale_all_dim: float | None = doc(
        None, "denominator of the attention factor (yarn)", "注意力系数的分母(yarn)", ge=0, le=1e6
    )
    truncate: bool = doc(True, "round the ramp's ends (yarn)", "过渡区两端取整(yarn)")
    low_freq_factor: float | None = doc(
        None, "turns up to which a dial is slowed fully (llama3)", "完全缩放的圈数(llama3)", gt=0, le=1e6
    )
    high_freq_factor: float | None = doc(
        None, "turns from which a dial stays (llama3)", "不再缩放的圈数(llama3)", gt=0, le=1e6
    )

    def need(self, name: str) -> float:
        """The value of a setting that this kind cannot do without. Raises ConfigError when it is absent."""
        value = getattr(self, name)
        if value is None:
            raise ConfigError(tr(f"rope type {self.rope_type} needs {name}", f"RoPE 类型 {self.rope_type} 需要 {name}"))
        return value

    def check(self, head_dim: int, theta: float) -> None:
        """Raise ConfigError naming a setting that this kind needs, or that makes no sense for heads of this width."""
        for name in _NEEDED[self.rope_type]:
            self.need(name)
        if self.rope_type == "dynamic" and head_dim == 2:
            raise ConfigError(tr("rope type dynamic needs head_dim above 2", "RoPE 类型 dynamic 需要 head_dim 大于 2"))
        if self.rope_type == "yarn" and theta <= 1:
            raise ConfigError(tr("rope type yarn needs rope_theta above 1", "RoPE 类型 yarn 需要 rope_theta 大于 1"))
        if self.rope_type == "llama3" and self.need("high_freq_factor") <= self.need("low_freq_factor"):
            raise ConfigError(
                tr("high_freq_factor must be greater than low_freq_factor", "high_freq_factor 必须大于 low_freq_factor")
            )


class Rotary:
    """Positions to cos and sin. No parameters; the frequencies follow the device of the positions."""

    def __init__(self, head_dim: int, theta: float, context: int, scaling: RopeScaling | None = None) -> None:
        self.head_dim, self.theta, self.context, self.scaling = head_dim, theta, context, scaling
        self.attention_factor = 1.0
        if scaling is not None and scaling.rope_type == "yarn":
            self.attention_factor = scaling.attention_factor or yarn_attention_factor(
                scaling.need("factor"), scaling.mscale, scaling.mscale_all_dim
            )
        self._frequencies = self._scaled(0)

    def __call__(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] -> cos, sin, float32 [B, 1, T, head_dim]."""
        if self.scaling is not None and self.scaling.rope_type == "dynamic":
            # The longest sequence of the pass decides, as in transformers; cached keys keep the base they were
            # turned by, so beyond the learned context generation with a cache is not the single pass exactly.
            frequencies = self._scaled(int(position_ids.max()) + 1).to(position_ids.device)
        else:
            if self._frequencies.device != position_ids.device:
                self._frequencies = self._frequencies.to(position_ids.device)
            frequencies = self._frequencies
        cos, sin = rotary_angles(position_ids, frequencies)
        if self.attention_factor != 1.0:
            cos, sin = cos * self.attention_factor, sin * self.attention_factor
        return cos, sin

    def each(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """As a call, but where the scaling follows the length, each token is turned by the base for its own position.

        So a token's angles do not depend on what else is in the pass, which is what requests that share a pass, or the
        pages of a prefix, need. Up to the learned context nothing differs.
        """
        if self.scaling is None or self.scaling.rope_type != "dynamic":
            return self(position_ids)
        lengths, place = torch.unique(position_ids.clamp_min(self.context - 1) + 1, return_inverse=True)
        table = torch.stack([self._scaled(int(length)) for length in lengths.tolist()]).to(position_ids.device)
        angles = position_ids[..., None].float() * table[place]
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        return angles.cos(), angles.sin()

    def _scaled(self, length: int) -> Tensor:
        scaling = self.scaling
        plain = inverse_frequencies(self.head_dim, self.theta)
        if scaling is None:
            return plain
        if scaling.rope_type == "linear":
            return linear_frequencies(plain, scaling.need("factor"))
        if scaling.rope_type == "dynamic":
            return dynamic_frequencies(self.head_dim, self.theta, scaling.need("factor"), self.context, length)
        original = int(scaling.need("original_max_position_embeddings"))
        if scaling.rope_type == "llama3":
            return llama3_frequencies(
                plain,
                scaling.need("factor"),
                scaling.need("low_freq_factor"),
                scaling.need("high_freq_factor"),
                original,
            )
        return yarn_frequencies(
            self.head_dim,
            self.theta,
            scaling.need("factor"),
            original,
            scaling.beta_fast,
            scaling.beta_slow,
            scaling.truncate,
        )
