from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from danlu.core.errors import ConfigError
from danlu.core.folder import Lineage
from danlu.models import auto
from danlu.models.decoder import Decoder, DecoderConfig
from tests.conftest import tiny_decoder


def packed(
    lengths: list[int], width: int, vocabulary: int = 50, seed: int = 0
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """One row with documents of these lengths, and the documents alone."""
    torch.manual_seed(seed)
    documents = [torch.randint(0, vocabulary, (1, length)) for length in lengths]
    padding = width - sum(lengths)
    batch = {
        "input_ids": torch.cat([*documents, torch.zeros(1, padding, dtype=torch.long)], dim=1),
        "position_ids": torch.cat([torch.arange(n) for n in [*lengths, padding]])[None],
        "segment_ids": torch.cat(
            [torch.full((n,), s + 1) for s, n in enumerate(lengths)] + [torch.zeros(padding, dtype=torch.long)]
        )[None],
    }
    return batch, documents


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_transformers_opens_the_folder_and_agrees(tmp_path, tied, kv_heads):
    model = tiny_decoder(50, tie_word_embeddings=tied, num_key_value_heads=kv_heads)
    auto.save(model, tmp_path / "m", lineage=Lineage(verb="test"))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    ids = torch.randint(0, 50, (3, 11))
    with torch.no_grad():
        torch.testing.assert_close(model({"input_ids": ids}), theirs(ids).logits, atol=1e-5, rtol=1e-4)


def test_a_folder_of_transformers_is_opened_and_agrees(tmp_path: Path):
    torch.manual_seed(0)
    shape = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    theirs = LlamaForCausalLM(LlamaConfig(vocab_size=60, rope_theta=5000.0, max_position_embeddings=64, **shape)).eval()
    theirs.save_pretrained(tmp_path)
    mine = auto.load(tmp_path)
    ids = torch.randint(0, 60, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(mine({"input_ids": ids}), theirs(ids).logits, atol=1e-5, rtol=1e-4)


def test_gradients_agree_with_transformers(tmp_path):
    model = tiny_decoder(50)
    auto.save(model, tmp_path / "m", lineage=Lineage(verb="test"))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    ids = torch.randint(0, 50, (2, 9))
    model({"input_ids": ids}).logsumexp(-1).sum().backward()
    theirs(ids).logits.logsumexp(-1).sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-4, rtol=1e-4)


def test_packed_documents_do_not_see_each_other():
    model = tiny_decoder(50)
    batch, documents = packed([5, 7, 3], 18)
    with torch.no_grad():
        together = model(batch)[0]
        at = 0
        for document in documents:
            torch.testing.assert_close(
                together[at : at + document.shape[1]], model({"input_ids": document})[0], atol=1e-5, rtol=1e-4
            )
            at += document.shape[1]
    assert torch.isfinite(together).all()


def test_cache_in_pieces_and_rows_of_uneven_length_equals_one_pass():
    model = tiny_decoder(50)
    torch.manual_seed(1)
    ids = torch.randint(0, 50, (2, 12))
    positions = torch.arange(12).expand(2, 12)
    with torch.no_grad():
        whole = model({"input_ids": ids})
        cache = model.new_cache(4, 16)
        seen = []
        for start, end in ((0, 5), (5, 6), (6, 12)):
            part = {"input_ids": ids[:, start:end], "position_ids": positions[:, start:end]}
            cache.select(1, part["position_ids"])
            seen.append(model.logits(model.hidden(part, cache)))
        torch.testing.assert_close(torch.cat(seen, 1), whole, atol=1e-5, rtol=1e-4)
        # rows at different places: row 0 goes on from 12, row 1 from 4
        part = {"input_ids": torch.tensor([[7], [9]]), "position_ids": torch.tensor([[12], [4]])}
        cache.select(1, part["position_ids"])
        told = model.logits(model.hidden(part, cache))[:, 0]
        expected = [torch.cat([ids[0], torch.tensor([7])]), torch.cat([ids[1, :4], torch.tensor([9])])]
        for row, own in enumerate(expected):
            torch.testing.assert_close(told[row], model({"input_ids": own[None]})[0, -1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ({"hidden_size": 30, "num_attention_heads": 4}, "hidden_size"),
        ({"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 3}, "num_key_value_heads"),
        ({"hidden_size": 12, "num_attention_heads": 4}, "head_dim"),
    ],
)
def test_impossible_shapes_are_named(shape, named):
    with pytest.raises(ConfigError, match=named):
        Decoder(DecoderConfig(vocab_size=10, **shape))


def test_the_saved_tokenizer_opens_too(folder, tokenizer):
    theirs = AutoTokenizer.from_pretrained(folder)
    assert theirs("春山来")["input_ids"] == tokenizer.encode("春山来")
