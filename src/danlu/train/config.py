"""The settings of the loop; every stage has them under `train`."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from danlu.core.config import Config, doc
from danlu.train.schedule import Schedule

__all__ = ["TrainConfig"]

Memory = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Config):
    """How long, how fast, how careful."""

    steps: PositiveInt | None = doc(None, "optimiser steps; default: from epochs", "优化步数;默认由 epochs 决定")
    epochs: PositiveFloat = doc(1.0, "passes over the data, when steps is not given", "未给 steps 时,遍历数据的次数")
    batch_size: PositiveInt = doc(16, "sequences in a micro-batch", "每个微批的序列数")
    accumulate: PositiveInt = doc(1, "micro-batches in a step", "每步累积的微批数")
    seq_len: PositiveInt = doc(128, "tokens in a packed sequence", "打包序列的长度(token)")
    optimizer: Literal["muon", "adamw"] = doc(
        "muon", "muon: matrices by Muon, the rest by AdamW", "muon:块内矩阵用 Muon,其余用 AdamW"
    )
    lr: PositiveFloat | None = doc(
        None,
        "peak learning rate of AdamW; default: 0.01 beside muon (embeddings and norms), 0.001 alone",
        "AdamW 的峰值学习率;默认:与 muon 并用时 0.01(词嵌入与归一化),单独使用时 0.001",
    )
    matrix_lr: PositiveFloat = doc(0.01, "peak learning rate of Muon", "Muon 的峰值学习率")
    momentum: float = doc(0.95, "Muon's memory of gradients", "Muon 的动量系数", ge=0, lt=1)
    weight_decay: float = doc(0.0, "decoupled weight decay", "解耦权重衰减", ge=0)
    betas: tuple[Memory, Memory] = doc(
        (0.9, 0.95), "AdamW's memory of gradients and of their squares", "AdamW 的一阶、二阶动量系数"
    )
    schedule: Schedule = doc("linear", "how the rate falls after warm-up", "预热之后学习率如何下降")
    warmup: NonNegativeInt = doc(50, "steps of linear warm-up", "线性预热步数")
    floor: float = doc(0.05, "final rate, as a share of the peak", "最终学习率占峰值的比例", ge=0, le=1)
    decay: float = doc(0.2, "share of steps that wsd decays over", "wsd 的衰减段占比", gt=0, le=1)
    clip: PositiveFloat = doc(1.0, "largest norm of the gradient", "梯度范数上限")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = doc(
        "auto", "dtype of the products; auto: what this machine does fast", "矩阵乘法的精度;auto:本机最快的"
    )
    device: str = doc("auto", "cpu, cuda, cuda:1, mps", "设备:cpu、cuda、cuda:1、mps")
    compile: bool = doc(False, "torch.compile the model (pays on long runs)", "用 torch.compile 编译(长训练才划算)")
    seed: NonNegativeInt = doc(0, "seeds initial weights and the order of the data", "初始权重与数据顺序的随机种子")
    log_every: PositiveInt = doc(10, "steps between two lines of metrics", "记录指标的间隔步数")
    eval_every: PositiveInt | None = doc(
        None, "steps between two validations; default: a tenth of the run", "验证的间隔步数;默认全程的十分之一"
    )
    checkpoint_every: PositiveInt = doc(100, "steps between two checkpoints", "保存检查点的间隔步数")
    keep_last: PositiveInt = doc(2, "checkpoints kept", "保留的检查点个数")
    patience: PositiveInt | None = doc(
        None, "stop after so many validations without a better one", "验证连续多少次不变好就提前停止"
    )

    @property
    def peak_lr(self) -> float:
        """AdamW's peak rate. Embeddings, each touched by few tokens, bear far more than matrices do."""
        return self.lr or (1e-2 if self.optimizer == "muon" else 1e-3)
