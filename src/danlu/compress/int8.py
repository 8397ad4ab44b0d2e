"""Quantise the linear layers' weights to int8: a quarter of the size, nearly the same answers.

把线性层权重量化为 int8:体积四分之一,回答几乎不变。

Example: danlu int8 runs/mine/model --out runs/mine-int8
The result is a model folder in the compressed-tensors layout, which transformers and vLLM read too.
"""

import time
from pathlib import Path
from typing import Literal

import torch

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.files import human_size
from danlu.core.folder import Lineage, ModelFolder
from danlu.core.i18n import tr
from danlu.core.run import Run
from danlu.models import auto
from danlu.models.quantised import Int8Linear, int8_config, is_quantisable
from danlu.models.surgery import replace
from danlu.tokenizer import Tokenizer

__all__ = ["Config", "run"]

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Config(Base):
    """What to quantise, and how to keep the rest."""

    base: Input = doc(..., "model folder", "模型文件夹")
    out: Output = doc(Path("runs/int8"), "the run's folder; the model goes to OUT/model", "运行目录;模型存于 OUT/model")
    rest: Literal["bf16", "fp32"] = doc("bf16", "dtype of embeddings and norms", "词嵌入与归一化层的精度")


def run(config: Config) -> Path:
    """Quantise and save; return the model folder."""
    parent = ModelFolder.open(config.base)
    run = Run(config.out, "int8", config, parent=parent.hash)
    if run.done:
        return run.model_path
    with run:
        began = time.perf_counter()
        model = auto.load(config.base)
        rest = _DTYPES[config.rest]
        names = replace(model, is_quantisable, Int8Linear.replacing)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(rest)
        run.measured = {"layers": len(names), "seconds": round(time.perf_counter() - began, 2)}
        folder = auto.save(
            model,
            run.model_path,
            lineage=Lineage(verb="int8", recipe=config.plain(), parent=parent.hash, run=run.path.name),
            save_tokenizer=Tokenizer.load(config.base).save,
            generation=parent.generation,
            config={"quantization_config": int8_config(model)},
        )
        run.measured["size_ratio"] = round(folder.weight_bytes / parent.weight_bytes, 4)
        folder.record(**run.measured)
        told = (
            f"{human_size(parent.weight_bytes)} -> {human_size(folder.weight_bytes)} ({run.measured['size_ratio']:.1%})"
        )
        print(tr(f"{len(names)} layers to int8: {told}", f"{len(names)} 个线性层转为 int8:{told}"))
        return run.model_path
