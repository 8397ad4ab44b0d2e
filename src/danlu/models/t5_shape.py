"""The shape of a T5, and its `config.json` as Hugging Face writes it."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from danlu.core.config import Config, doc
from danlu.core.errors import ConfigError, FolderError
from danlu.core.i18n import tr
from danlu.models.hub import NEUTRAL, refuse_unknown

__all__ = ["T5Config", "read_t5", "write_t5"]

_LARGE, _WIDE, _MANY = 2**31, 2**20, 4096  # beyond these a config is damaged, and would ask for the memory of it

_NEUTRAL = NEUTRAL | {"classifier_dropout", "initializer_factor", "is_decoder", "is_encoder_decoder", "output_past"}
# What older files leave out, as the first T5 had it.
_ASSUMED = {
    "feed_forward_proj": "relu",
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.1,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
_NEEDED = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")


class T5Config(Config):
    """The shape of a T5, under Hugging Face's names. The defaults are a small one of the v1.1 layout."""

    vocab_size: PositiveInt = doc(
        32128, "tokens in the vocabulary (taken from the tokenizer)", "词表大小(取自分词器)", le=_LARGE
    )
    d_model: PositiveInt = doc(192, "width of the residual stream", "残差流宽度", le=_WIDE)
    d_kv: PositiveInt = doc(32, "width of a head", "每个头的宽度", le=_WIDE)
    d_ff: PositiveInt = doc(512, "inner width of the MLP", "前馈层宽度", le=_LARGE)
    num_layers: PositiveInt = doc(4, "layers of the encoder", "编码器层数", le=_MANY)
    num_decoder_layers: PositiveInt | None = doc(
        None, "layers of the decoder; default: as many", "解码器层数;默认与编码器相同", le=_MANY
    )
    num_heads: PositiveInt = doc(6, "attention heads", "注意力头数", le=_WIDE)
    feed_forward_proj: Literal["relu", "gated-gelu"] = doc(
        "gated-gelu", "the MLP: relu (v1.0) or gated-gelu (v1.1, Flan)", "前馈层:relu(v1.0)或 gated-gelu(v1.1、Flan)"
    )
    relative_attention_num_buckets: PositiveInt = doc(
        32, "buckets of relative distance", "相对位置的分桶数", ge=4, le=_WIDE
    )
    relative_attention_max_distance: PositiveInt = doc(
        128, "distances beyond share one bucket", "超过此距离的位置同属一桶", le=_LARGE
    )
    layer_norm_epsilon: PositiveFloat = doc(1e-6, "guards RMSNorm against division by zero", "防止 RMSNorm 除零", le=1)
    dropout_rate: float = doc(0.0, "share of activations dropped in training", "训练时随机丢弃的激活比例", ge=0, lt=1)
    tie_word_embeddings: bool = doc(
        False, "input and output embeddings are one matrix (v1.0)", "输入输出共用词嵌入(v1.0)"
    )
    scale_decoder_outputs: bool | None = doc(
        None,
        "divide the last hidden state by √d_model; default: when embeddings are tied",
        "最后的隐状态除以 √d_model;默认在共用词嵌入时",
    )
    n_positions: PositiveInt = doc(512, "the longest text, in tokens", "最长文本(token 数)", le=_LARGE)
    pad_token_id: NonNegativeInt = doc(0, "padding (taken from the tokenizer)", "填充符(取自分词器)", le=_LARGE)
    eos_token_id: NonNegativeInt = doc(1, "end of text (taken from the tokenizer)", "结束符(取自分词器)", le=_LARGE)
    decoder_start_token_id: NonNegativeInt | None = doc(
        None, "what the decoder begins with; default: padding", "解码器的起始符;默认为填充符", le=_LARGE
    )

    @property
    def decoder_layers(self) -> int:
        return self.num_decoder_layers or self.num_layers

    @property
    def start_id(self) -> int:
        return self.pad_token_id if self.decoder_start_token_id is None else self.decoder_start_token_id

    @property
    def scales(self) -> bool:
        """Whether hidden states are scaled before the output matrix, as where that matrix is the embedding's."""
        return self.tie_word_embeddings if self.scale_decoder_outputs is None else self.scale_decoder_outputs

    def check(self) -> None:
        """Raise ConfigError for a shape that cannot be built."""
        buckets, reach = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets % 4 or reach <= buckets // 2:
            raise ConfigError(
                tr(
                    f"{buckets} buckets that reach {reach} tokens: the buckets must be a multiple of 4, "
                    f"and reach beyond half their number",
                    f"{buckets} 个桶、最远 {reach} 个词元:桶数须为 4 的倍数,且最远距离须大于桶数的一半",
                ),
                tr("32 and 128 are usual", "常用 32 与 128"),
            )
        if self.start_id >= self.vocab_size:
            raise ConfigError(
                tr(
                    f"decoder_start_token_id {self.start_id} is not in a vocabulary of {self.vocab_size}",
                    f"decoder_start_token_id {self.start_id} 超出了大小为 {self.vocab_size} 的词表",
                )
            )


def read_t5(config: Mapping[str, Any], where: str) -> T5Config:
    """The shape that a config.json describes.

    Raises FolderError or ConfigError naming `where` and a setting that is missing, wrong or not implemented.
    """
    for key in _NEEDED:
        if config.get(key) is None:
            raise FolderError(tr(f"{where}: {key} is missing", f"{where}:缺少 {key}"))
    fields = T5Config.model_fields.keys()
    shape = T5Config.parse(_ASSUMED | {key: config[key] for key in fields if config.get(key) is not None}, where)
    derived = {
        "is_gated_act": shape.feed_forward_proj != "relu",
        "dense_act_fn": "relu" if shape.feed_forward_proj == "relu" else "gelu_new",
    }
    refuse_unknown(config, {*_NEUTRAL, *fields}, derived, where)
    try:
        shape.check()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.what}", error.do) from None
    return shape


def write_t5(shape: T5Config, dtype: str) -> dict[str, Any]:
    """`config.json` as `transformers` reads it. dtype: of the weights, such as "float32"."""
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        **shape.plain(),
        "num_decoder_layers": shape.decoder_layers,
        "scale_decoder_outputs": shape.scales,
        "decoder_start_token_id": shape.start_id,
        "is_encoder_decoder": True,
        "dtype": dtype,
    }
