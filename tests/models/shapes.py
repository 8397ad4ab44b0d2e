"""Tiny configs of every family, as config.json has them: what walks all models is tried on these."""

from typing import Any

import torch

from danlu.models import auto
from danlu.models.base import LanguageModel

_DECODER: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
_ENCODER: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _DECODER,
    "llama tied": {**_DECODER, "model_type": "llama", "tie_word_embeddings": True},
    "llama biased": {**_DECODER, "model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "mistral": {**_DECODER, "sliding_window": 20},
    "qwen2": _DECODER,
    "qwen3": {**_DECODER, "tie_word_embeddings": True},
    "gemma3_text": {**_DECODER, "num_hidden_layers": 7, "sliding_window": 20, "tie_word_embeddings": True},
    "mixtral": {**_DECODER, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen3_moe": {
        **_DECODER,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "mlp_only_layers": [1],
    },
    "gpt2": {"vocab_size": 61, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
    "bert": {**_ENCODER, "architectures": ["BertForMaskedLM"]},
    "roberta": {**_ENCODER, "architectures": ["RobertaForMaskedLM"], "pad_token_id": 1},
    "distilbert": {
        **{"vocab_size": 61, "dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4},
        **{"max_position_embeddings": 128, "architectures": ["DistilBertForMaskedLM"]},
    },
    "modernbert": {**_ENCODER, "architectures": ["ModernBertForMaskedLM"], "local_attention": 16},
    "t5": {
        **{"vocab_size": 61, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4},
        **{"num_decoder_layers": 3, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": True},
    },
}
HERE = [name for name in CONFIGS if name.partition(" ")[0] in auto.FAMILIES]
DECODERS = [
    name for name in HERE if name.partition(" ")[0] not in ("bert", "roberta", "distilbert", "modernbert", "t5")
]


def config_of(name: str) -> dict[str, Any]:
    """The config.json of one of `CONFIGS`."""
    return {"model_type": name.partition(" ")[0], **CONFIGS[name]}


def built(name: str, seed: int = 0) -> LanguageModel:
    """A random model of that shape."""
    torch.manual_seed(seed)
    model = auto.build(config_of(name))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    return model.eval()
