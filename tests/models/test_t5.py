"""T5 in its three layouts against `transformers`: tiny random models saved by it, loaded here, and back."""

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import T5Config as TheirConfig
from transformers import T5ForConditionalGeneration

from danlu.core.errors import ConfigError, FolderError
from danlu.core.folder import Lineage
from danlu.models import auto
from danlu.models.t5 import T5
from danlu.train.objective import aligned_cross_entropy

VOCABULARY = 50
SHAPE = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 6,  # heads need not make up the width
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,  # small, so that a sentence of a test reaches the far ones
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
CASES: dict[str, dict[str, Any]] = {
    "v1.0": {},
    "v1.1": GATED,
    "flan": {**GATED, "num_decoder_layers": 2, "d_kv": 8},
    "unscaled": GATED,
}


def rewrite(folder: Path, own_head: bool, **settings: Any) -> None:
    """Make the folder look as older releases of transformers wrote it, and give the model a head of its own."""
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    if own_head:
        state = load_file(folder / "model.safetensors")
        state["lm_head.weight"] = torch.randn(VOCABULARY, 32, generator=torch.Generator().manual_seed(7))
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@cache
def pair(case: str) -> tuple[Any, T5, Path]:
    """The model of transformers, ours loaded from what it saved, and the folder."""
    torch.manual_seed(0)
    theirs = T5ForConditionalGeneration(TheirConfig(**{**SHAPE, **CASES[case]}))
    with torch.no_grad():  # norms that are not 1, biases of distance that matter
        for name, parameter in theirs.named_parameters():
            if parameter.ndim == 1 or "relative" in name:
                parameter.add_(torch.randn_like(parameter) * 0.5)
    folder = Path(mkdtemp(prefix="danlu-t5-"))
    theirs.save_pretrained(folder)
    if case != "unscaled":  # release 5 of transformers ties the heads that it makes itself, also v1.1's
        tied = case == "v1.0"
        rewrite(folder, not tied, tie_word_embeddings=tied, scale_decoder_outputs=None)
    mine = auto.load(folder)
    assert isinstance(mine, T5)
    return T5ForConditionalGeneration.from_pretrained(folder).eval(), mine, folder


def close(mine: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)


