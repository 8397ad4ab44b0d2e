"""A decoder's `config.json`, as Hugging Face writes it, to a shape and back.

What decides the computation is read; what is known not to is passed over; anything else is refused by name.
"""

from collections.abc import Collection, Mapping
from typing import Any

from danlu.core.errors import ConfigError, FolderError
from danlu.core.i18n import tr
from danlu.models.families import DECODERS, Family
from danlu.models.shape import DecoderConfig

__all__ = ["NEUTRAL", "check_size", "read_config", "refuse_unknown", "refused", "setting_map", "write_config"]

# Names, ids, bookkeeping and defaults of generation: none of them is in a forward pass.
NEUTRAL = frozenset(
    {
        "_attn_implementation_autoset", "_name_or_path", "_sliding_window_pattern", "architectures", "bos_token_id", "cache_implementation",
        "chunk_size_feed_forward", "diversity_penalty", "dtype", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id", "id2label",
        "initializer_range", "is_llama_config", "label2id", "length_penalty", "max_length", "max_window_layers", "min_length", "model_type",
        "num_beam_groups", "num_beams", "num_return_sequences", "output_router_logits", "pad_token_id", "quantization_config",
        "repetition_penalty", "return_dict", "sliding_window_pattern", "task_specific_params", "temperature", "tokenizer_class", "top_k", "top_p",
        "torch_dtype", "transformers.js_config", "transformers_version", "typical_p", "unsloth_fixed", "unsloth_version", "use_cache",
    }
)  # fmt: skip
_ONLY = {"pretraining_tp": 1, "partial_rotary_factor": 1.0}  # known, with the one value that changes nothing
_COMMON = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
)  # fmt: skip
_ROPE = frozenset(
    {"rope_theta", "rope_parameters", "rope_scaling", "rope_local_base_freq", "original_max_position_embeddings"}
)


def read_config(config: Mapping[str, Any], where: str) -> DecoderConfig:
    """The shape that a config.json describes.

    Raises FolderError or ConfigError naming `where` and a setting that is missing, wrong or not implemented.
    """
    model_type = config["model_type"]
    family = DECODERS[model_type]
    said = {**family.assumed, **config}
    if family.experts and "num_local_experts" in config:  # transformers writes either name, whatever the family
        said["num_experts"] = config["num_local_experts"]
    _refuse_unknown(config, family, where)
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        if said.get(key) is None:
            raise FolderError(tr(f"{where}: {key} is missing", f"{where}:缺少 {key}"))
    for key in ("num_hidden_layers", "max_window_layers", "sliding_window_pattern", "_sliding_window_pattern"):
        check_size(said, key, where)
    if not isinstance(said.get("layer_types"), list | None):
        raise ConfigError(tr(f"{where}: layer_types is not a list", f"{where}:layer_types 不是列表"))
    values = {key: said[key] for key in (*_COMMON, *family.options) if said.get(key) is not None}
    values["family"] = model_type
    _read_window(values, said, family)
    _read_rope(values, said, family, where)
    shape = DecoderConfig.parse(values, where)
    try:
        shape.check()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.what}", error.do) from None
    return shape


def _refuse_unknown(config: Mapping[str, Any], family: Family, where: str) -> None:
    known = {*NEUTRAL, *_COMMON, *_ROPE, *family.options, *family.assumed, *family.renamed.values()}
    if family.experts:
        known |= {"num_experts", "num_local_experts"}
    allowed = {**_ONLY, "hidden_act": family.activation, "hidden_activation": family.activation}
    refuse_unknown(config, known, allowed, where)


def refuse_unknown(config: Mapping[str, Any], known: Collection[str], allowed: Mapping[str, Any], where: str) -> None:
    """Raise FolderError naming a setting that asks for something and is neither known nor has its allowed value."""
    for key, value in config.items():
        if key in known or not value or (key in allowed and value == allowed[key]):
            continue  # what is absent, false, zero or empty asks for nothing
        raise FolderError(
            tr(f"{where}: {key} {value!r} is not implemented", f"{where}:尚未实现 {key} {value!r}"),
            tr(f"implemented: {allowed[key]!r}", f"已实现:{allowed[key]!r}")
            if key in allowed
            else tr(
                f"{config['model_type']} of danlu knows no such setting",
                f"danlu 的 {config['model_type']} 没有这一设置",
            ),
        )


def _read_window(values: dict[str, Any], said: Mapping[str, Any], family: Family) -> None:
    """`use_sliding_window` switches the window off; `max_window_layers` is the older way to say `layer_types`."""
    if "use_sliding_window" in family.assumed and not said["use_sliding_window"]:
        values.pop("sliding_window", None)
    if family.slides == "listed" and "sliding_window" in values and "layer_types" not in values:
        full, layers = said["max_window_layers"] or family.assumed["max_window_layers"], said["num_hidden_layers"]
        values["layer_types"] = ["full_attention" if layer < full else "sliding_attention" for layer in range(layers)]
    if family.slides == "listed" and "sliding_attention" not in values.get("layer_types", ()):
        values.pop("sliding_window", None)  # nothing slides
    if family.gemma and "layer_types" not in values:
        period = said.get("sliding_window_pattern") or said.get("_sliding_window_pattern") or 6
        kinds = ("sliding_attention", "full_attention")
        values["layer_types"] = [kinds[(layer + 1) % period == 0] for layer in range(said["num_hidden_layers"])]


