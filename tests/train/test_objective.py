import torch

from danlu.train.objective import aligned_cross_entropy, cross_entropy
from tests.conftest import tiny_decoder


def test_by_hand_and_masked_positions_get_no_gradient():
    model = tiny_decoder(20)
    ids = torch.tensor([[3, 4, 5, 6]])
    labels = torch.tensor([[-100, -100, 5, 6]])  # only the last two tokens are learnt
    loss = cross_entropy(model, {"input_ids": ids, "labels": labels})
    logprobs = model({"input_ids": ids}).log_softmax(-1)[0]
    expected = -(logprobs[1, 5] + logprobs[2, 6])  # each is predicted one place earlier
    torch.testing.assert_close(loss.total, expected)
    assert loss.count == 2

    hidden = model.hidden({"input_ids": ids}).detach().requires_grad_()
    model.hidden = lambda batch: hidden
    cross_entropy(model, {"input_ids": ids, "labels": labels}).total.backward()
    moved = hidden.grad[0].abs().sum(-1) > 0
    assert moved.tolist() == [False, True, True, False]


def test_sums_add_up_over_any_split():
    model = tiny_decoder(20)
    torch.manual_seed(0)
    batch = {"input_ids": torch.randint(0, 20, (6, 8))}
    batch["labels"] = batch["input_ids"].masked_fill(torch.rand(6, 8) < 0.4, -100)
    whole = cross_entropy(model, batch)
    parts = [
        cross_entropy(model, {name: tensor[i:j] for name, tensor in batch.items()}) for i, j in ((0, 1), (1, 4), (4, 6))
    ]
    torch.testing.assert_close(sum(part.total for part in parts), whole.total, atol=1e-3, rtol=1e-5)
    assert sum(int(part.count) for part in parts) == int(whole.count)


def test_aligned_labels_by_hand_with_a_head_that_transforms_and_adds(monkeypatch):
    model = tiny_decoder(20)
    torch.manual_seed(0)
    bias = torch.randn(20, requires_grad=True)
    monkeypatch.setattr(type(model), "transform", lambda self, hidden: hidden.tanh())
    monkeypatch.setattr(type(model), "output_bias", property(lambda self: bias))
    batch = {"input_ids": torch.tensor([[3, 4, 5, 6]]), "labels": torch.tensor([[-100, 9, -100, 7]])}
    loss = aligned_cross_entropy(model, batch)
    logits = model.hidden(batch).tanh() @ model.output_weight.T + bias
    expected = -(logits.log_softmax(-1)[0, 1, 9] + logits.log_softmax(-1)[0, 3, 7])  # nothing is shifted
    torch.testing.assert_close(loss.total, expected)
    assert loss.count == 2
    (mine,), (theirs,) = torch.autograd.grad(loss.total, bias), torch.autograd.grad(expected, bias)
    torch.testing.assert_close(mine, theirs)
    assert mine.abs().sum() > 0
    torch.testing.assert_close(
        cross_entropy(model, batch).total, -(logits.log_softmax(-1)[0, 0, 9] + logits.log_softmax(-1)[0, 2, 7])
    )


def test_aligned_sums_add_up_over_any_split():
    model = tiny_decoder(20)
    torch.manual_seed(0)
    batch = {"input_ids": torch.randint(0, 20, (6, 8))}
    batch["labels"] = batch["input_ids"].masked_fill(torch.rand(6, 8) < 0.6, -100)
    whole = aligned_cross_entropy(model, batch)
    parts = [aligned_cross_entropy(model, {name: t[i:j] for name, t in batch.items()}) for i, j in ((0, 1), (1, 6))]
    torch.testing.assert_close(parts[0].total + parts[1].total, whole.total, atol=1e-3, rtol=1e-5)
    assert int(parts[0].count) + int(parts[1].count) == int(whole.count)
