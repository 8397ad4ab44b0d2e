"""The shape of an encoder, and its `config.json` as Hugging Face writes it."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError, FolderError
from danlu.core.i18n import tr
from danlu.models.encoders import ENCODERS, HEADS, EncoderFamily, Head
from danlu.models.hub import NEUTRAL, check_size, refuse_unknown, refused, setting_map
from danlu.models.parts import activation_of

__all__ = ["EncoderConfig", "read_encoder_config", "write_encoder_config"]

_LARGE, _WIDE, _MANY = 2**31, 2**20, 4096  # beyond these a config is damaged, and would ask for the memory of it
Kind = Literal["full_attention", "sliding_attention"]
_NEEDED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_COMMON = (*_NEEDED, "max_position_embeddings", "hidden_act", "classifier_dropout", "pad_token_id", "tie_word_embeddings", "problem_type")  # fmt: skip
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")  # modernbert's own are all 0, or refused
# Beside the decoders': how weights start, how kernels run, heads that are not built.
_NEUTRAL = NEUTRAL | {
    "cls_token_id", "deterministic_flash_attn", "directionality", "finetuning_task", "gradient_checkpointing", "initializer_cutoff_factor",
    "output_past", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "qa_dropout",
    "reference_compile", "repad_logits_with_grad", "sep_token_id", "sinusoidal_pos_embds", "sparse_pred_ignore_index", "sparse_prediction",
    "_num_labels", "num_labels",
}  # fmt: skip
_ONLY = {"position_embedding_type": "absolute", "pooler_type": "first_token_transform"}
_ROPE = frozenset({"rope_parameters", "global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"})


class EncoderConfig(Config):
    """The shape of an encoder, under the names that Hugging Face gives BERT's; others' are in encoders.py.

    Dropout is off unless asked for: a folder's config.json brings the shares it was trained with.
    """

    family: str = doc("bert", f"family: {', '.join(ENCODERS)}", f"模型家族：{'、'.join(ENCODERS)}")
    head: Head = doc("masked-lm", f"what it predicts: {', '.join(HEADS)}", f"预测什么：{'、'.join(HEADS)}")
    vocab_size: PositiveInt = doc(
        30522, "tokens in the vocabulary (taken from the tokenizer)", "词表大小（取自分词器）", le=_LARGE
    )
    hidden_size: PositiveInt = doc(192, "width of the residual stream", "残差流宽度", le=_WIDE)
    num_hidden_layers: PositiveInt = doc(6, "layers", "层数", le=_MANY)
    num_attention_heads: PositiveInt = doc(6, "attention heads", "注意力头数", le=_WIDE)
    intermediate_size: PositiveInt | None = doc(
        None, "inner width of the MLP; default: 4 times hidden_size", "前馈层宽度；默认 hidden_size 的 4 倍", le=_LARGE
    )
    max_position_embeddings: PositiveInt = doc(
        512,
        "positions that it knows (roberta uses up pad_token_id + 1 of them)",
        "位置总数（roberta 占去 pad_token_id + 1 个）",
        le=_LARGE,
    )
    hidden_act: str = doc("gelu", "activation of the MLP", "前馈层的激活函数")
    layer_norm_eps: float = doc(1e-12, "guards LayerNorm against division by zero", "防止 LayerNorm 除零", gt=0, le=1)
    hidden_dropout_prob: float = doc(
        0.0, "share of each block's output dropped in training", "训练时各块输出的丢弃比例", ge=0, lt=1
    )
    attention_probs_dropout_prob: float = doc(
        0.0, "share of attention weights dropped in training", "训练时注意力权重的丢弃比例", ge=0, lt=1
    )
    classifier_dropout: float | None = doc(
        None,
        "share dropped before a classifier; default: hidden_dropout_prob",
        "分类层前的丢弃比例；默认同 hidden_dropout_prob",
        ge=0,
        lt=1,
    )
    pad_token_id: NonNegativeInt = doc(0, "token that pads", "填充用的 token", le=_LARGE)
    tie_word_embeddings: bool = doc(True, "input and output embeddings are one matrix", "输入输出共用词嵌入")
    labels: tuple[str, ...] = doc(("LABEL_0", "LABEL_1"), "names of the classes, by number", "类别名，按编号")
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = doc(
        None, "what a sequence classifier's numbers mean", "序列分类输出的含义"
    )
    # What follows belongs to some families only; `check` refuses it elsewhere.
    type_vocab_size: PositiveInt = doc(
        2, "kinds of segments (first and second sentence)", "句段类型数（前句、后句）", le=_WIDE
    )
    attention_bias: bool = doc(False, "biases in attention (modernbert)", "注意力投影带偏置（modernbert）")
    mlp_bias: bool = doc(False, "biases in the MLP (modernbert)", "前馈层带偏置（modernbert）")
    norm_bias: bool = doc(False, "biases in norms (modernbert)", "归一化带偏置（modernbert）")
    decoder_bias: bool = doc(True, "bias of the output matrix (modernbert)", "输出矩阵带偏置（modernbert）")
    classifier_bias: bool = doc(
        False, "bias of the head's dense layer (modernbert)", "头部全连接层带偏置（modernbert）"
    )
    classifier_activation: str = doc("gelu", "activation of the head (modernbert)", "头部激活函数（modernbert）")
    classifier_pooling: Literal["cls", "mean"] = doc(
        "cls", "what a sequence classifier reads (modernbert)", "序列分类所读（modernbert）"
    )
    local_attention: PositiveInt = doc(
        128,
        "sliding layers see half of this to either side (modernbert)",
        "滑动窗口层向两侧各看一半（modernbert）",
        le=_LARGE,
    )
    layer_types: tuple[Kind, ...] | None = doc(
        None,
        "attention by layer; default: every third is full (modernbert)",
        "各层的注意力类型；默认每三层一层全局（modernbert）",
    )
    rope_theta: float = doc(
        160000.0, "rotary base of full layers (modernbert)", "全局层的旋转基数（modernbert）", gt=0, le=1e15
    )
    local_rope_theta: float = doc(
        10000.0, "rotary base of sliding layers (modernbert)", "滑动窗口层的旋转基数（modernbert）", gt=0, le=1e15
    )

    @property
    def traits(self) -> EncoderFamily:
        """What the family calls its parts. Raises ConfigError for a family that there is not."""
        if self.family not in ENCODERS:
            raise ConfigError(
                tr(f"family '{self.family}' is not implemented", f"尚未实现模型家族“{self.family}”"),
                tr(f"one of: {', '.join(ENCODERS)}", f"可选：{'、'.join(ENCODERS)}"),
            )
        return ENCODERS[self.family]

    @property
    def inner(self) -> int:
        return self.intermediate_size or 4 * self.hidden_size

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The attention of each layer."""
        if self.layer_types is not None:
            return self.layer_types
        if not self.traits.modern:
            return ("full_attention",) * self.num_hidden_layers
        return tuple("sliding_attention" if layer % 3 else "full_attention" for layer in range(self.num_hidden_layers))

    @property
    def first_position(self) -> int:
        """The row of the position table that a text's first token gets."""
        return self.pad_token_id + 1 if self.traits.pads_first else 0

    def dropout_of(self, setting: str | None) -> float:
        """The share that a head drops, by the setting's name."""
        if setting is None:
            return 0.0
        share = getattr(self, setting)
        return self.hidden_dropout_prob if share is None else share

    def check(self) -> None:
        """Raise ConfigError for a shape that cannot be built, or a setting that the family has not."""
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                tr(
                    f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}",
                    f"hidden_size {self.hidden_size} 不能被 num_attention_heads {self.num_attention_heads} 整除",
                )
            )
        if self.traits.modern and self.head_dim % 2:
            raise ConfigError(
                tr(
                    f"head_dim {self.head_dim} is odd; rotary positions turn pairs",
                    f"head_dim {self.head_dim} 为奇数；旋转位置编码需要成对的维度",
                )
            )
        for setting in ("hidden_act", "classifier_activation"):
            activation_of(getattr(self, setting), setting)
        if self.first_position >= self.max_position_embeddings:
            raise ConfigError(
                tr(
                    f"max_position_embeddings {self.max_position_embeddings} leaves no position after pad_token_id {self.pad_token_id}",
                    f"max_position_embeddings {self.max_position_embeddings} 在 pad_token_id {self.pad_token_id} 之后没有剩余位置",
                )
            )
        if len(self.kinds) != self.num_hidden_layers:
            raise ConfigError(
                tr(
                    f"layer_types names {len(self.kinds)} layers, num_hidden_layers is {self.num_hidden_layers}",
                    f"layer_types 有 {len(self.kinds)} 层，而 num_hidden_layers 为 {self.num_hidden_layers}",
                )
            )
        if not self.labels:
            raise ConfigError(tr("labels is empty", "labels 为空"))
        self._check_family()

    def _check_family(self) -> None:
        every = frozenset().union(*(family.options for family in ENCODERS.values()))
        absent = set(every - self.traits.options)
        if self.traits.modern:
            absent |= {"hidden_dropout_prob", "attention_probs_dropout_prob"}
        for name in sorted(absent):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ConfigError(tr(f"{self.family} has no setting {name}", f"{self.family} 没有 {name} 这一设置"))


