"""Checks of the pre-training exercise."""

import math
from types import ModuleType

import torch
import torch.nn.functional as F

from danlu.models.base import Batch
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.train.config import TrainConfig
from danlu.train.loop import Loop, TrainState

SOLUTION = {"cross_entropy": "danlu.train.objective:cross_entropy", "step": "danlu.train.loop:_step"}

VOCABULARY = 20
SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16}


def _model() -> Decoder:
    model = Decoder(DecoderConfig(vocab_size=VOCABULARY, **SHAPE))
    model.initialise(torch.Generator().manual_seed(0))
    return model


def _batch(lengths: list[int], seed: int = 0) -> Batch:
    """A row of 10 places for each length: that many tokens, then padding."""
    ids = torch.randint(0, VOCABULARY, (len(lengths), 10), generator=torch.Generator().manual_seed(seed))
    places = torch.arange(10).expand_as(ids)
    inside = places < torch.tensor(lengths)[:, None]
    labels = torch.where(inside & (places > 0), ids, -100)
    return {"input_ids": ids, "labels": labels, "position_ids": places * inside, "segment_ids": inside.long()}


def _reference(model: Decoder, batch: Batch) -> torch.Tensor:
    """torch's own cross-entropy, summed."""
    logits, labels = model(batch)[:, :-1], batch["labels"][:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")


def _run(exercise: ModuleType, micro: list[Batch], **settings: float) -> tuple[dict[str, torch.Tensor], dict, Loop]:
    """What the optimiser was given, what the step returned, and the loop afterwards."""
    still = {"precision": "fp32", "device": "cpu", "optimizer": "adamw", "schedule": "constant", "warmup": 0}
    config = TrainConfig(**{**still, "clip": 1e9, **settings})
    loop, caught = Loop(_model(), micro, config, 10, TrainState()), {}

    def catch(*_: object) -> None:
        caught.update({name: p.grad.clone() for name, p in loop.model.named_parameters() if p.grad is not None})

    loop.optimizers[0].register_step_pre_hook(catch)
    told = exercise.step(loop, micro, exercise.cross_entropy)
    assert caught, "no optimiser stepped"
    return caught, told, loop


def _whole(micro: list[Batch]) -> tuple[dict[str, torch.Tensor], float, int]:
    """Gradient and value of the mean over all tokens of all micro-batches, by torch."""
    model = _model()
    count = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in micro)
    mean = torch.stack([_reference(model, batch) for batch in micro]).sum() / count
    mean.backward()
    return {name: p.grad for name, p in model.named_parameters()}, mean.item(), count


def check_uniform_guessing_costs_log_v(exercise: ModuleType) -> None:
    """A model that finds all tokens equally likely pays ln(V) for each; return the SUM, not the mean.
    认为所有词元同样可能的模型，每个词元的代价是 ln(V)；要返回总和，不是平均值。
    """
    model, batch = _model(), _batch([10, 4])
    torch.nn.init.zeros_(model.lm_head.weight)
    total, wanted = exercise.cross_entropy(model, batch).total.item(), 12 * math.log(VOCABULARY)
    assert abs(total - wanted) < 1e-3, f"{total:.3f}, but 12 tokens at ln {VOCABULARY} each cost {wanted:.3f}"


def check_the_count(exercise: ModuleType) -> None:
    """Count the labels that are predicted: position 0 predicts label 1, and -100 counts for nothing.
    数一数被预测的标签：第 0 个位置预测第 1 个标签，-100 不算。
    """
    count = int(exercise.cross_entropy(_model(), _batch([10, 4, 2])).count)
    assert count == 9 + 3 + 1, f"{count} tokens counted, not 13"


def check_each_position_predicts_the_next_token(exercise: ModuleType) -> None:
    """logits[:, :-1] against labels[:, 1:]; unshifted, a model only has to copy what it sees.
    用 logits[:, :-1] 对 labels[:, 1:]；不错开一位，模型只需照抄看到的词元。
    """
    model, batch = _model(), _batch([10, 7, 3], seed=1)
    told, wanted = exercise.cross_entropy(model, batch).total.item(), _reference(model, batch).item()
    copied = F.cross_entropy(model(batch).flatten(0, 1), batch["labels"].flatten(), ignore_index=-100, reduction="sum")
    assert abs(told - copied.item()) > 1e-3, "this is the loss of copying: shift the labels by one"
    assert abs(told - wanted) < 1e-3, f"{told:.4f}, not {wanted:.4f}"


def check_even_micro_batches(exercise: ModuleType) -> None:
    """Two equal micro-batches must give the gradient of the mean over both: divide by the tokens of both.
    两个相同大小的微批，梯度应等于两者合起来的平均：除以两者的词元总数。
    """
    micro = [_batch([10, 10], seed) for seed in (1, 2)]
    _compare(_run(exercise, micro)[0], _whole(micro)[0])


def check_uneven_micro_batches(exercise: ModuleType) -> None:
    """18 tokens here, 1 there: a mean of means lets that one token weigh as much as the 18. Divide once, at the end.
    这边 18 个词元，那边 1 个：“平均的平均”让这 1 个与那 18 个一样重。只在最后除一次。
    """
    micro = [_batch([10, 10], 1), _batch([2, 1], 2), _batch([5, 8], 3)]
    _compare(_run(exercise, micro)[0], _whole(micro)[0])


def check_what_it_returns(exercise: ModuleType) -> None:
    """loss is the sum of all losses over the number of all labelled tokens; step_tokens is that number.
    loss 是全部损失之和除以全部有标签的词元数；step_tokens 就是这个数目。
    """
    micro = [_batch([10, 10], 1), _batch([2, 1], 2)]
    _, told, _ = _run(exercise, micro)
    _, mean, count = _whole(micro)
    assert told["step_tokens"] == count, f"step_tokens {told['step_tokens']}, not {count}"
    assert abs(told["loss"] - mean) < 1e-4, f"loss {told['loss']:.4f}, not {mean:.4f}"


def check_clipping_comes_after_the_division(exercise: ModuleType) -> None:
    """Clip the gradient of the mean: clipped before the division, it ends far below the limit.
    裁剪的应是平均之后的梯度：若先裁剪再除，结果会远低于上限。
    """
    micro = [_batch([10, 10], 1), _batch([2, 1], 2)]
    whole = torch.stack([gradient.norm() for gradient in _whole(micro)[0].values()]).norm()
    limit = float(whole) / 4
    caught, _, _ = _run(exercise, micro, clip=limit)
    norm = float(torch.stack([gradient.norm() for gradient in caught.values()]).norm())
    assert abs(norm - limit) < 0.01 * limit, f"norm {norm:.4g} after clipping to {limit:.4g}"


def check_the_next_step_starts_from_nothing(exercise: ModuleType) -> None:
    """Gradients add up in p.grad until someone clears them: set p.grad to None after the optimiser's step.
    梯度会在 p.grad 里一直累加：优化器走完一步后，要把 p.grad 设为 None。
    """
    _, _, loop = _run(exercise, [_batch([10, 10])])
    left = [name for name, p in loop.model.named_parameters() if p.grad is not None and p.grad.any()]
    assert not left, f"left over: {left[0]}"


def _compare(told: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for name, gradient in wanted.items():
        error = float((told[name] - gradient).norm() / gradient.norm())
        assert error <= 1e-4, f"the gradient of {name} is off by {error:.0%}"
