import torch

from danlu.models.base import KVCache


def cache(rows: int = 3, length: int = 6) -> KVCache:
    return KVCache(1, rows, 2, length, 4, torch.float32, torch.device("cpu"))


def test_each_row_writes_at_its_own_place_and_keeps_the_rest():
    held = cache()
    torch.manual_seed(0)
    first = torch.randn(2, 2, 3, 4)
    held.select(1, torch.tensor([[0, 1, 2], [0, 1, 2]]))
    held.update(0, first, -first)
    new = torch.randn(2, 2, 1, 4)
    held.select(1, torch.tensor([[3], [1]]))  # the second row goes back and overwrites
    keys, values = held.update(0, new, -new)
    assert keys.shape == (2, 2, 4, 4)
    assert torch.equal(keys[0, :, :3], first[0])
    assert torch.equal(keys[0, :, 3], new[0, :, 0])
    assert torch.equal(keys[1, :, 1], new[1, :, 0])
    assert torch.equal(keys[1, :, 2], first[1, :, 2])
    assert torch.equal(values, -keys)
    assert (held.keys[0, 0] == 0).all()  # row 0 was never named


def test_move_copies_a_row():
    held = cache()
    torch.manual_seed(0)
    held.select(2, torch.tensor([[0, 1]]))
    told, _ = held.update(0, torch.randn(1, 2, 2, 4), torch.randn(1, 2, 2, 4))
    held.move(2, 0, 2)
    assert torch.equal(held.keys[0, 0, :, :2], told[0])
    assert torch.equal(held.values[0, 0], held.values[0, 2])
