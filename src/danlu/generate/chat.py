"""Talk to a model in the terminal.

在终端里与模型对话。

Example: danlu chat runs/quickstart/sft/model
An empty line or Ctrl-D ends the talk.
"""

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import ConfigError, ContextError
from danlu.core.i18n import tr
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import SamplingParams

__all__ = ["Config", "run"]


class Config(Base):
    """Which model, how to choose tokens."""

    model: Input = doc(..., "model folder", "模型文件夹")
    system: str = doc("", "what the model is told first", "系统提示")
    remember: bool = doc(True, "send earlier turns along", "带上之前的对话")
    sampling: SamplingParams = doc(SamplingParams(), "how tokens are chosen", "采样设置")
    engine: EngineConfig = doc(EngineConfig(), "how the engine runs", "推理引擎设置")


def run(config: Config) -> None:
    """Read, answer, repeat. Raises ConfigError for a model that has no chat template."""
    engine = Engine.open(config.model, config.engine)
    if not engine.tokenizer.has_chat:
        raise ConfigError(
            tr(
                f"{config.model} has no chat template: it was never taught to answer",
                f"{config.model} 没有对话模板:它没学过如何回答",
            ),
            tr(
                "tune it: danlu sft MODEL --data CHATS; or continue text: danlu generate MODEL TEXT",
                "请先微调:danlu sft 模型 --data 对话;或续写:danlu generate 模型 文本",
            ),
        )
    start = [{"role": "system", "content": config.system}] if config.system else []
    messages = list(start)
    while True:
        try:
            said = input("> ")
        except EOFError:
            print()
            return
        if not said.strip():
            return
        messages.append({"role": "user", "content": said})
        answer = ""
        try:
            for piece in engine.stream(messages, config.sampling):
                print(piece, end="", flush=True)
                answer += piece
        except ContextError as error:
            print(error.what, tr("(earlier turns forgotten)", "(已忘记之前的对话)"), sep="\n")
            messages = list(start)
            continue
        print()
        messages = [*messages, {"role": "assistant", "content": answer}] if config.remember else list(start)
