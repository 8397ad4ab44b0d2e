"""Every family against `transformers`: a tiny random model saved by it, loaded here, and back."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from danlu.core.folder import Lineage
from danlu.models import auto
from danlu.models.families import DECODERS
from tests.models.test_decoder import packed

VOCABULARY = 50
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    **{"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0},
    **{"pad_token_id": None, "bos_token_id": None, "eos_token_id": None},
}
EXPERTS = {"num_experts_per_tok": 2}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
QWEN_WINDOW = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
MOE = {"num_experts": 5, "moe_intermediate_size": 16, **EXPERTS}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": ("llama", {"head_dim": 12, "tie_word_embeddings": True}),
    "llama-linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}}),
    "llama-dynamic": (
        "llama",
        {"max_position_embeddings": 8, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 4.0}},
    ),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "llama-yarn-mscale": (
        "llama",
        {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.4, "beta_fast": 4.0, "truncate": False}},
    ),
    "llama-llama3": ("llama", {"rope_parameters": LLAMA3}),
    "mistral": ("mistral", {"sliding_window": 4}),
    "mistral-no-window": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2-window": ("qwen2", QWEN_WINDOW),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3-window": ("qwen3", {**QWEN_WINDOW, "head_dim": 16, "attention_bias": True}),
    "gemma3": (
        "gemma3_text",
        {"head_dim": 16, "sliding_window": 4, "num_hidden_layers": 7, "query_pre_attn_scalar": 20},
    ),
    "gemma3-linear": (
        "gemma3_text",
        {
            "head_dim": 8,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "mixtral": ("mixtral", {"num_local_experts": 5, **EXPERTS}),
    "mixtral-window": ("mixtral", {"num_local_experts": 3, "sliding_window": 4, **EXPERTS}),
    "qwen3-moe": ("qwen3_moe", MOE),
    "qwen3-moe-mixed": ("qwen3_moe", {**MOE, "norm_topk_prob": True, "mlp_only_layers": [0], "head_dim": 16}),
    "gpt2": ("gpt2", {}),
    "gpt2-plain": ("gpt2", {"n_inner": 48, "activation_function": "relu", "tie_word_embeddings": False}),
    "gpt2-scaled": ("gpt2", {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}),
    "qwen3-moe-step": ("qwen3_moe", {**MOE, "decoder_sparse_step": 2, "use_sliding_window": True, "sliding_window": 4}),
}


@cache
def pair(case: str) -> tuple[torch.nn.Module, Any, Path]:
    """The model of transformers, ours loaded from what it saved, and the folder it saved."""
    model_type, settings = CASES[case]
    torch.manual_seed(0)
    shape = GPT2 if model_type == "gpt2" else SHAPE
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**shape, **settings})).eval()
    with torch.no_grad():  # biases and norms that are not 0 and 1, scores that are not flat
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = Path(mkdtemp(prefix="danlu-family-"))
    theirs.save_pretrained(folder)
    return theirs, auto.load(folder), folder


def close(mine: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)


def uneven() -> tuple[Tensor, Tensor, list[int]]:
    """Ids [3, 13], 1 where there is text, and the lengths: rows padded on the right."""
    lengths = [13, 5, 9]
    ids = torch.randint(0, VOCABULARY, (3, 13), generator=torch.Generator().manual_seed(1))
    return ids, (torch.arange(13) < torch.tensor(lengths)[:, None]).long(), lengths


def test_every_family_is_here():
    assert {model_type for model_type, _ in CASES.values()} == {"gpt2", *DECODERS}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_agree_with_rows_of_uneven_length_and_padding(case):
    theirs, mine, _ = pair(case)
    ids, segments, lengths = uneven()
    expected = theirs(ids, attention_mask=segments).logits
    told = mine({"input_ids": ids, "segment_ids": segments})
    assert torch.isfinite(told).all()
    for row, length in enumerate(lengths):
        close(told[row, :length], expected[row, :length])
    close(mine({"input_ids": ids}), theirs(ids).logits)  # the path without a mask


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_packed_documents_equal_each_alone(case):
    if case == "llama-dynamic":
        pytest.skip("its frequencies follow the longest document of the pass, by definition")
    theirs, mine, _ = pair(case)
    batch, documents = packed([6, 11, 3], 23, VOCABULARY)
    together, at = mine(batch)[0], 0
    for document in documents:
        end = at + document.shape[1]
        close(together[at:end], mine({"input_ids": document})[0])
        close(together[at:end], theirs(document).logits[0])
        at = end


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_cache_in_pieces_equals_transformers_and_one_pass(case):
    theirs, mine, _ = pair(case)
    ids = uneven()[0][:2]
    positions = torch.arange(13).expand(2, 13)
    kept, memory = mine.new_cache(3, 20), None
    whole = mine({"input_ids": ids})
    for start, end in ((0, 6), (6, 7), (7, 13)):
        part = {"input_ids": ids[:, start:end], "position_ids": positions[:, start:end]}
        kept.select(1, part["position_ids"])
        told = mine.logits(mine.hidden(part, kept))
        answer = theirs(part["input_ids"], past_key_values=memory, use_cache=True)
        memory = answer.past_key_values
        close(told, answer.logits)
        if case != "llama-dynamic":  # beyond the learned context, cached keys keep the base they were turned by
            close(told, whole[:, start:end])


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_a_loss_agree(case):
    theirs, _, folder = pair(case)
    mine = auto.load(folder).train()
    theirs.zero_grad()
    ids, segments, _ = uneven()
    labels = ids.masked_fill(segments == 0, -100)
    theirs(ids, attention_mask=segments, labels=labels).loss.backward()
    logits = mine({"input_ids": ids, "segment_ids": segments})
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).backward()
    gradients = as_on_disk(
        {name: parameter.grad for name, parameter in theirs.named_parameters() if parameter.grad is not None}
    )
    seen = 0
    for name, parameter in mine.named_parameters():
        expected = gradients[name]
        if parameter.grad is None:  # an expert that no token visited
            assert not expected.any()
            continue
        seen += 1
        close(parameter.grad, expected)
    assert seen > 20


def as_on_disk(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers fuses experts in memory; take them apart under the names of the file."""
    apart = {}
    for name, value in gradients.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")) and not name.endswith("mlp.gate.weight"):
            apart[name] = value
            continue
        names = {"mlp": ("gate_proj", "up_proj", "down_proj"), "block_sparse_moe": ("w1", "w3", "w2")}
        for kind, (gate, up, down) in names.items():
            prefix = name.replace(".mlp.", f".{kind}.")
            if name.endswith("gate.weight"):
                apart[prefix] = value
                continue
            stem = prefix.rpartition(".")[0]
            for number, expert in enumerate(value):
                if name.endswith("down_proj"):
                    apart[f"{stem}.{number}.{down}.weight"] = expert
                else:
                    apart[f"{stem}.{number}.{gate}.weight"], apart[f"{stem}.{number}.{up}.weight"] = expert.chunk(2)
    return apart


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_transformers_opens_what_danlu_saves(case, tmp_path):
    theirs, mine, _ = pair(case)
    auto.save(mine, tmp_path / "m", lineage=Lineage(verb="test"))
    again, told = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert type(again) is type(theirs)
    ids = uneven()[0]
    close(again.eval()(ids).logits, theirs(ids).logits)
    close(auto.load(tmp_path / "m")({"input_ids": ids}), mine({"input_ids": ids}), 0.0)
