"""What a model takes, predicted from its shape alone, and what is then really held and computed.

从形状预测模型所需的参数、内存与计算量，再与实际占用和实际计算逐项对照。

Random models of three shapes are built; parameters, the tensors after a training step, the bytes that autograd keeps
for the backward pass, the tensors of a full KV cache and the operations that torch counts are put beside the
formulas of `danlu model show`. Then the same account for 7e9 parameters. `worst` is the largest relative error of
what is exact by definition; activations are an estimate and told apart.
"""

import torch
from _common import Raw, arguments, show, write
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from danlu.core.files import human_size
from danlu.models.account import account
from danlu.models.anatomy import Anatomy, examine
from danlu.models.base import Batch, KVCache
from danlu.models.budget import Training, decoder_parameters, flops, kv_bytes, training
from danlu.models.decoder import Decoder
from danlu.models.estimate import llama_like
from danlu.models.shape import DecoderConfig
from danlu.train.config import TrainConfig
from danlu.train.objective import cross_entropy
from danlu.train.optim import build_optimizers

WORK = "predicted and held: parameters, training state, activations, KV cache, operations / 预测值与实际值"
LENGTH, ROWS = 256, 4
SHAPES = {
    "quickstart": DecoderConfig(vocab_size=6693, hidden_size=192, num_hidden_layers=6, num_attention_heads=3, num_key_value_heads=3, intermediate_size=512),
    "grouped": DecoderConfig(vocab_size=6693, hidden_size=256, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2, intermediate_size=704),
    "untied": DecoderConfig(vocab_size=2048, hidden_size=128, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=4, intermediate_size=320, tie_word_embeddings=False),
}  # fmt: skip
LARGE, CONTEXT, USERS, SHARED = 7e9, 4096, 16, 8
METHODS = (("adamw", "bf16"), ("muon", "bf16"), ("lora", "bf16"), ("qlora", "bf16"))


def batch_for(config: DecoderConfig) -> Batch:
    ids = torch.randint(config.vocab_size, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "labels": ids}


def held(config: DecoderConfig) -> dict[str, int]:
    """Bytes of the tensors that a step of AdamW leaves, those kept for the backward pass, a full cache, operations."""
    model = Decoder(config).train()
    model.initialise(torch.Generator().manual_seed(0))
    batch = batch_for(config)
    counted = operations(model, batch)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = cross_entropy(model, batch)
        activations = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in own)
        kept.clear()
        loss.total.backward()
    optimizers = build_optimizers(model, TrainConfig(optimizer="adamw"))
    for optimizer in optimizers:
        optimizer.step()
    states = [value for one in optimizers for slots in one.state.values() for value in slots.values()]
    cache = model.new_cache(ROWS, LENGTH)
    assert isinstance(cache, KVCache)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights": sum(parameter.nbytes for parameter in model.parameters()),
        "gradients": sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None),
        "optimizer": sum(tensor.nbytes for tensor in states),
        "cache": cache.keys.nbytes + cache.values.nbytes,
        "flops": counted,
        "activations": activations,
    }


def operations(model: Decoder, batch: Batch) -> int:
    """A forward pass, as torch counts it: every score, also those that the mask hides."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(batch)
    return counter.get_total_flops()


def predicted(config: DecoderConfig) -> dict[str, int]:
    """The same from the shape, without a model."""
    with torch.device("meta"):
        anatomy = examine(Decoder(config))
    plan: Training = training(anatomy, "adamw", "fp32", ROWS * LENGTH)
    return {
        "parameters": decoder_parameters(anatomy.shape),
        "weights": plan.weights,
        "gradients": plan.gradients,
        "optimizer": plan.optimizer,
        "cache": ROWS * kv_bytes(anatomy.shape, 4, LENGTH),
        "flops": ROWS * LENGTH * flops(anatomy, LENGTH, full=True).forward,
        "activations": plan.activations + plan.copies,
    }


def large(kv_heads: int | None = None) -> Anatomy:
    """A Llama-like model of LARGE parameters; kv_heads: key heads that its query heads share."""
    with torch.device("meta"):
        return examine(Decoder(llama_like(LARGE).model_copy(update={"num_key_value_heads": kv_heads})))


def main() -> None:
    read = arguments(__doc__, repeats=1).parse_args()
    raw: Raw = {}
    found = {}
    for name, config in SHAPES.items():
        told, real = predicted(config), held(config)
        found[name] = {what: {"predicted": told[what], "held": real[what], "error": abs(told[what] - real[what]) / real[what]} for what in real}  # fmt: skip
    rows = [(name, what, f"{one['predicted']:,}", f"{one['held']:,}", f"{one['error']:.2%}") for name, some in found.items() for what, one in some.items()]  # fmt: skip
    show(("model", "what", "predicted", "held", "error"), rows)
    exact = max(one["error"] for some in found.values() for what, one in some.items() if what != "activations")
    rough = max(some["activations"]["error"] for some in found.values())
    told = account(large(), CONTEXT, 1)
    show_large(told)
    print(f"largest error: {exact:.2%} of what is exact, {rough:.2%} of the activations")
    write(read.json, WORK, {}, raw, shapes=found, worst={"exact": exact, "activations": rough}, large=told)


def show_large(told: dict) -> None:
    """What the weights of a large model are, and what comes on top of them."""
    weights = told["inference"]["bf16"]["weights"]
    cache = told["kv_bytes_per_token"]["bf16"] * CONTEXT
    rows: list[tuple[str, str, float]] = [
        ("weights alone, bf16", human_size(weights), 1.0),
        (f"and the cache of 1 × {CONTEXT}", human_size(weights + cache), (weights + cache) / weights),
        (f"and the cache of {USERS} × {CONTEXT}", human_size(weights + USERS * cache), (weights + USERS * cache) / weights),
    ]  # fmt: skip
    shared = weights + USERS * kv_bytes(large(SHARED).shape, 2, CONTEXT)
    rows.append((f"the same, with {SHARED} key heads", human_size(shared), shared / weights))
    for plan in told["training"]:
        if (plan["method"], plan["precision"]) in METHODS:
            state = plan["total"] - plan["activations"]
            rows.append((f"{plan['method']}: state", human_size(state), state / weights))
            rows.append((f"{plan['method']}: and activations of 1 × {CONTEXT}", human_size(plan["total"]), plan["total"] / weights))  # fmt: skip
    print(f"\n{told['parameters']['total']:,} parameters")
    show(("what", "bytes", "times the weights"), rows)
    print()


if __name__ == "__main__":
    main()
