"""A random T5, small enough for a test, whose scores are not flat."""

import torch

from danlu.models.t5 import T5, T5Config
from danlu.tokenizer import Tokenizer


def tiny_t5(tokenizer: Tokenizer, seed: int = 0, **shape) -> T5:
    settings = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "n_positions": 64, **shape}
    config = T5Config(
        vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id, eos_token_id=tokenizer.eos_id, **settings
    )
    model = T5(config)
    model.initialise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.lm_head.weight.mul_(5)  # else all answers are alike
    return model.eval()
