"""A mixture of experts learns with and without a loss that balances them, beside dense models of its two sizes.

混合专家模型：有无负载均衡损失的对比，并与两种规模的稠密模型比较。

All are the same small decoder but for the MLP of each layer, and learn from the same bytes (the Python standard
library's source). A mixture has 8 experts of inner width 64 in each layer and sends each byte to 2 of them, so a byte
meets as many weights as in a dense MLP of width 128, while the model holds as many as one of width 512.
"""

import time

import torch
from _common import Raw, arguments, ratio, show, write
from _learn import held_out, learn, loss
from _small import BYTES, decoder
from torch import Tensor, nn
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from danlu.models.base import Batch
from danlu.models.decoder import Decoder
from danlu.models.moe import MixtralExpert, Router, Routing, SparseMoE, expert_load, load_balancing_loss, record_routing
from danlu.train.objective import Loss, Objective, cross_entropy

WORK = "training steps of a small decoder, sparse and dense / 小模型的训练步：稀疏与稠密"
EXPERTS, CHOSEN, INNER = 8, 2, 64
IDLE = 0.01  # an expert that gets less than this share of its layer's assignments does nothing
# The weight of the balancing loss, and whether it is taken of all layers together or of each.
SPARSE = {
    "no balance": (0.0, False),
    "0.01, layers together": (0.01, False),
    "0.1, layers together": (0.1, False),
    "0.01, each layer": (0.01, True),
    "0.1, each layer": (0.1, True),
}
DENSE = {"dense, width 128": CHOSEN * INNER, "dense, width 512": EXPERTS * INNER}


def sparse(coefficient: float, seed: int = 0) -> Decoder:
    """A Mixtral of two layers."""
    return decoder(
        BYTES,
        seed,
        family="mixtral",
        num_experts=EXPERTS,
        num_experts_per_tok=CHOSEN,
        intermediate_size=INNER,
        router_aux_loss_coef=coefficient,
    )


def parameters(model: Decoder) -> tuple[int, int]:
    """All in the layers, and those that one byte meets."""
    layers = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name)
    idle = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name) * (EXPERTS - CHOSEN) // EXPERTS
    return layers, layers - idle


@torch.no_grad()
def load(model: Decoder, ids: Tensor) -> Tensor:
    """Each expert's share of its layer's assignments on `ids`: [layers, E]."""
    with record_routing(model) as routings:
        model.hidden({"input_ids": ids})
    return expert_load(routings)


def each_layer(coefficient: float) -> Objective:
    """Next-token prediction, and the mean over layers of each layer's own balancing loss."""

    def objective(model: nn.Module, batch: Batch) -> Loss:
        with record_routing(model) as routings:
            text = cross_entropy(model, batch)
        counted = batch["segment_ids"] != 0
        balance = torch.stack([load_balancing_loss([one], counted) for one in routings]).mean()
        return Loss(text.total + coefficient * balance * text.count, text.count, {})

    return objective


def taught(steps: int, seed: int, *, quick: bool) -> tuple[dict[str, dict[str, float]], Raw]:
    """What became of each model, and the processor seconds of its training."""
    makers = {name: lambda c=c, own=own: sparse(0.0 if own else c, seed) for name, (c, own) in SPARSE.items()}
    makers |= {name: lambda w=w: decoder(BYTES, seed, intermediate_size=w) for name, w in DENSE.items()}
    asked, found, raw = held_out(), {}, {}
    for name in ("no balance", "0.1, layers together") if quick else makers:
        model = makers[name]()
        start = time.process_time()
        coefficient, own = SPARSE.get(name, (0.0, False))
        learn(model, steps, seed, each_layer(coefficient) if own else cross_entropy)
        raw[name] = [time.process_time() - start]
        every, active = parameters(model)
        found[name] = {"parameters": every, "active": active, "held_out": loss(model, asked)}
        if name in SPARSE:
            shares = load(model, asked)
            found[name] |= {
                "together": float(shares.mean(0).max()),
                "largest": float(shares.max()),
                "idle": int((shares < IDLE).sum()),
            }
            found[name]["shares"] = shares.sort(-1, descending=True).values.tolist()  # type: ignore[assignment]
    return found, raw


def differences() -> dict[str, float]:
    """The layer against all experts on all tokens in float64; the balance against that of transformers."""
    torch.manual_seed(0)
    layer = SparseMoE(Router(32, EXPERTS, CHOSEN, True), [MixtralExpert(32, 48) for _ in range(EXPERTS)]).double()
    layer.gate.weight.data.mul_(20)
    x = torch.randn(200, 32, dtype=torch.float64)
    weights = (x @ layer.gate.weight.T).softmax(-1)
    kept = weights * (weights >= weights.topk(CHOSEN).values[:, -1:])
    exact = torch.stack([expert(x) for expert in layer.experts], 1) * (kept / kept.sum(-1, keepdim=True))[..., None]
    scores = tuple(torch.randn(200, EXPERTS) for _ in range(3))
    balance = load_balancing_loss([Routing(one, *one.softmax(-1).topk(CHOSEN)) for one in scores])
    return {
        "formula": float((layer(x) - exact.sum(1)).detach().abs().max()),
        "balance": float((balance - load_balancing_loss_func(scores, EXPERTS, CHOSEN)).abs()),
    }


def alone() -> dict[str, float]:
    """The gradient that the router gets from the text's loss, by how many experts are chosen and whether normalised."""
    found = {}
    for chosen, normalise in ((1, True), (1, False), (2, True)):
        torch.manual_seed(0)
        layer = SparseMoE(Router(32, EXPERTS, chosen, normalise), [MixtralExpert(32, 48) for _ in range(EXPERTS)])
        layer(torch.randn(200, 32)).square().sum().backward()
        assert layer.gate.weight.grad is not None
        found[f"{chosen} chosen, {'normalised' if normalise else 'as they are'}"] = float(layer.gate.weight.grad.norm())
    return found


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--steps", type=int, default=400, help="training steps of each model / 每个模型的训练步数")
    parser.add_argument("--quick", action="store_true", help="two of the mixtures only / 只训练其中两个混合专家模型")
    read = parser.parse_args()
    found, raw = taught(read.steps, seed=0, quick=read.quick)
    told = {
        "parameters": "parameters",
        "active": "met by a byte",
        "held_out": "held-out loss",
        "together": "largest share of both layers",
        "largest": "of one layer",
        "idle": "idle experts",
    }
    head = ("MLP", *told.values(), "s")
    show(head, [(name, *(one.get(key, "") for key in told), raw[name][0]) for name, one in found.items()])
    print("\nshares of the experts of each layer, in %, most visited first:")
    for name, one in found.items():
        for number, shares in enumerate(one.get("shares", [])):  # type: ignore[arg-type]
            print(f"{name}, layer {number}: {' '.join(f'{share:.0%}'[:-1] for share in shares)}")
    gradients, differ = alone(), differences()
    print("\ngradient of the router:", "; ".join(f"{name} {value:.3g}" for name, value in gradients.items()))
    print("largest difference:", ", ".join(f"{name} {value:.1e}" for name, value in differ.items()), "\n")
    wide = "dense, width 512"
    evened = found["no balance"]["largest"] / found["0.1, layers together"]["largest"]
    ratios = {} if read.quick else {"experts_vs_dense_512": ratio(raw, "0.1, each layer", wide)}
    write(read.json, WORK, ratios, raw, models=found, router_gradient=gradients, difference=differ, evened=evened)


if __name__ == "__main__":
    main()
