import pytest
import torch

from danlu.core.errors import ConfigError
from danlu.models.t5 import T5Config
from danlu.stages.seq2seq import build_t5, check_shape
from tests.stages.small import training

SHAPE = T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, n_positions=48, vocab_size=7)


def test_the_vocabulary_is_the_tokenizers(tokenizer):
    model = build_t5(SHAPE, tokenizer, 3)
    assert model.config.vocab_size == tokenizer.vocab_size == model.shared.num_embeddings
    assert model.config.eos_token_id == tokenizer.eos_id
    assert model.start_id == model.config.pad_token_id == tokenizer.pad_id
    again, other = build_t5(SHAPE, tokenizer, 3), build_t5(SHAPE, tokenizer, 4)
    assert torch.equal(model.shared.weight, again.shared.weight)
    assert not torch.equal(model.shared.weight, other.shared.weight)


def test_what_does_not_fit_is_told():
    check_shape(SHAPE, training(seq_len=48))
    with pytest.raises(ConfigError, match="seq_len 49 exceeds model.n_positions 48"):
        check_shape(SHAPE, training(seq_len=49))
    with pytest.raises(ConfigError, match="buckets"):
        check_shape(SHAPE.model_copy(update={"relative_attention_num_buckets": 6}), training())