def read_encoder_config(config: Mapping[str, Any], where: str) -> EncoderConfig:
    """The shape that a config.json describes; `architectures` tells the head.

    Raises FolderError or ConfigError naming `where` and a setting that is missing, wrong or not implemented.
    """
    model_type = config["model_type"]
    family = ENCODERS[model_type]
    named = {setting: family.renamed.get(setting, setting) for setting in _settings(family)}
    known = {*_NEUTRAL, *named.values(), *(_ROPE if family.modern else ())} - {"rope_theta"}
    if family.modern:
        known.add("layer_norm_eps")  # older files say it twice
    refuse_unknown(config, known, _ONLY, where)
    values = dict(family.assumed)
    values |= {setting: config[key] for setting, key in named.items() if config.get(key) is not None}
    for setting in _NEEDED:
        if values.get(setting) is None:
            raise FolderError(tr(f"{where}: {named[setting]} is missing", f"{where}：缺少 {named[setting]}"))
        check_size(values, setting, where)
    values |= {"family": model_type, "head": _head_of(config, family, where), "labels": _labels_of(config, where)}
    if family.modern:
        _read_local(values, config, where)
    shape = EncoderConfig.parse(values, where)
    try:
        shape.check()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.what}", error.do) from None
    return shape


def _settings(family: EncoderFamily) -> tuple[str, ...]:
    return (*_COMMON, *(() if family.modern else _DROPOUTS), *sorted(family.options))


