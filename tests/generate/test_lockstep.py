import torch

from danlu.generate.lockstep import Lockstep
from danlu.models.t5 import T5, T5Config
from tests.conftest import tiny_decoder


@torch.inference_mode()
def test_rows_that_fork_and_change_places_get_what_they_get_without_a_cache():
    model = tiny_decoder(20)
    step = Lockstep(model, rows=3, length=10)
    texts = [[1, 2, 3]]
    hidden = step.feed(texts)
    torch.testing.assert_close(hidden, model.hidden({"input_ids": torch.tensor(texts)}))
    for parents, new in (([0, 0, 0], [4, 5, 6]), ([2, 0, 0], [7, 8, 9]), ([1, 2], [10, 11]), ([1, 1, 0], [3, 2, 1])):
        step.keep(parents)
        texts = [[*texts[parent], token] for parent, token in zip(parents, new, strict=True)]
        hidden = step.feed([[token] for token in new])
        whole = model.hidden({"input_ids": torch.tensor(texts)})
        torch.testing.assert_close(hidden, whole[:, -1:], atol=1e-5, rtol=1e-4)
    assert (step.rows, step.length) == (3, 7)


@torch.inference_mode()
def test_what_is_alike_already_need_not_be_copied():
    model = tiny_decoder(20)
    step = Lockstep(model, rows=2, length=6)
    step.feed([[1, 2]])
    step.keep([0, 0])
    step.feed([[3], [4]])
    step.keep([1, 1], since=2)
    hidden = step.feed([[5], [6]])
    whole = model.hidden({"input_ids": torch.tensor([[1, 2, 4, 5], [1, 2, 4, 6]])})
    torch.testing.assert_close(hidden, whole[:, -1:], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_an_encoder_decoders_rows_all_answer_the_one_source():
    model = T5(T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, n_positions=24))
    model.initialise(torch.Generator().manual_seed(0))
    source, texts = [5, 9, 3, 30, 1], [[0, 7, 8, 2], [0, 7, 8, 4], [0, 7, 6, 6]]
    step = Lockstep(model.eval(), 3, 12, source)
    step.feed([texts[0][:2]])
    step.keep([0, 0])
    step.feed([[8], [6]])
    step.keep([0, 0, 1])
    told = step.feed([[text[-1]] for text in texts])[:, -1]
    asked = {"input_ids": torch.tensor([source] * 3), "decoder_input_ids": torch.tensor(texts)}
    torch.testing.assert_close(told, model.hidden(asked)[:, -1], atol=1e-5, rtol=1e-5)
