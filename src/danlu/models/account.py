"""What a model takes, told to people and to programs: one JSON-ready account, and the tables that show it."""

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from danlu.core.device import memory_total
from danlu.core.files import human_size
from danlu.core.i18n import tr
from danlu.models.anatomy import Anatomy
from danlu.models.budget import METHODS, flops, inference, kv_bytes, recomputed_bytes, training

__all__ = ["GPUS", "account", "print_account"]

# GiB, and a card that has so much
GPUS = {
    8: "RTX 4060",
    12: "RTX 3060",
    16: "RTX 4080",
    24: "RTX 4090",
    32: "RTX 5090",
    48: "L40S",
    80: "A100, H100",
    140: "H200",
}
_METHODS = {"adamw": "AdamW", "muon": "Muon", "lora": "LoRA", "qlora": "QLoRA"}
_STORED = ("fp32", "bf16", "int8", "int4")
_USABLE = 0.9  # of a device's memory; the rest is the driver's, the framework's, and what falls between the blocks
_LONGEST = 4096  # tokens, unless told: long contexts are asked for, not assumed
_PER_PARAMETER = 20  # tokens to train on (Hoffmann et al. 2022, Table 3)


def account(anatomy: Anatomy, context: int | None = None, batch: int = 1, rank: int = 16) -> dict[str, Any]:
    """Everything that is known of a model without its weights; sizes in bytes, operations in FLOPs a token.

    context: tokens of a sequence (default: the model's, at most 4096), in generation and in training; batch:
    sequences at once; rank: LoRA's.
    """
    shape = anatomy.shape
    context = context or min(shape.context, _LONGEST)
    operations = flops(anatomy, context)
    plans = [
        {
            "method": method,
            "precision": precision,
            **_with_total(training(anatomy, method, precision, batch * context, rank)),
        }
        for method in METHODS
        for precision in ("fp32", "bf16")
        if (method, precision) != ("qlora", "fp32")
    ]
    told = {
        "shape": asdict(shape) | {"looks": [look._asdict() for look in shape.looks]},
        "parameters": {
            "total": anatomy.total,
            "active": anatomy.total_active,
            "by_part": {part: {"total": anatomy.parts[part], "active": anatomy.active[part]} for part in anatomy.parts},
        },
        "workload": {"context": context, "batch": batch, "rank": rank},
        "kv_bytes_per_token": {stored: kv_bytes(shape, size) for stored, size in (("fp32", 4), ("bf16", 2))},
        "kv_bytes_windowed": kv_bytes(shape, 2, context, windowed=True),
        "inference": {stored: _with_total(inference(anatomy, stored, context, batch)) for stored in _STORED},
        "training": plans,
        "recomputed_activations": {p: recomputed_bytes(shape, batch * context, p) for p in ("fp32", "bf16")},
        "flops_per_token": {
            "matrices": operations.matrices,
            "attention": operations.attention,
            "forward": operations.forward,
            "training": operations.training,
        },
        "compute_optimal": {
            "tokens": _PER_PARAMETER * anatomy.total,
            "flops": _PER_PARAMETER * anatomy.total * operations.training,
        },
    }
    return {**told, "fits": _fits(told)}


def _with_total(sizes: Any) -> dict[str, int]:
    return {**sizes._asdict(), "total": sizes.total}


def _fits(told: dict[str, Any]) -> list[dict[str, Any]]:
    """What each device holds: of generation by precision, of training by method in bf16."""
    rows = []
    for name, size in [*_here(), *((f"{gib} GB, {card}", gib << 30) for gib, card in GPUS.items())]:
        room = size * _USABLE
        runs = {stored: told["inference"][stored]["total"] <= room for stored in _STORED}
        trains = {plan["method"]: plan["total"] <= room for plan in told["training"] if plan["precision"] == "bf16"}
        rows.append({"device": name, "bytes": size, "inference": runs, "training": trains})
    return rows


def _here() -> list[tuple[str, int]]:
    """This machine's memory, and its GPUs'."""
    import torch

    size = memory_total()
    found = [(tr(f"this machine, {human_size(size)}", f"本机内存 {human_size(size)}"), size)]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append((tr(f"this {properties.name}", f"本机 {properties.name}"), properties.total_memory))
    return found


