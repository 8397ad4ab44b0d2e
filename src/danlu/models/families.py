"""The families of decoders as a table of differences: what each one adds to Llama."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["DECODERS", "Family"]


@dataclass(frozen=True)
class Family:
    """What one `model_type` has that Llama has not. `assumed` is what its config.json means by leaving a key out."""

    architecture: str  # the class with which `transformers` opens it
    assumed: Mapping[str, Any]
    options: frozenset[str] = frozenset()  # settings of DecoderConfig that not every family has
    qkv_bias: bool = False  # q, k and v have a bias whatever the config says, o has none
    qk_norm: bool = False  # RMSNorm of each query and key head before the rotation
    slides: Literal["no", "all", "listed", "five of six"] = "no"  # which layers see a window only
    experts: Literal["", "mlp", "block_sparse_moe"] = ""  # the name under which a layer holds its experts
    activation: Literal["silu", "gelu_pytorch_tanh"] = "silu"
    renamed: Mapping[str, str] = field(default_factory=dict)  # our setting -> the key of config.json
    gemma: bool = False  # (1 + weight) norms, norms after each block too, scaled embeddings, two rotary bases

    @property
    def activation_key(self) -> str:
        return "hidden_activation" if self.gemma else "hidden_act"


_LLAMA = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "max_position_embeddings": 2048, "rope_theta": 10000.0}
_QWEN = {
    **_LLAMA,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "use_sliding_window": False,
    "max_window_layers": 28,
}
_EXPERTS = frozenset({"num_experts", "num_experts_per_tok", "router_aux_loss_coef"})

DECODERS: dict[str, Family] = {
    # Touvron et al. 2023; Grattafiori et al. 2024
    "llama": Family("LlamaForCausalLM", _LLAMA, frozenset({"attention_bias", "mlp_bias"})),
    # Jiang et al. 2023
    "mistral": Family(
        "MistralForCausalLM",
        {**_LLAMA, "max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096},
        frozenset({"sliding_window"}),
        slides="all",
    ),
    # Yang et al. 2024
    "qwen2": Family(
        "Qwen2ForCausalLM",
        {**_QWEN, "num_key_value_heads": 32},
        frozenset({"sliding_window", "layer_types"}),
        qkv_bias=True,
        slides="listed",
    ),
    # Yang et al. 2025
    "qwen3": Family(
        "Qwen3ForCausalLM",
        {**_QWEN, "num_key_value_heads": 32, "head_dim": 128},
        frozenset({"attention_bias", "sliding_window", "layer_types"}),
        qk_norm=True,
        slides="listed",
    ),
    # Gemma Team 2025
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        {
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "max_position_embeddings": 131072,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
        },
        frozenset({"attention_bias", "sliding_window", "layer_types", "query_pre_attn_scalar", "rope_local_base_freq"}),
        qk_norm=True,
        slides="five of six",
        activation="gelu_pytorch_tanh",
        gemma=True,
    ),
    # Jiang et al. 2024
    "mixtral": Family(
        "MixtralForCausalLM",
        {
            **_LLAMA,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131072,
            "num_key_value_heads": 8,
            "rope_theta": 1e6,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "router_aux_loss_coef": 0.001,
        },
        _EXPERTS | {"sliding_window"},
        slides="all",
        experts="block_sparse_moe",
        renamed={"num_experts": "num_local_experts"},
    ),
    # Yang et al. 2025
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM",
        {
            **_QWEN,
            "num_key_value_heads": 4,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "norm_topk_prob": False,
            "router_aux_loss_coef": 0.001,
        },
        _EXPERTS
        | {
            "attention_bias",
            "sliding_window",
            "moe_intermediate_size",
            "norm_topk_prob",
            "decoder_sparse_step",
            "mlp_only_layers",
        },
        qk_norm=True,
        slides="all",
        experts="mlp",
    ),
}
