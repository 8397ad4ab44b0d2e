import torch
from transformers import T5Config as TheirConfig
from transformers import T5ForConditionalGeneration

from danlu.models.seq2seq import Source, SourceCache
from danlu.models.t5 import T5, T5Config

SHAPE = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}


def test_labels_shift_as_in_transformers():
    theirs = T5ForConditionalGeneration(TheirConfig(**SHAPE, decoder_start_token_id=0))
    labels = torch.tensor([[3, 4, 5], [6, -100, -100]])
    mine = T5(T5Config(**SHAPE, decoder_start_token_id=0))
    assert torch.equal(mine.shift_right(labels), theirs._shift_right(labels))
    other = T5(T5Config(**SHAPE, decoder_start_token_id=7))
    assert other.shift_right(labels).tolist() == [[7, 3, 4], [7, 6, 7]]


def test_reorder_moves_what_was_written_with_its_source():
    cache = SourceCache(2, 3, 1, 4, 2, torch.float32, torch.device("cpu"))
    torch.manual_seed(0)
    keys = [(torch.randn(3, 1, 5, 2), torch.randn(3, 1, 5, 2)) for _ in range(2)]
    real = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]).bool()
    cache.begin(Source(keys, real))
    cache.select(0, torch.tensor([[0], [0], [0]]))
    written = torch.randn(3, 1, 1, 2)
    cache.update(1, written, -written)
    rows = torch.tensor([2, 2, 0, 1])
    cache.reorder(rows)
    assert torch.equal(cache.keys[1, :, :, :1], written[rows])
    assert torch.equal(cache.values[1, :, :, :1], -written[rows])
    assert torch.equal(cache.source.keys[1][0], keys[1][0][rows])
    assert torch.equal(cache.source.keys[0][1], keys[0][1][rows])
    assert torch.equal(cache.source.real, real[rows])