def print_account(anatomy: Anatomy, told: dict[str, Any], title: str) -> None:
    """The account as tables, and how it was counted."""
    console = Console()
    console.print(title, markup=False, highlight=False, soft_wrap=True)
    for table in (_shape(anatomy), _parts(told), _inference(told), _training(told), _compute(told), _devices(told)):
        heading, table.title = table.title, None  # as a title it would be broken to the table's width
        console.print(f"\n{heading}", style="bold", markup=False, highlight=False)
        console.print(table)
    for line in _notes(told):
        console.print(line, markup=False, highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _shape(anatomy: Anatomy) -> Table:
    shape = anatomy.shape
    table = _table(tr("shape", "形状"), "", "")
    rows: list[tuple[str, Any]] = [
        (tr("family", "家族"), shape.model_type),
        (tr("layers", "层数"), shape.layers),
        (tr("width", "宽度"), shape.hidden),
        (tr("heads × width of a head", "头数 × 头宽"), f"{shape.heads} × {shape.head_dim}"),
        (tr("key/value heads", "键值头数"), shape.kv_heads),
        (tr("inner width of the MLP", "前馈层宽度"), f"{shape.inner:,}" + tr(" gated", " 门控") * shape.gated),
        (tr("vocabulary", "词表"), f"{shape.vocabulary:,}" + tr(", tied", ",共用") * shape.tied),
        (tr("context", "上下文"), f"{shape.context:,}"),
    ]
    if shape.sparse:
        chosen = tr(f"{shape.chosen} of {shape.experts}", f"{shape.experts} 选 {shape.chosen}")
        rows.append((tr("experts", "专家"), tr(f"{chosen}, {shape.expert_inner} wide, in {shape.sparse} layers", f"{chosen},宽 {shape.expert_inner},{shape.sparse} 层")))  # fmt: skip
    windows = [look.window for look in shape.looks if look.window]
    if windows:
        rows.append((tr("sliding window", "滑动窗口"), tr(f"{windows[0]:,} in {len(windows)} layers", f"{windows[0]:,},{len(windows)} 层")))  # fmt: skip
    for name, value in rows:
        table.add_row(name, str(value))
    return table


def _parts(told: dict[str, Any]) -> Table:
    names = {
        "embedding": tr("embedding", "词嵌入"),
        "attention": tr("attention", "注意力"),
        "mlp": tr("MLP", "前馈层"),
        "experts": tr("experts", "专家"),
        "router": tr("router", "路由"),
        "norms": tr("norms", "归一化"),
        "head": tr("output head", "输出头"),
    }
    parameters = told["parameters"]
    sparse = parameters["active"] != parameters["total"]
    columns = [tr("part", "部分"), tr("parameters", "参数"), tr("share", "占比")]
    table = _table(tr("parameters", "参数量"), *columns, *([tr("a token meets", "每 token 激活")] if sparse else []))
    for part, count in parameters["by_part"].items():
        row = [names[part], f"{count['total']:,}", f"{count['total'] / parameters['total']:.1%}"]
        table.add_row(*row, *([f"{count['active']:,}"] if sparse else []))
    table.add_section()
    row = [tr("all", "合计"), f"{parameters['total']:,}", "100%"]
    table.add_row(*row, *([f"{parameters['active']:,}"] if sparse else []))
    return table


def _workload(told: dict[str, Any]) -> str:
    work = told["workload"]
    return tr(f"{work['batch']} × {work['context']:,} tokens", f"{work['batch']} × {work['context']:,} token")


def _inference(told: dict[str, Any]) -> Table:
    title = tr(f"memory to generate, {_workload(told)}", f"推理内存,{_workload(told)}")
    table = _table(
        title, tr("weights in", "权重精度"), tr("weights", "权重"), tr("KV cache", "KV 缓存"), tr("all", "合计")
    )
    for stored, size in told["inference"].items():
        table.add_row(stored, *(human_size(size[name]) for name in ("weights", "cache", "total")))
    return table


def _training(told: dict[str, Any]) -> Table:
    title = tr(f"memory to train, micro-batch {_workload(told)}", f"训练内存,微批 {_workload(told)}")
    columns = {
        "weights": tr("weights", "权重"),
        "copies": tr("copies", "副本"),
        "gradients": tr("gradients", "梯度"),
        "optimizer": tr("optimiser", "优化器"),
        "activations": tr("activ.", "激活"),
        "total": tr("all", "合计"),
    }
    table = _table(title, tr("method", "方法"), *columns.values())
    rank = told["workload"]["rank"]
    ranks = {"lora": f" r={rank}", "qlora": f" r={rank}"}
    for plan in told["training"]:
        sizes = (human_size(plan[column]) for column in columns)
        method = _METHODS[plan["method"]] + ranks.get(plan["method"], "")
        table.add_row(f"{method} {plan['precision']}", *sizes)
    return table


def _compute(told: dict[str, Any]) -> Table:
    length = told["workload"]["context"]
    table = _table(tr(f"operations a token, at {length:,} tokens", f"每 token 计算量,长 {length:,}"), "", "GFLOPs")
    names = (tr("matrices", "矩阵"), tr("attention", "注意力"), tr("forward", "前向"), tr("training", "训练"))
    for name, value in zip(names, told["flops_per_token"].values(), strict=True):
        table.add_row(name, f"{value / 1e9:,.3f}")
    return table


def _devices(told: dict[str, Any]) -> Table:
    columns = [*told["inference"], *(_METHODS[method] for method in told["fits"][0]["training"])]
    table = _table(tr("what it fits on (training in bf16)", "放得下吗(训练为 bf16)"), tr("memory", "内存"), *columns)
    for row in told["fits"]:
        fits = [*row["inference"].values(), *row["training"].values()]
        table.add_row(row["device"], *("✓" if one else "·" for one in fits))
    return table


def _notes(told: dict[str, Any]) -> list[str]:
    """How it was counted, and what may be had for less."""
    cache, optimal = told["kv_bytes_per_token"], told["compute_optimal"]
    recomputed = human_size(told["recomputed_activations"]["bf16"])
    lines = [
        (
            f"KV cache: {cache['bf16']:,} bytes a token in bf16 = 2 · layers · kv_heads · head_dim · 2",
            f"KV 缓存:bf16 下每 token {cache['bf16']:,} 字节 = 2 · 层数 · 键值头数 · 头宽 · 2",
        ),
        (
            "state: weights 4, gradients 4, AdamW 8 bytes a parameter (ZeRO, Rajbhandari et al. 2020, §3.1); Muon 4 for matrices in layers; LoRA on every matrix in the layers; QLoRA 4.127 bits a weight (Dettmers et al. 2023)",
            "状态:每参数权重 4、梯度 4、AdamW 8 字节(ZeRO,Rajbhandari 等 2020,§3.1);层内矩阵用 Muon 时为 4;LoRA 加在层内全部矩阵上;QLoRA 每权重 4.127 位(Dettmers 等 2023)",
        ),
        (
            f"activations: counted as Korthikanti et al. 2022, §4.1, fused attention; {recomputed} in bf16 if every layer is recomputed",
            f"激活:按 Korthikanti 等 2022 §4.1 计,融合注意力;若逐层重算,bf16 为 {recomputed}",
        ),
        (
            "operations: 2 a weight and 4 · heads · head_dim for each token looked at (Kaplan et al. 2020, Table 1), causal; training is three times that (PaLM, App. B)",
            "计算量:每权重 2,每看一个 token 为 4 · 头数 · 头宽(Kaplan 等 2020,表 1),按因果计;训练为其三倍(PaLM 附录 B)",
        ),
        (
            f"training on {_PER_PARAMETER} tokens a parameter (Hoffmann et al. 2022): {optimal['tokens']:.3g} tokens, {optimal['flops']:.3g} FLOPs",
            f"按每参数 {_PER_PARAMETER} 个 token 训练(Hoffmann 等 2022):{optimal['tokens']:.3g} token,{optimal['flops']:.3g} FLOPs",
        ),
        (
            "fits: within nine tenths of the device's memory; int8 and int4 are of the layers' matrices",
            "放得下:不超过设备内存的九成;int8、int4 指层内矩阵",
        ),
    ]
    return [tr(en, zh) for en, zh in lines]
