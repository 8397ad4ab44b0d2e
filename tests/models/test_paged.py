import pytest
import torch

from danlu.models.paged import PAGE, PagedCache, Span
from tests.models.test_families import CASES, pair

TABLES = [[3, 9, 4], [1, 2, 5]]


def chunks(model, ids: torch.Tensor, cache: PagedCache, cuts: list[int]) -> torch.Tensor:
    """Logits [2, T, V] of two sequences that are computed together, some tokens at a time."""
    told = []
    for start, end in zip([0, *cuts], [*cuts, ids.shape[1]], strict=True):
        positions = cache.select([Span(start, end - start, table) for table in TABLES])
        batch = {"input_ids": ids[:, start:end].reshape(1, -1), "position_ids": positions}
        told.append(model.logits(model.hidden(batch, cache)).view(2, end - start, -1))
    return torch.cat(told, dim=1)


@pytest.mark.parametrize("case", [case for case in CASES if case != "llama-dynamic"])
@torch.no_grad()
def test_pages_in_pieces_equal_one_pass_for_every_family(case):
    _, model, _ = pair(case)
    ids = torch.randint(0, 50, (2, 37), generator=torch.Generator().manual_seed(2))
    kept = model.new_cache(1, 1).keys
    cache = PagedCache(kept.shape[0], 12, kept.shape[2], kept.shape[4], torch.float32)
    told = chunks(model, ids, cache, [7, 8, 9, 30])
    torch.testing.assert_close(told, model({"input_ids": ids}), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_sequences_of_any_length_go_together():
    _, model, _ = pair("llama")
    generator = torch.Generator().manual_seed(3)
    lengths = [1, 40, 17, 3, 33]
    texts = [torch.randint(0, 50, (1, length + 1), generator=generator) for length in lengths]
    cache = PagedCache(3, 16, 2, 8, torch.float32)
    tables, free = [], list(range(16))
    for length in lengths:
        tables.append([free.pop(0) for _ in range(length // PAGE + 1)])
    spans = [Span(0, length, table) for length, table in zip(lengths, tables, strict=True)]
    ids = torch.cat([text[:, :-1] for text in texts], dim=1)
    model.hidden({"input_ids": ids, "position_ids": cache.select(spans)}, cache)
    spans = [Span(length, 1, table) for length, table in zip(lengths, tables, strict=True)]
    last = torch.cat([text[:, -1:] for text in texts], dim=1)
    told = model.logits(model.hidden({"input_ids": last, "position_ids": cache.select(spans)}, cache))[0]
    for row, text in enumerate(texts):
        torch.testing.assert_close(told[row], model({"input_ids": text})[0, -1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_page_can_be_shared():
    _, model, _ = pair("llama")
    ids = torch.randint(0, 50, (1, 20))
    cache = PagedCache(3, 4, 2, 8, torch.float32)
    model.hidden({"input_ids": ids, "position_ids": cache.select([Span(0, 20, [0, 1])])}, cache)
    other = torch.cat((ids[:, :16], torch.randint(0, 50, (1, 5))), dim=1)
    batch = {"input_ids": other[:, 16:], "position_ids": cache.select([Span(16, 5, [0, 2])])}
    told = model.logits(model.hidden(batch, cache))
    torch.testing.assert_close(told, model({"input_ids": other})[:, 16:], atol=1e-5, rtol=1e-5)


def test_size():
    assert PagedCache(2, 5, 3, 8, torch.float16).bytes == 2 * 2 * 5 * 3 * 8 * PAGE * 2
