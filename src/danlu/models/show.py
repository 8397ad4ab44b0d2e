"""Show a model's shape, its parameters by part, and what it takes to run and to train.

查看模型的形状、各部分参数量，以及运行与训练所需。

Example: danlu model show runs/quickstart/base/model --context 512 --batch 8
The model is a folder, a config.json or a GGUF file; its weights are not read.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.files import human_size
from danlu.core.gguf import is_gguf
from danlu.core.i18n import tr
from danlu.models.account import account, print_account
from danlu.models.anatomy import open_anatomy

__all__ = ["Config", "run"]


class Config(Base):
    """Which model, and what it should do."""

    model: Input = doc(..., "model folder, config.json or GGUF file", "模型文件夹、config.json 或 GGUF 文件")
    context: PositiveInt | None = doc(
        None, "tokens of a sequence; default: the model's context, at most 4096", "序列长度;默认为模型上下文,至多 4096"
    )
    batch: PositiveInt = doc(1, "sequences at once", "同时处理的序列数")
    rank: PositiveInt = doc(16, "rank of LoRA", "LoRA 的秩")
    json_: bool = doc(False, "print JSON for programs", "输出 JSON,给程序读")


def run(config: Config) -> dict[str, Any]:
    """Print the account of the model; return it."""
    anatomy = open_anatomy(config.model)
    on_disk = _on_disk(config.model)
    told = {**account(anatomy, config.context, config.batch, config.rank), "on_disk": on_disk}
    if config.json_:
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        size = tr(f", {human_size(on_disk)} on disk", f",磁盘上 {human_size(on_disk)}") if on_disk else ""
        print_account(anatomy, told, f"{config.model}{size}")
    return told


def _on_disk(path: Path) -> int:
    """Bytes of the weights, as they are stored; 0 where there are none."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return path.stat().st_size if is_gguf(path) else 0
