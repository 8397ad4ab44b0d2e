"""Bytes and operations against what torch really holds and counts."""

from dataclasses import replace as changed

import peft
import pytest
import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from danlu.models.anatomy import Look, dissect, examine
from danlu.models.budget import (
    activation_bytes,
    adapter_size,
    decoder_parameters,
    flops,
    inference,
    kv_bytes,
    recomputed_bytes,
    training,
    weight_bytes,
)
from danlu.models.quantised import Int8Linear, is_quantisable
from danlu.models.surgery import replace
from danlu.ops.attention import causal_mask, mutual_mask
from danlu.train.config import TrainConfig
from danlu.train.loop import autocast
from danlu.train.objective import aligned_cross_entropy, cross_entropy
from danlu.train.optim import build_optimizers
from tests.models.shapes import DECODERS, HERE, built, config_of

LENGTH, ROWS = 96, 2


def batch_for(name: str, length: int = LENGTH, rows: int = ROWS) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 61, (rows, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, **({"decoder_input_ids": ids} if name == "t5" else {})}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_is_as_large_as_its_tensors(name: str, dtype: torch.dtype):
    model = built(name).to(dtype)
    cache = model.new_cache(3, 11)
    told = kv_bytes(examine(model).shape, dtype.itemsize, 11)
    assert 3 * told == cache.keys.nbytes + cache.values.nbytes


def test_a_cache_of_windows_only():
    shape = dissect(config_of("gemma3_text")).shape  # six of seven layers see 20 tokens back
    one = 2 * 2 * 8 * 2
    assert kv_bytes(shape, 2, 100) == 7 * 100 * one
    assert kv_bytes(shape, 2, 100, windowed=True) == (6 * 20 + 100) * one
    assert kv_bytes(shape, 2, 10, windowed=True) == kv_bytes(shape, 2, 10)


@pytest.mark.parametrize("name", HERE)
def test_operations_are_those_that_torch_counts(name: str):
    """Exactly, with attention as kernels compute it: every score, also those that a mask hides."""
    model = built(name)
    batch = batch_for(name)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(batch)
    windowless = changed(shape := examine(model).shape, looks=tuple(Look(look.causal) for look in shape.looks))
    told = flops(changed(examine(model), shape=windowless), LENGTH, full=True)
    assert told.forward * LENGTH * ROWS == counter.get_total_flops()


@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
def test_training_is_three_times_that(name: str):
    model = built(name).train()
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        model(batch_for(name)).sum().backward()
    told = flops(examine(model), LENGTH, full=True)
    assert told.training * LENGTH * ROWS == counter.get_total_flops()


def test_operations_as_the_papers_write_them():
    """PaLM, App. B: 6N + 12 L H Q T; Kaplan et al. 2020, Table 1: 2N + 2 L T d, half of the scores being masked."""
    told = dissect(config_of("llama"))
    weights = told.in_layers + told.output
    assert flops(told, 1000, full=True).training == 6 * weights + 12 * 3 * 4 * 8 * 1000
    assert flops(told, 999).forward == 2 * weights + 2 * 3 * (999 + 1) * 32


@pytest.mark.parametrize(("length", "window"), [(30, None), (30, 7), (5, 7), (30, 30), (30, 1)])
def test_how_much_a_causal_token_sees(length: int, window: int | None):
    shape = changed(dissect(config_of("llama")).shape, looks=(Look(True, window),), heads=1, head_dim=1)
    seen = causal_mask(length, window or length, torch.device("cpu")).sum().item()
    assert flops(changed(dissect(config_of("llama")), shape=shape), length).attention == round(4 * seen / length)


def test_how_much_a_token_of_an_encoder_sees():
    shape = dissect(config_of("modernbert")).shape
    seen = mutual_mask(torch.ones(1, 200, dtype=torch.long), 8)[0].sum(-1).max()
    (look,) = {look for look in shape.looks if look.window}
    assert look.window == seen  # the model's 16 are 8 to either side, the token itself beside them


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name in HERE for method in ("adamw", "muon")],
)
def test_the_state_of_a_training_step_is_exact(name: str, method: str):
    model = built(name).train()
    optimizers = build_optimizers(model, TrainConfig(optimizer=method))
    batch = {**batch_for(name, 64, 4), "labels": batch_for(name, 64, 4)["input_ids"]}
    objective = cross_entropy if name in DECODERS else aligned_cross_entropy
    objective(model, batch).total.backward()
    for parameter in model.parameters():
        if parameter.grad is None:  # an expert that nobody visited
            parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    told = training(examine(model), method, "fp32", 1)
    assert told.weights == sum(p.nbytes for p in model.parameters())
    assert told.gradients == sum(p.grad.nbytes for p in model.parameters())
    state = [t for o in optimizers for slots in o.state.values() for t in slots.values()]
    assert told.optimizer == sum(tensor.nbytes for tensor in state)
    assert told.total == told.weights + told.copies + told.gradients + told.optimizer + told.activations


