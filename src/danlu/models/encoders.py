"""The families of encoders as a table of differences: what each calls its parts, its heads and its settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

__all__ = ["ENCODERS", "HEADS", "EncoderFamily", "Head", "HeadPlan"]

Head = Literal["masked-lm", "sequence-classification", "token-classification", "none"]
# head -> how the name of the class ends with which `transformers` opens it
HEADS: dict[Head, str] = {
    "masked-lm": "ForMaskedLM",
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "none": "Model",
}


@dataclass(frozen=True)
class HeadPlan:
    """norm(act(dense(x))), then `out`: where each stands on disk, None where it is left out."""

    out: str | None = None
    dense: str | None = None
    act: str = "tanh"  # or, with a "=" in front, the setting that names it
    norm: str | None = None
    bias: str | None = None  # a second name under which the bias of `out` is kept
    dropout: str | None = None  # the setting with the share dropped before `out`
    drops_first: bool = False  # drops before `dense` too


@dataclass(frozen=True)
class EncoderFamily:
    """What one `model_type` calls its parts. `assumed` is what its config.json means by leaving a key out."""

    stem: str  # of the classes' names in `transformers`
    body: str  # the name in front of everything below a head
    embeddings: Mapping[str, str]  # part -> path
    layers: str
    layer: Mapping[str, str]
    heads: Mapping[Head, HeadPlan]
    assumed: Mapping[str, Any]
    renamed: Mapping[str, str] = field(default_factory=dict)  # our setting -> the key of config.json
    options: frozenset[str] = frozenset()  # settings of EncoderConfig that not every family has
    modern: bool = False  # norms before the blocks, rotary positions, gated MLP, local attention (modernbert.py)
    pads_first: bool = False  # positions count from pad_token_id + 1
    drops_attention: bool = True  # dropout of the attention block's output
    unused: tuple[str, ...] = ()  # tensors of older or wider files that are no part of the computation

    def place(self, path: str, head: Head) -> str:
        """The name on disk of a part of the body: bare in a plain encoder."""
        return path if head == "none" else f"{self.body}.{path}"


_BERT_EMBEDDINGS = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "type": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
}
_BERT_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
_BERT_ASSUMED = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}
_BERT_OPTIONS = frozenset({"type_vocab_size", "layer_norm_eps"})
# Counted up to the longest text in files of long ago; and BERT's classifier of next sentences, below other heads.
_BERT_UNUSED = (
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "pooler.dense.weight",
    "pooler.dense.bias",
)
_MODERN_OPTIONS = frozenset(
    {
        "layer_norm_eps",
        "attention_bias",
        "mlp_bias",
        "norm_bias",
        "decoder_bias",
        "classifier_bias",
        "classifier_activation",
        "classifier_pooling",
        "local_attention",
        "layer_types",
        "rope_theta",
        "local_rope_theta",
    }
)

ENCODERS: dict[str, EncoderFamily] = {
    # Devlin et al. 2019
    "bert": EncoderFamily(
        stem="Bert",
        body="bert",
        embeddings=_BERT_EMBEDDINGS,
        layers="encoder.layer",
        layer=_BERT_LAYER,
        heads={
            "masked-lm": HeadPlan(
                "cls.predictions.decoder",
                "cls.predictions.transform.dense",
                "=hidden_act",
                "cls.predictions.transform.LayerNorm",
                bias="cls.predictions.bias",
            ),
            "sequence-classification": HeadPlan("classifier", "bert.pooler.dense", dropout="classifier_dropout"),
            "token-classification": HeadPlan("classifier", dropout="classifier_dropout"),
            "none": HeadPlan(dense="pooler.dense"),
        },
        assumed=_BERT_ASSUMED,
        options=_BERT_OPTIONS,
        unused=(*_BERT_UNUSED, "cls.seq_relationship.weight", "cls.seq_relationship.bias"),
    ),
    # Liu et al. 2019
    "roberta": EncoderFamily(
        stem="Roberta",
        body="roberta",
        embeddings=_BERT_EMBEDDINGS,
        layers="encoder.layer",
        layer=_BERT_LAYER,
        heads={
            "masked-lm": HeadPlan(
                "lm_head.decoder", "lm_head.dense", "gelu", "lm_head.layer_norm", bias="lm_head.bias"
            ),
            "sequence-classification": HeadPlan(
                "classifier.out_proj", "classifier.dense", dropout="classifier_dropout", drops_first=True
            ),
            "token-classification": HeadPlan("classifier", dropout="classifier_dropout"),
            "none": HeadPlan(dense="pooler.dense"),
        },
        assumed={**_BERT_ASSUMED, "pad_token_id": 1},
        options=_BERT_OPTIONS,
        pads_first=True,
        unused=_BERT_UNUSED,
    ),
    # Sanh et al. 2019
    "distilbert": EncoderFamily(
        stem="DistilBert",
        body="distilbert",
        embeddings={name: path for name, path in _BERT_EMBEDDINGS.items() if name != "type"},
        layers="transformer.layer",
        layer={
            "query": "attention.q_lin",
            "key": "attention.k_lin",
            "value": "attention.v_lin",
            "out": "attention.out_lin",
            "attention_norm": "sa_layer_norm",
            "inner": "ffn.lin1",
            "outer": "ffn.lin2",
            "mlp_norm": "output_layer_norm",
        },
        heads={
            "masked-lm": HeadPlan("vocab_projector", "vocab_transform", "=hidden_act", "vocab_layer_norm"),
            "sequence-classification": HeadPlan("classifier", "pre_classifier", "relu", dropout="classifier_dropout"),
            "token-classification": HeadPlan("classifier", dropout="hidden_dropout_prob"),
            "none": HeadPlan(),
        },
        assumed={
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "classifier_dropout": 0.2,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "tie_word_embeddings": True,
        },
        renamed={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
        },
        drops_attention=False,
        unused=("embeddings.position_ids",),
    ),
    # Warner et al. 2024
    "modernbert": EncoderFamily(
        stem="ModernBert",
        body="model",
        embeddings={"word": "embeddings.tok_embeddings", "norm": "embeddings.norm", "final_norm": "final_norm"},
        layers="layers",
        layer={
            "attention_norm": "attn_norm",
            "qkv": "attn.Wqkv",
            "out": "attn.Wo",
            "mlp_norm": "mlp_norm",
            "inner": "mlp.Wi",
            "outer": "mlp.Wo",
        },
        heads={
            "masked-lm": HeadPlan("decoder", "head.dense", "=classifier_activation", "head.norm"),
            "sequence-classification": HeadPlan(
                "classifier", "head.dense", "=classifier_activation", "head.norm", dropout="classifier_dropout"
            ),
            "token-classification": HeadPlan(
                "classifier", "head.dense", "=classifier_activation", "head.norm", dropout="classifier_dropout"
            ),
            "none": HeadPlan(),
        },
        assumed={
            "hidden_act": "gelu",
            "classifier_dropout": 0.0,
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 8192,
            "pad_token_id": 50283,
            "tie_word_embeddings": True,
            "local_attention": 128,
            "decoder_bias": True,
            "classifier_activation": "gelu",
            "classifier_pooling": "cls",
        },
        renamed={"hidden_act": "hidden_activation", "layer_norm_eps": "norm_eps"},
        options=_MODERN_OPTIONS,
        modern=True,
    ),
}
# Conneau et al. 2020: RoBERTa in a hundred languages, another name for the same computation
ENCODERS["xlm-roberta"] = replace(ENCODERS["roberta"], stem="XLMRoberta")
