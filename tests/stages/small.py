"""Settings small enough for a test."""

from pathlib import Path

from danlu.models.decoder import DecoderConfig
from danlu.stages import pretrain
from danlu.tokenizer import TokenizerConfig
from danlu.train.config import TrainConfig

SHAPE = DecoderConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=64)


def training(**settings) -> TrainConfig:
    return TrainConfig(
        **({"steps": 4, "batch_size": 4, "seq_len": 32, "warmup": 1, "log_every": 1, "precision": "fp32"} | settings)
    )


def pretraining(data: Path, out: Path, **settings) -> pretrain.Config:
    return pretrain.Config(
        data=data,
        out=out,
        model=SHAPE,
        new_tokenizer=TokenizerConfig(kind=settings.pop("kind", "char"), vocab_size=400, chat_template="none"),
        train=training(**settings),
    )