def _head_of(config: Mapping[str, Any], family: EncoderFamily, where: str) -> Head:
    names: dict[str, Head] = {family.stem + ending: head for head, ending in HEADS.items()}
    told = config.get("architectures") or []
    name = told[0] if isinstance(told, list) and len(told) == 1 else None
    if not isinstance(name, str) or name not in names:
        raise FolderError(
            tr(f"{where}: architectures {told!r} is not implemented", f"{where}：尚未实现 architectures {told!r}"),
            tr(f"one of: {', '.join(names)}", f"应为其中之一：{'、'.join(names)}"),
        )
    return names[name]


def _labels_of(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The names of the classes: id2label, else as many LABEL_n as num_labels says, else two as in transformers."""
    given = setting_map(config, "id2label", where)
    if given:
        names = {str(number): name for number, name in given.items()}
        if names.keys() != {str(number) for number in range(len(names))}:
            raise ConfigError(
                tr(
                    f"{where}: id2label does not count from 0: {given!r}",
                    f"{where}：id2label 未从 0 连续编号：{given!r}",
                )
            )
        return tuple(str(names[str(number)]) for number in range(len(names)))
    key = "num_labels" if config.get("num_labels") is not None else "_num_labels"  # the older name
    check_size(config, key, where)
    count = config.get(key) or 2
    if count > _WIDE:
        raise refused(where, key, count)
    return tuple(f"LABEL_{number}" for number in range(count))


def _read_local(values: dict[str, Any], config: Mapping[str, Any], where: str) -> None:
    """Which layers of ModernBERT look near only, and the rotary base of either kind, in today's words or older ones."""
    period = config.get("global_attn_every_n_layers") or 3
    check_size({"global_attn_every_n_layers": period}, "global_attn_every_n_layers", where)
    if "layer_types" not in values:
        kinds = ("full_attention", "sliding_attention")
        layers = min(values["num_hidden_layers"], _MANY + 1)  # more are refused below, without a list of them
        values["layer_types"] = [kinds[layer % period > 0] for layer in range(layers)]
    rope = setting_map(config, "rope_parameters", where)
    older = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
    ours = {"full_attention": "rope_theta", "sliding_attention": "local_rope_theta"}
    if rope.keys() - ours:
        raise refused(where, "rope_parameters", rope)
    for kind, key in older.items():
        told = setting_map(rope, kind, where)
        if told.get("rope_type", "default") != "default" or told.keys() - {"rope_type", "rope_theta"}:
            raise refused(where, f"rope_parameters.{kind}", told)
        base = told.get("rope_theta") or config.get(key)
        if base is not None:
            values[ours[kind]] = base


def write_encoder_config(shape: EncoderConfig, dtype: str) -> dict[str, Any]:
    """`config.json` as `transformers` reads it. dtype: of the weights, such as "float32"."""
    family = shape.traits
    plain = shape.plain() | {
        "intermediate_size": shape.inner,
        "classifier_dropout": shape.dropout_of("classifier_dropout"),
        "layer_types": list(shape.kinds),
    }
    config = {"architectures": [family.stem + HEADS[shape.head]], "model_type": shape.family}
    config |= {family.renamed.get(name, name): plain[name] for name in _settings(family)}
    if shape.head in ("sequence-classification", "token-classification"):
        config["id2label"] = {str(number): name for number, name in enumerate(shape.labels)}
        config["label2id"] = {name: number for number, name in enumerate(shape.labels)}
    if family.modern:
        # left out, they would be those of ModernBERT's own vocabulary
        config |= dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
        bases = {"full_attention": config.pop("rope_theta"), "sliding_attention": config.pop("local_rope_theta")}
        config["rope_parameters"] = {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()}
    return {**config, "dtype": dtype}
