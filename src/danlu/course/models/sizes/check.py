"""Checks of the sizes exercise: sums done by hand, and what torch really holds and counts."""

from types import ModuleType
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from danlu.models.anatomy import Anatomy, examine
from danlu.models.budget import activation_bytes
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.ops.loss import linear_cross_entropy, shift
from danlu.train.config import TrainConfig
from danlu.train.optim import build_optimizers

SOLUTION = "danlu.models.budget"

# The quickstart's model
QUICK = {"vocab_size": 6693, "hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "num_key_value_heads": 3, "intermediate_size": 512}  # fmt: skip
# Few heads for keys, heads narrower than the width divided by their number
GROUPED = {"vocab_size": 64, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 96}  # fmt: skip


def _model(shape: dict[str, Any], **more: Any) -> Decoder:
    model = Decoder(DecoderConfig.parse({**shape, **more}, "check"))
    model.initialise(torch.Generator().manual_seed(0))
    return model.train()


def _anatomy(shape: dict[str, Any], **more: Any) -> Anatomy:
    with torch.device("meta"):
        return examine(Decoder(DecoderConfig.parse({**shape, **more}, "check")))


def check_the_quickstart_by_hand(exercise: ModuleType) -> None:
    """6,693·192 + 6·(4·192² + 3·192·512 + 2·192) + 192 = 3,941,760.
    6,693·192 + 6·(4·192² + 3·192·512 + 2·192) + 192 = 3,941,760。
    """
    told = exercise.decoder_parameters(_anatomy(QUICK).shape)
    assert told == 3_941_760, f"{told:,}, not 3,941,760"


def check_grouped_keys_are_narrower(exercise: ModuleType) -> None:
    """k and v have kv_heads · head_dim rows, and heads · head_dim need not be the width.
    k、v 只有 kv_heads · head_dim 行，而 heads · head_dim 也不一定等于模型宽度。
    """
    wanted = sum(parameter.numel() for parameter in _model(GROUPED).parameters())
    told = exercise.decoder_parameters(_anatomy(GROUPED).shape)
    assert told == wanted, f"{told:,}, torch has {wanted:,}"


def check_an_output_matrix_of_its_own(exercise: ModuleType) -> None:
    """Untied, the embedding counts twice: the matrix that scores the vocabulary is as large.
    不共用词嵌入时要算两份：给词表打分的矩阵和词嵌入一样大。
    """
    model = _model(GROUPED, tie_word_embeddings=False)
    wanted = sum(parameter.numel() for parameter in model.parameters())
    told = exercise.decoder_parameters(_anatomy(GROUPED, tie_word_embeddings=False).shape)
    assert told == wanted, f"{told:,}, torch has {wanted:,}"


def check_the_cache(exercise: ModuleType) -> None:
    """2 (keys and values) · layers · kv_heads · head_dim · bytes, for each token; not the query heads.
    每个词元：2（键与值）· 层数 · 键值头数 · 头宽 · 字节数；与查询头数无关。
    """
    for shape in (QUICK, GROUPED):
        cache = _model(shape).new_cache(3, 20)
        wanted = (cache.keys.nbytes + cache.values.nbytes) // 3
        told = exercise.kv_bytes(_anatomy(shape).shape, 4, 20)
        assert told == wanted, f"{told:,} bytes, the tensors have {wanted:,}"
    assert exercise.kv_bytes(_anatomy(QUICK).shape, 2) == 4608, "one token in bf16"


def check_adam_by_what_torch_holds(exercise: ModuleType) -> None:
    """16 bytes a parameter: 4 of weight, 4 of gradient, 8 of Adam's two averages; and 4 a tensor for the step.
    每个参数 16 字节：权重 4、梯度 4、Adam 的两个滑动平均 8；另外每个张量有 4 字节的步数。
    """
    _compare_state(exercise, "adamw")


def check_muon_keeps_one_average(exercise: ModuleType) -> None:
    """Muon keeps one number for each weight of the layers' matrices; embeddings and norms are still AdamW's.
    Muon 对层内矩阵的每个权重只记一个数；词嵌入和归一化层仍然用 AdamW。
    """
    _compare_state(exercise, "muon")


def _compare_state(exercise: ModuleType, method: str) -> None:
    model = _model(GROUPED)
    ids = torch.arange(32).view(2, 16)
    hidden, targets = shift(model.hidden({"input_ids": ids}), ids)
    linear_cross_entropy(hidden, model.output_weight, targets).backward()
    optimizers = build_optimizers(model, TrainConfig.parse({"optimizer": method}, "check"))
    for optimizer in optimizers:
        optimizer.step()
    held = {
        "weights": sum(parameter.nbytes for parameter in model.parameters()),
        "gradients": sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None),
        "optimizer": sum(
            value.nbytes for one in optimizers for slots in one.state.values() for value in slots.values()
        ),
    }
    told = exercise.training(_anatomy(GROUPED), method, "fp32", 1)
    for name, wanted in held.items():
        assert getattr(told, name) == wanted, f"{name}: {getattr(told, name):,} bytes, torch holds {wanted:,}"


def check_copies_and_activations(exercise: ModuleType) -> None:
    """bf16 adds a two-byte copy of the layers' matrices; activations grow with the micro-batch, the rest does not.
    bf16 要给层内矩阵多留一份双字节副本；激活随微批增大，其余各项不变。
    """
    anatomy = _anatomy(GROUPED)
    one, many = (exercise.training(anatomy, "adamw", "bf16", tokens) for tokens in (16, 64))
    assert one.copies == 2 * anatomy.in_layers + 4 * anatomy.output, f"copies {one.copies:,}"
    assert many.activations == activation_bytes(anatomy.shape, 64, "bf16"), f"activations {many.activations:,}"
    assert one[:4] == many[:4], "only activations may grow with the micro-batch"


def check_operations_as_torch_counts_them(exercise: ModuleType) -> None:
    """With full=True equal to torch's own counter: 2 a weight, 4 · heads · head_dim for each token looked at.
    full=True 时应与 torch 的计数器完全一致：每个权重 2，每看一个词元 4 · 头数 · 头宽。
    """
    for more in ({}, {"tie_word_embeddings": False}):
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            _model(GROUPED, **more)({"input_ids": torch.arange(24)[None]})
        told = 24 * exercise.flops(_anatomy(GROUPED, **more), 24, full=True).forward
        assert told == counter.get_total_flops(), f"{told:,} operations, torch counts {counter.get_total_flops():,}"


def check_a_token_sees_half_on_average(exercise: ModuleType) -> None:
    """Causal: the first token sees 1, the last all, on average (length + 1) / 2; the matrices do not change.
    因果注意力：第一个词元看 1 个，最后一个看全部，平均 (length + 1) / 2 个；矩阵部分不变。
    """
    anatomy = _anatomy(QUICK)
    told = exercise.flops(anatomy, 511)
    assert told.matrices == 2 * (2_654_208 + 1_285_056), f"matrices {told.matrices:,}"
    assert told.attention == 6 * 4 * 192 * 256, f"attention {told.attention:,}, not {6 * 4 * 192 * 256:,}"
