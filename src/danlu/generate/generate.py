"""Continue a text with a model, or answer a question with --chat.

用模型续写文本;加 --chat 则作为提问来回答。

Example: danlu generate runs/quickstart/base/model "《江南春》"
"""

import sys

from pydantic import PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import DataError
from danlu.core.i18n import tr
from danlu.generate.engine import Engine, EngineConfig, Prompt
from danlu.generate.params import SamplingParams

__all__ = ["Config", "run"]


class Config(Base):
    """Which model, which text, how to choose tokens."""

    model: Input = doc(..., "model folder", "模型文件夹")
    prompt: str = doc(..., "text to continue; '-' reads standard input", "要续写的文本;“-”表示读标准输入")
    chat: bool = doc(False, "treat the prompt as a question", "把文本当作提问")
    n: PositiveInt = doc(1, "how many answers", "生成几份")
    sampling: SamplingParams = doc(SamplingParams(), "how tokens are chosen", "采样设置")
    engine: EngineConfig = doc(EngineConfig(), "how the engine runs", "推理引擎设置")


def run(config: Config) -> None:
    """Print the answer as it comes; several answers one after another."""
    text = _read_stdin() if config.prompt == "-" else config.prompt
    prompt: Prompt = [{"role": "user", "content": text}] if config.chat else text
    engine = Engine.open(config.model, config.engine)
    if config.n > 1:
        for number, answer in enumerate(engine.generate([prompt] * config.n, config.sampling), 1):
            print(f"[{number}]\n{answer.text}\n")
        return
    for piece in engine.stream(prompt, config.sampling):
        print(piece, end="", flush=True)
    print()


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise DataError(
            tr(
                f"standard input is not UTF-8: byte {error.start} cannot be decoded",
                f"标准输入不是 UTF-8:第 {error.start} 个字节无法解码",
            ),
            tr("convert it first, for instance with iconv", "请先转换编码,例如用 iconv"),
        ) from None