def uneven(left: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sources [3, 30] with their mask and targets [3, 17] with theirs, padded on one side."""
    draw = torch.Generator().manual_seed(1)
    source, target = (torch.randint(2, VOCABULARY, (3, length), generator=draw) for length in (30, 17))
    real = (torch.arange(30) < torch.tensor([30, 9, 21])[:, None]).long()
    written = (torch.arange(17) < torch.tensor([8, 17, 3])[:, None]).long()
    if left:
        real, written = real.flip(1), written.flip(1)
    return source * real, real, target * written, written


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_agree_with_uneven_rows_padded_on_either_side(case, left):
    theirs, mine, _ = pair(case)
    source, real, target, written = uneven(left)
    told = theirs(
        input_ids=source, attention_mask=real, decoder_input_ids=target, decoder_attention_mask=written
    ).logits
    batch = {"input_ids": source, "attention_mask": real, "decoder_input_ids": target}
    ours = mine(batch | ({"decoder_segment_ids": written} if left else {}))
    close(ours[written.bool()], told[written.bool()])
    alone = mine({"input_ids": source[1:2, real[1].bool()], "decoder_input_ids": target[1:2, written[1].bool()]})
    close(alone[0], told[1, written[1].bool()])


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_encoder_states_agree(case):
    theirs, mine, _ = pair(case)
    source, real, _, _ = uneven()
    told = theirs.encoder(input_ids=source, attention_mask=real).last_hidden_state
    close(mine.encode({"input_ids": source, "attention_mask": real})[real.bool()], told[real.bool()])


@pytest.mark.parametrize("case", CASES)
def test_loss_and_its_gradients_agree(case):
    theirs, mine, _ = pair(case)
    source, real, target, written = uneven()
    labels = target.masked_fill(written == 0, -100)
    told = theirs(input_ids=source, attention_mask=real, labels=labels).loss * int(written.sum())
    ours = aligned_cross_entropy(mine, {"input_ids": source, "attention_mask": real, "labels": labels})
    assert ours.count == written.sum()
    close(ours.total, told, 1e-4)
    wanted = dict(theirs.named_parameters())
    names, parameters = zip(*mine.named_parameters(), strict=True)
    assert set(names) == wanted.keys()
    own = torch.autograd.grad(ours.total, parameters)
    others = torch.autograd.grad(told, [wanted[name] for name in names])
    for name, gradient, other in zip(names, own, others, strict=True):
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, other, atol=1e-3, rtol=1e-4, msg=lambda told, name=name: f"{name}: {told}")


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_step_by_step_with_a_cache(case):
    theirs, mine, _ = pair(case)
    source, real, target, _ = uneven()
    whole = mine({"input_ids": source, "attention_mask": real, "decoder_input_ids": target})
    cache = mine.new_cache(3, 17)
    cache.begin(mine.read({"input_ids": source, "attention_mask": real}))
    told = []
    for start, end in ((0, 3), *((at, at + 1) for at in range(3, 17))):  # several at once, then one by one
        cache.select(0, torch.arange(start, end).expand(3, -1))
        told.append(mine.logits(mine.hidden({"decoder_input_ids": target[:, start:end]}, cache)))
    close(torch.cat(told, dim=1), whole)
    close(whole, theirs(input_ids=source, attention_mask=real, decoder_input_ids=target).logits)


@torch.no_grad()
def test_reordered_rows_of_a_cache_go_on_from_one_another():
    _, mine, _ = pair("v1.1")
    source, real, target, _ = uneven()
    cache = mine.new_cache(3, 17)
    cache.begin(mine.read({"input_ids": source, "attention_mask": real}))
    cache.select(0, torch.arange(5).expand(3, -1))
    mine.hidden({"decoder_input_ids": target[:, :5]}, cache)
    rows = torch.tensor([2, 0])
    cache.reorder(rows)
    cache.select(0, torch.tensor([[5], [5]]))
    told = mine.hidden({"decoder_input_ids": target[:2, 5:6]}, cache)
    written = torch.cat((target[rows, :5], target[:2, 5:6]), dim=1)
    whole = mine.hidden({"input_ids": source[rows], "attention_mask": real[rows], "decoder_input_ids": written})
    close(told[:, 0], whole[:, -1])


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_packed_documents_do_not_see_each_other(case):
    theirs, mine, _ = pair(case)
    draw = torch.Generator().manual_seed(2)
    lengths = [(9, 4), (14, 6), (3, 2)]
    parts = [tuple(torch.randint(2, VOCABULARY, (n,), generator=draw) for n in both) for both in lengths]
    padding = [torch.zeros(n, dtype=torch.long) for n in (4, 3)]
    ids, decoder_ids = (torch.cat([*(part[side] for part in parts), padding[side]])[None] for side in (0, 1))
    segments, decoder_segments = (
        torch.cat([*(torch.full((both[side],), n) for n, both in enumerate(lengths, 1)), padding[side]])[None]
        for side in (0, 1)
    )
    told = mine(
        {
            "input_ids": ids,
            "segment_ids": segments,
            "decoder_input_ids": decoder_ids,
            "decoder_segment_ids": decoder_segments,
        }
    )
    assert torch.isfinite(told).all()
    for number, (source, target) in enumerate(parts, 1):
        alone = theirs(input_ids=source[None], decoder_input_ids=target[None]).logits
        close(told[decoder_segments == number], alone[0])


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_transformers_opens_what_is_saved(case, tmp_path):
    theirs, mine, _ = pair(case)
    auto.save(mine, tmp_path / "own", lineage=Lineage(verb="test"))
    again = T5ForConditionalGeneration.from_pretrained(tmp_path / "own").eval()
    source, real, target, _ = uneven()
    told = again(input_ids=source, attention_mask=real, decoder_input_ids=target).logits
    assert torch.equal(told, theirs(input_ids=source, attention_mask=real, decoder_input_ids=target).logits)
    assert set(load_file(tmp_path / "own" / "model.safetensors")) == set(load_file(pair(case)[2] / "model.safetensors"))
    again.save_pretrained(tmp_path / "theirs")  # which says of every head that it is tied
    twice = auto.load(tmp_path / "theirs")
    assert torch.equal(
        twice({"input_ids": source, "decoder_input_ids": target}),
        mine({"input_ids": source, "decoder_input_ids": target}),
    )


@torch.no_grad()
def test_early_files_with_a_bias_that_nothing_uses(tmp_path):
    _, mine, folder = pair("v1.0")
    state = load_file(folder / "model.safetensors")
    for alias in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        state[alias] = state["shared.weight"].clone()
    state["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.ones(8, 4)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    source, _, target, _ = uneven()
    batch = {"input_ids": source, "decoder_input_ids": target}
    assert torch.equal(auto.load(tmp_path)(batch), mine(batch))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"d_ff": 40}, "wrong shape: .*wi"),
        ({"num_decoder_layers": 2}, "surplus: decoder.block.2"),
        ({"num_decoder_layers": 4}, "missing: decoder.block.3"),
        ({"d_kv": None}, "d_kv is missing"),
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj"),
        ({"dense_act_fn": "silu"}, "dense_act_fn 'silu' is not implemented"),
        ({"relative_attention_num_buckets": 6}, "6 buckets"),
        ({"decoder_start_token_id": 50}, "decoder_start_token_id 50"),
        ({"router_z_loss_coef": 0.1}, "router_z_loss_coef"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, told):
    _, _, folder = pair("v1.0")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    rewrite(tmp_path, False, **change)
    with pytest.raises((FolderError, ConfigError), match=told):
        auto.load(tmp_path)


def test_plain_packed_text_is_refused():
    _, mine, _ = pair("v1.0")
    ids = torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(ConfigError, match="danlu denoise"):
        mine.hidden({"input_ids": ids, "labels": ids, "segment_ids": ids})
    with pytest.raises(ConfigError, match="decoder"):
        mine.hidden({"input_ids": ids})


def fresh(**settings: Any) -> T5:
    model = T5(pair("v1.1")[1].config.model_copy(update=settings))
    model.initialise(torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_a_fresh_model_begins_near_the_uniform_loss(tied):
    model = fresh(tie_word_embeddings=tied, scale_decoder_outputs=None, d_model=64)
    source, _, target, _ = uneven()
    loss = aligned_cross_entropy(model.eval(), {"input_ids": source, "labels": target})
    assert abs(loss.total.item() / loss.count.item() - torch.tensor(float(VOCABULARY)).log().item()) < 1.0


def test_dropout_in_training_only():
    model = fresh(dropout_rate=0.3)
    source, _, target, _ = uneven()
    batch = {"input_ids": source, "labels": target}
    model.train()
    assert not torch.equal(model.hidden(batch), model.hidden(batch))
    model.eval()
    assert torch.equal(model.hidden(batch), model.hidden(batch))


def test_bf16_stays_close_and_every_weight_learns_in_it():
    model = fresh().train()
    source, real, target, _ = uneven()
    batch = {"input_ids": source, "attention_mask": real, "labels": target}
    exact = aligned_cross_entropy(model, batch).total
    with torch.autocast("cpu", torch.bfloat16):
        rough = aligned_cross_entropy(model, batch).total
    rough.backward()
    assert abs(rough - exact) / exact < 0.02
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
