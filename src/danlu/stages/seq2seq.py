"""What the stages of an encoder-decoder share: a fresh T5 that fits its tokenizer and the texts to come."""

import torch

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.models.t5 import T5, T5Config
from danlu.tokenizer import Tokenizer
from danlu.train.config import TrainConfig

__all__ = ["build_t5", "check_shape"]


def check_shape(shape: T5Config, train: TrainConfig) -> None:
    """Raise ConfigError for a shape that cannot be built, or texts longer than it can read; before data is read."""
    shape.check()
    if train.seq_len > shape.n_positions:
        raise ConfigError(
            tr(
                f"train.seq_len {train.seq_len} exceeds model.n_positions {shape.n_positions}",
                f"train.seq_len {train.seq_len} 超过 model.n_positions {shape.n_positions}",
            ),
            tr("lower the one, or raise the other", "请调小前者，或调大后者"),
        )


def build_t5(shape: T5Config, tokenizer: Tokenizer, seed: int) -> T5:
    """A T5 with random weights; its vocabulary and its special tokens are the tokenizer's."""
    own = {
        "vocab_size": tokenizer.vocab_size,
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.eos_id,
        "decoder_start_token_id": tokenizer.pad_id,
    }
    model = T5(shape.model_copy(update=own))
    model.initialise(torch.Generator().manual_seed(seed))
    return model
