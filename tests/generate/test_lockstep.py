import torch

from danlu.generate.lockstep import Lockstep
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
