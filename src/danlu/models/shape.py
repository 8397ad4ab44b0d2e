"""The shape of a decoder: every number that decides its computation."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.models.families import DECODERS, Family
from danlu.models.rotary import RopeScaling

__all__ = ["DecoderConfig"]

_LARGE, _WIDE, _MANY = 2**31, 2**20, 4096  # beyond these a config is damaged, and would ask for the memory of it

Kind = Literal["full_attention", "sliding_attention"]


class DecoderConfig(Config):
    """The shape of a decoder, under Hugging Face's names."""

    vocab_size: PositiveInt = doc(
        32000, "tokens in the vocabulary (taken from the tokenizer)", "词表大小(取自分词器)", le=_LARGE
    )
    hidden_size: PositiveInt = doc(192, "width of the residual stream", "残差流宽度", le=_WIDE)
    num_hidden_layers: PositiveInt = doc(6, "layers", "层数", le=_MANY)
    num_attention_heads: PositiveInt = doc(6, "query heads", "查询头数", le=_WIDE)
    num_key_value_heads: PositiveInt | None = doc(
        None, "key/value heads; default: as many as query heads", "键值头数;默认与查询头数相同", le=_WIDE
    )
    head_dim: PositiveInt | None = doc(
        None, "width of a head; default: hidden_size / heads", "每个头的宽度;默认 hidden_size / heads", le=_WIDE
    )
    intermediate_size: PositiveInt | None = doc(
        None, "inner width of the MLP; default: 8/3 of hidden_size", "前馈层宽度;默认 hidden_size 的 8/3", le=_LARGE
    )
    max_position_embeddings: PositiveInt = doc(
        512, "context: the longest sequence, in tokens", "上下文长度(token 数)", le=_LARGE
    )
    rope_theta: float = doc(10000.0, "base of the rotary frequencies", "旋转位置编码的基数", gt=0, le=1e15)
    rms_norm_eps: float = doc(1e-5, "guards RMSNorm against division by zero", "防止 RMSNorm 除零", gt=0, le=1)
    tie_word_embeddings: bool = doc(True, "input and output embeddings are one matrix", "输入输出共用词嵌入")
    # What follows belongs to some families only; `check` refuses it elsewhere.
    family: str = doc("llama", f"family: {', '.join(DECODERS)}", f"模型家族:{'、'.join(DECODERS)}")
    rope_scaling: RopeScaling | None = doc(None, "reach beyond the learned context", "扩展上下文的方式")
    attention_bias: bool = doc(False, "biases in attention", "注意力投影带偏置")
    mlp_bias: bool = doc(False, "biases in the MLP", "前馈层带偏置")
    sliding_window: PositiveInt | None = doc(
        None, "sliding layers see this many tokens back", "滑动窗口层可见的 token 数", le=_LARGE
    )
    layer_types: tuple[Kind, ...] | None = doc(
        None, "full_attention or sliding_attention, by layer", "各层的注意力类型"
    )
    query_pre_attn_scalar: PositiveInt | None = doc(
        None, "scores are divided by its root; default: head_dim", "分数除以其平方根;默认 head_dim", le=_WIDE
    )
    rope_local_base_freq: PositiveFloat | None = doc(
        None, "rotary base of sliding layers; default 10000", "滑动窗口层的旋转基数;默认 10000", le=1e15
    )
    num_experts: PositiveInt | None = doc(None, "experts of a sparse MLP", "专家数", le=_MANY)
    num_experts_per_tok: PositiveInt = doc(2, "experts that each token visits", "每个 token 使用的专家数")
    moe_intermediate_size: PositiveInt | None = doc(
        None, "inner width of an expert; default: intermediate_size", "专家的宽度;默认 intermediate_size", le=_LARGE
    )
    norm_topk_prob: bool = doc(True, "the chosen experts' weights sum to 1", "所选专家的权重归一")
    router_aux_loss_coef: float = doc(0.001, "weight of the load-balancing loss", "负载均衡损失的权重", ge=0, le=1e6)
    decoder_sparse_step: PositiveInt = doc(1, "every n-th layer is sparse", "每 n 层有一层是稀疏层", le=_LARGE)
    mlp_only_layers: tuple[NonNegativeInt, ...] = doc(
        (), "layers (from 0) with one dense MLP", "使用稠密前馈的层(从 0 计)"
    )

    @property
    def traits(self) -> Family:
        """What the family adds to Llama. Raises ConfigError for a family that there is not."""
        if self.family not in DECODERS:
            raise ConfigError(
                tr(f"family '{self.family}' is not implemented", f"尚未实现模型家族“{self.family}”"),
                tr(f"one of: {', '.join(DECODERS)}", f"可选:{'、'.join(DECODERS)}"),
            )
        return DECODERS[self.family]

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def width_of_head(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def inner(self) -> int:
        """8/3 of the width keeps SwiGLU's three matrices as large as a plain MLP's two; rounded up to 64."""
        return self.intermediate_size or -(-self.hidden_size * 8 // 3 // 64) * 64

    @property
    def expert_inner(self) -> int:
        return self.moe_intermediate_size or self.inner

    @property
    def local_theta(self) -> float:
        return self.rope_local_base_freq or 10000.0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The attention of each layer."""
        if self.layer_types is not None:
            return self.layer_types
        slides = self.traits.slides
        if self.sliding_window is None or slides in ("no", "listed"):
            return ("full_attention",) * self.num_hidden_layers
        if slides == "all":
            return ("sliding_attention",) * self.num_hidden_layers
        return tuple(
            "full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(self.num_hidden_layers)
        )

    def is_sparse(self, layer: int) -> bool:
        """Whether this layer (from 0) routes its tokens to experts."""
        return (
            bool(self.traits.experts)
            and layer not in self.mlp_only_layers
            and (layer + 1) % self.decoder_sparse_step == 0
        )

    def check(self) -> None:
        """Raise ConfigError for a shape that cannot be built, or a setting that the family has not."""
        heads, kv_heads = self.num_attention_heads, self.kv_heads
        if self.head_dim is None and self.hidden_size % heads:
            raise _multiple("hidden_size", self.hidden_size, "num_attention_heads", heads)
        if heads % kv_heads:
            raise _multiple("num_attention_heads", heads, "num_key_value_heads", kv_heads)
        if self.width_of_head % 2:
            raise ConfigError(
                tr(
                    f"head_dim {self.width_of_head} is odd; rotary positions turn pairs",
                    f"head_dim {self.width_of_head} 为奇数;旋转位置编码需要成对的维度",
                )
            )
        if self.rope_scaling is not None:
            self.rope_scaling.check(self.width_of_head, self.rope_theta)
        self._check_family()

    def _check_family(self) -> None:
        every = frozenset().union(*(family.options for family in DECODERS.values()))
        fields = type(self).model_fields
        for name in sorted(every - self.traits.options):
            if getattr(self, name) != fields[name].default:
                raise ConfigError(tr(f"{self.family} has no setting {name}", f"{self.family} 没有 {name} 这一设置"))
        if len(self.kinds) != self.num_hidden_layers:
            raise ConfigError(
                tr(
                    f"layer_types names {len(self.kinds)} layers, num_hidden_layers is {self.num_hidden_layers}",
                    f"layer_types 有 {len(self.kinds)} 层,而 num_hidden_layers 为 {self.num_hidden_layers}",
                )
            )
        slides = "sliding_attention" in self.kinds
        if self.sliding_window is None and (slides or self.traits.gemma):
            raise ConfigError(
                tr(
                    f"{self.family} with sliding layers needs sliding_window",
                    f"{self.family} 的滑动窗口层需要 sliding_window",
                )
            )
        if self.sliding_window is not None and not slides and self.traits.slides == "listed":
            raise ConfigError(
                tr(
                    "sliding_window needs layer_types with sliding_attention",
                    "设置 sliding_window 时,layer_types 中需有 sliding_attention",
                )
            )
        if self.traits.experts and self.num_experts is None:
            raise ConfigError(tr(f"{self.family} needs num_experts", f"{self.family} 需要 num_experts"))
        if self.num_experts is not None and self.num_experts_per_tok > self.num_experts:
            raise ConfigError(
                tr(
                    f"num_experts_per_tok {self.num_experts_per_tok} is more than num_experts {self.num_experts}",
                    f"num_experts_per_tok {self.num_experts_per_tok} 多于 num_experts {self.num_experts}",
                )
            )
        outside = [layer for layer in self.mlp_only_layers if layer >= self.num_hidden_layers]
        if outside:
            raise ConfigError(
                tr(f"mlp_only_layers {outside}: there are no such layers", f"mlp_only_layers {outside}:没有这些层")
            )


def _multiple(name: str, value: int, of: str, unit: int) -> ConfigError:
    return ConfigError(
        tr(f"{name} {value} is not a multiple of {of} {unit}", f"{name} {value} 不能被 {of} {unit} 整除")
    )