def kept_for_backward(model: torch.nn.Module, batch: dict[str, torch.Tensor], precision: str) -> int:
    """Bytes of all storages that autograd holds after a forward pass, parameters aside."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with autocast(torch.device("cpu"), precision):
            loss = cross_entropy(model, {**batch, "labels": batch["input_ids"]})
        size = sum(t.untyped_storage().nbytes() for place, t in held.items() if place not in parameters)
    assert loss.total.requires_grad
    return size


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["llama", "mixtral", "qwen3", "qwen3_moe", "gemma3_text", "gpt2"])
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_activations_are_within_a_tenth_of_what_autograd_keeps(name: str, precision: str):
    config = config_of(name)
    if name == "gpt2":
        config |= {"n_embd": 64, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "n_positions": 512}
    else:
        config |= {"hidden_size": 64, "intermediate_size": 160, "head_dim": 16, "max_position_embeddings": 512}
    from danlu.models import auto

    torch.manual_seed(0)
    model = auto.build(config).train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    ids = torch.randint(0, 61, (2, 300))
    measured = kept_for_backward(model, {"input_ids": ids}, precision)
    told = training(examine(model), "adamw", precision, 600)
    assert told.activations + told.copies == pytest.approx(measured, rel=0.1)


def test_activations_of_gpt_are_those_of_korthikanti():
    """Their 34 s b h bytes a layer in two-byte numbers are 17 numbers of the width for each token, counted one byte
    for each dropout mask: without the two masks that are outside fused attention, 16."""
    shape = changed(
        dissect(config_of("llama")).shape, gated=False, rms=False, heads=4, kv_heads=4, head_dim=8, hidden=32, inner=128
    )
    one = changed(shape, layers=1, looks=(Look(True),), normed=3 * 32)
    two = changed(shape, layers=2, looks=(Look(True),) * 2, normed=5 * 32)
    a_layer = activation_bytes(two, 1, "fp32") - activation_bytes(one, 1, "fp32")
    assert a_layer - 4 * 4 == 4 * 16 * 32  # fused attention keeps one number a head besides


def test_recomputing_keeps_one_layer_and_the_inputs_of_all():
    shape = dissect(config_of("llama")).shape
    assert recomputed_bytes(shape, 10, "fp32") == 3 * 10 * 32 * 4 + activation_bytes(shape, 10, "fp32") // 3


@pytest.mark.parametrize("rank", [1, 4])
def test_adapters_are_as_large_as_those_of_peft(rank: int):
    config = config_of("llama")
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    adapted = peft.get_peft_model(theirs, peft.LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    trainable, _ = adapted.get_nb_trainable_parameters()
    told = dissect(config)
    assert adapter_size(told, rank) == trainable
    assert training(told, "lora", "fp32", 1, rank).gradients == 4 * trainable
    assert training(told, "lora", "fp32", 1, rank).weights == 4 * (trainable + told.total)


def test_qlora_needs_a_fraction_more_than_half_a_byte():
    told = dissect(config_of("llama"))
    frozen = training(told, "qlora", "bf16", 1, 1).weights - 4 * adapter_size(told, 1)
    in_matrices = frozen - 2 * (told.total - told.in_layers)
    assert in_matrices * 8 / told.in_layers == pytest.approx(4.127, abs=1e-3)  # Dettmers et al. 2023, §3


def test_weights_by_precision():
    model = built("llama")
    told = examine(model)
    assert weight_bytes(told, "fp32") == sum(p.nbytes for p in model.parameters())
    assert weight_bytes(told, "bf16") == sum(p.nbytes for p in built("llama").bfloat16().parameters())
    quantised = built("llama").bfloat16()
    replace(quantised, is_quantisable, Int8Linear.replacing)
    assert weight_bytes(told, "int8") == sum(tensor.nbytes for tensor in quantised.state_dict().values())
    in_blocks = weight_bytes(told, "int4") - 2 * (told.total - told.in_layers)
    assert in_blocks == told.in_layers // 32 * 18  # a block of Q4_0: 32 weights in 18 bytes


def test_generation_is_weights_and_cache():
    told = dissect(config_of("llama"))
    found = inference(told, "int8", 50, 3)
    assert found.total == weight_bytes(told, "int8") + 3 * kv_bytes(told.shape, 2, 50)
    assert inference(told, "fp32", 50, 3).cache == 2 * found.cache


@pytest.mark.parametrize("name", ["llama", "llama tied", "mistral"])
def test_parameters_counted_by_hand(name: str):
    anatomy = dissect(config_of(name))
    assert decoder_parameters(anatomy.shape) == anatomy.total
