"""Checks for the KV cache; the reference is the same attention over the whole text at once, without a cache."""

from types import SimpleNamespace

import torch

from danlu.models.decoder import Decoder, DecoderConfig
from danlu.ops.attention import additive, attention

SOLUTION = {"KVCache": "danlu.models.base:KVCache", "cache_mask": "danlu.ops.attention:cache_mask"}

HEADS, WIDTH = 2, 8


def _cache(exercise: SimpleNamespace, layers: int = 1, rows: int = 3, length: int = 16):
    return exercise.KVCache(layers, rows, HEADS, length, WIDTH, torch.float32, torch.device("cpu"))


def _text(tokens: int, seed: int) -> list[torch.Tensor]:
    """q, k, v [1, H, T, d]."""
    return list(torch.randn(3, 1, HEADS, tokens, WIDTH, generator=torch.Generator().manual_seed(seed)))


def _whole(text: list[torch.Tensor]) -> torch.Tensor:
    return attention(*text, causal=True)


def _pass(exercise: SimpleNamespace, cache: object, first: int, rows: list[tuple[list[torch.Tensor], int, int]]):
    """One forward pass: of each row's text the tokens from `start` to `end`; what they get, [B, H, T, d]."""
    positions = torch.tensor([list(range(start, end)) for _, start, end in rows])
    q, k, v = (torch.cat([text[part][:, :, start:end] for text, start, end in rows]) for part in range(3))
    cache.select(first, positions)
    keys, values = cache.update(0, k, v)
    return attention(q, keys, values, additive(exercise.cache_mask(positions, cache.seen), torch.float32))


def check_what_was_stored_comes_back(exercise: SimpleNamespace) -> None:
    """After positions 0 to 2 and then 3, `update` returns all four, in order.
    先写入位置 0 到 2，再写入 3，update 应按顺序返回全部四个。
    """
    cache, (_, k, v) = _cache(exercise), _text(4, seed=0)
    cache.select(0, torch.tensor([[0, 1, 2]]))
    keys, values = cache.update(0, k[:, :, :3], v[:, :, :3])
    assert keys.shape == (1, HEADS, 3, WIDTH), f"shape {tuple(keys.shape)}"
    cache.select(0, torch.tensor([[3]]))
    keys, values = cache.update(0, k[:, :, 3:], v[:, :, 3:])
    torch.testing.assert_close(keys, k)
    torch.testing.assert_close(values, v)


def check_layers_and_rows_are_apart(exercise: SimpleNamespace) -> None:
    """Writing row 1 of layer 1 leaves all other rows and layers as they were.
    写第 1 层的第 1 行，其他行与其他层应保持不变。
    """
    cache, (_, k, v) = _cache(exercise, layers=2), _text(3, seed=0)
    cache.select(1, torch.tensor([[0, 1, 2]]))
    cache.update(1, k, v)
    written = cache.keys.abs().sum(dim=(2, 3, 4)) > 0
    assert written.tolist() == [[False, False, False], [False, True, False]], f"written: {written.tolist()}"


def check_mask_by_hand(exercise: SimpleNamespace) -> None:
    """The query at position 2 sees entries 0, 1, 2 of 4; the one at position 0 sees entry 0 only.
    位置 2 的查询能看到 4 个条目中的 0、1、2；位置 0 的查询只能看到 0。
    """
    mask = exercise.cache_mask(torch.tensor([[2], [0]]), 4)
    assert mask.shape == (2, 1, 1, 4), f"shape {tuple(mask.shape)}"
    assert mask[:, 0, 0].tolist() == [[True, True, True, False], [True, False, False, False]]


def check_token_by_token_equals_all_at_once(exercise: SimpleNamespace) -> None:
    """A prompt of 3 tokens, then one at a time: each gets what it gets without a cache.
    先送入 3 个词元的提示，再逐个送入：每个词元的结果都应与不用缓存时相同。
    """
    cache, text = _cache(exercise), _text(8, seed=1)
    found = [_pass(exercise, cache, 0, [(text, 0, 3)])]
    found += [_pass(exercise, cache, 0, [(text, at, at + 1)]) for at in range(3, 8)]
    torch.testing.assert_close(torch.cat(found, dim=2), _whole(text), atol=1e-5, rtol=1e-5)


def check_a_prompt_in_pieces_sees_no_future(exercise: SimpleNamespace) -> None:
    """Several new tokens at once must not see each other's future.
    一次送入多个新词元时，靠前的不能看到靠后的。
    """
    cache, text = _cache(exercise), _text(9, seed=2)
    found = [_pass(exercise, cache, 2, [(text, *piece)]) for piece in ((0, 4), (4, 6), (6, 9))]
    torch.testing.assert_close(torch.cat(found, dim=2), _whole(text), atol=1e-5, rtol=1e-5)


def check_rows_at_different_places(exercise: SimpleNamespace) -> None:
    """In one pass, row 0 writes its position 7 and row 1 its position 2.
    同一次计算里，第 0 行写位置 7，第 1 行写位置 2。
    """
    cache, long, short = _cache(exercise), _text(8, seed=3), _text(3, seed=4)
    _pass(exercise, cache, 0, [(long, 0, 7)])
    _pass(exercise, cache, 1, [(short, 0, 2)])
    found = _pass(exercise, cache, 0, [(long, 7, 8), (short, 2, 3)])
    torch.testing.assert_close(found[:1], _whole(long)[:, :, 7:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1:], _whole(short)[:, :, 2:], atol=1e-5, rtol=1e-5)


def check_what_an_earlier_text_left_is_not_seen(exercise: SimpleNamespace) -> None:
    """Row 1 held a text of 10 tokens; a new one begins there, beside a long one in row 0.
    第 1 行曾存过 10 个词元的文本；新文本从头写入这一行，而第 0 行还有一篇长文本。
    """
    cache, long, old, new = _cache(exercise), _text(11, seed=5), _text(10, seed=6), _text(3, seed=7)
    _pass(exercise, cache, 0, [(long, 0, 10), (old, 0, 10)])
    _pass(exercise, cache, 1, [(new, 0, 2)])
    found = _pass(exercise, cache, 0, [(long, 10, 11), (new, 2, 3)])
    torch.testing.assert_close(found[1:], _whole(new)[:, :, 2:], atol=1e-5, rtol=1e-5)


def check_a_whole_model_agrees(exercise: SimpleNamespace) -> None:
    """With your cache, a decoder of danlu gives the logits that it gives without one.
    用上你写的缓存，danlu 的解码器应给出与不用缓存时相同的 logits。
    """
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": HEADS}
    model = Decoder(DecoderConfig(vocab_size=50, **shape)).eval()
    model.initialise(torch.Generator().manual_seed(0))
    ids = torch.randint(50, (2, 10), generator=torch.Generator().manual_seed(1))
    cache = _cache(exercise, layers=2)
    with torch.inference_mode():
        for start, end in ((0, 6), (6, 7), (7, 10)):
            positions = torch.arange(start, end).expand(2, -1)
            cache.select(1, positions)
            hidden = model.hidden({"input_ids": ids[:, start:end], "position_ids": positions}, cache)
        expected = model.hidden({"input_ids": ids})[:, -3:]
    torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)