def _read_rope(values: dict[str, Any], said: Mapping[str, Any], family: Family, where: str) -> None:
    """Base and scaling, from `rope_parameters` (flat, or by layer type) or the older `rope_theta` and `rope_scaling`."""
    given, older = setting_map(said, "rope_parameters", where), setting_map(said, "rope_scaling", where)
    local: dict[str, Any] = {}
    if family.gemma and given.keys() & {"full_attention", "sliding_attention"}:
        local, full = setting_map(given, "sliding_attention", where), setting_map(given, "full_attention", where)
        given = {key: value for key, value in given.items() if key not in ("full_attention", "sliding_attention")}
        if given:
            raise refused(where, "rope_parameters", given)
        given = {**full, **older}
    else:
        given = dict(older or given)
    if local.get("rope_type", local.get("type", "default")) != "default" or local.keys() - {
        "rope_type",
        "type",
        "rope_theta",
    }:
        raise refused(where, "rope_parameters.sliding_attention", local)
    if family.gemma:
        values["rope_local_base_freq"] = local.get("rope_theta", said["rope_local_base_freq"])
    values["rope_theta"] = given.pop("rope_theta", None) or said["rope_theta"] or family.assumed["rope_theta"]
    kind = given.pop("rope_type", None) or given.get("type", "default")
    given.pop("type", None)
    if given.pop("partial_rotary_factor", 1.0) not in (None, 1.0):
        raise refused(where, "partial_rotary_factor", said)
    if kind == "default":
        return
    if kind not in ("linear", "dynamic", "yarn", "llama3"):
        raise refused(where, "rope_type", kind)
    scaling = {key: value for key, value in given.items() if value is not None}
    if kind in ("yarn", "llama3"):
        scaling.setdefault("original_max_position_embeddings", said["max_position_embeddings"])
        if said.get("original_max_position_embeddings"):
            scaling["original_max_position_embeddings"] = said["original_max_position_embeddings"]
    if kind == "yarn" and "factor" not in scaling:
        for settings, key in ((said, "max_position_embeddings"), (scaling, "original_max_position_embeddings")):
            check_size(settings, key, where)
        scaling["factor"] = said["max_position_embeddings"] / scaling["original_max_position_embeddings"]
    values["rope_scaling"] = {"rope_type": kind, **scaling}


def setting_map(settings: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """A setting that is a mapping, empty where it is absent. Raises ConfigError for anything else."""
    value = settings.get(key) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(tr(f"{where}: {key} is not a mapping: {value!r}", f"{where}:{key} 不是映射:{value!r}"))
    return dict(value)


def check_size(settings: Mapping[str, Any], key: str, where: str) -> None:
    """Positive whole numbers of a size that a model can have, for what is computed with before the shape checks it."""
    value = settings.get(key)
    most = 4096 if key == "num_hidden_layers" else 2**31  # a list is made of the layers
    if value is not None and not (isinstance(value, int) and 0 < value <= most):
        raise ConfigError(tr(f"{where}: {key} is not a size: {value!r}", f"{where}:{key} 不是合理的大小:{value!r}"))


def refused(where: str, key: str, value: object) -> FolderError:
    """The error that names a setting with a value that is not implemented."""
    return FolderError(tr(f"{where}: {key} {value!r} is not implemented", f"{where}:尚未实现 {key} {value!r}"))


def write_config(shape: DecoderConfig, dtype: str) -> dict[str, Any]:
    """`config.json` as `transformers` reads it. dtype: of the weights, such as "float32"."""
    family = shape.traits
    plain = shape.plain()
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": shape.rope_theta}
    if shape.rope_scaling is not None:
        rope |= _scaling(shape)
    config = {
        "architectures": [family.architecture],
        "model_type": shape.family,
        **{key: plain[key] for key in _COMMON},
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.width_of_head,
        "intermediate_size": shape.inner,
        **{family.renamed.get(key, key): plain[key] for key in sorted(family.options)},
        family.activation_key: family.activation,
        "rope_theta": shape.rope_theta,
        "rope_parameters": rope,
        "dtype": dtype,
    }
    if "use_sliding_window" in family.assumed:
        config["use_sliding_window"] = shape.sliding_window is not None
    if "layer_types" in family.options:
        config["layer_types"] = list(shape.kinds)
    if "moe_intermediate_size" in family.options:
        config["moe_intermediate_size"] = shape.expert_inner
    if family.gemma:
        local = {"rope_type": "default", "rope_theta": shape.local_theta}
        config["rope_local_base_freq"] = shape.local_theta
        config["rope_parameters"] = {"full_attention": rope, "sliding_attention": local}
        config["query_pre_attn_scalar"] = shape.query_pre_attn_scalar or shape.width_of_head
    return config


def _scaling(shape: DecoderConfig) -> dict[str, Any]:
    """The scaling's settings that its kind uses."""
    assert shape.rope_scaling is not None
    used = {
        "yarn": (
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ),
        "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    }.get(shape.rope_scaling.rope_type, ("factor",))
    plain = shape.rope_scaling.plain()
    return {"rope_type": shape.rope_scaling.rope_type} | {key: plain[key] for key in used if plain[key] is not None}
