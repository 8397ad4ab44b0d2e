"""Continue a text with a model, or answer a question with --chat.

用模型续写文本;加 --chat 则作为提问来回答。

Example: danlu generate runs/quickstart/base/model "《江南春》"
An encoder-decoder such as T5 answers the text instead; `danlu denoise` makes one that fills blanks: "春<extra_id_0>秋月".
"""

import sys
from collections.abc import Iterable, Sequence

from pydantic import PositiveFloat, PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import ConfigError, DataError
from danlu.core.i18n import tr
from danlu.generate.engine import Engine, EngineConfig, Prompt
from danlu.generate.params import Completion, SamplingParams
from danlu.generate.search import Search
from danlu.generate.seq2seq import Seq2Seq, is_seq2seq

__all__ = ["Config", "run"]


class Config(Base):
    """Which model, which text, how to choose tokens."""

    model: Input = doc(..., "model folder", "模型文件夹")
    prompt: str = doc(..., "text to continue; '-' reads standard input", "要续写的文本;“-”表示读标准输入")
    chat: bool = doc(False, "treat the prompt as a question", "把文本当作提问")
    n: PositiveInt = doc(1, "how many answers", "生成几份")
    beams: PositiveInt = doc(1, "beam search over so many answers; 1: none", "束搜索的束宽;1 表示不用")
    length_penalty: float = doc(1.0, "of beam search; above 0 favours long answers", "束搜索:大于 0 时偏好长回答")
    amateur: Input | None = doc(
        None, "contrastive decoding: say what this weaker model would not", "对比解码:与之对比的较弱模型"
    )
    alpha: PositiveFloat = doc(
        0.1, "of contrastive decoding: as likely as the best times this", "对比解码:概率不低于最佳者的多少倍", le=1
    )
    beta: PositiveFloat | None = doc(
        None, "its later formula: (1 + beta) expert - beta amateur", "改用后来的公式:(1 + beta) 专家 - beta 业余"
    )
    penalty_alpha: float = doc(
        0.0,
        "contrastive search: weight against repeating, among sampling.top_k tokens (0: 5)",
        "对比搜索:在 sampling.top_k 个候选(0 即 5 个)中对重复的惩罚权重",
        ge=0,
        le=1,
    )
    sampling: SamplingParams = doc(SamplingParams(), "how tokens are chosen", "采样设置")
    engine: EngineConfig = doc(EngineConfig(), "how the engine runs", "推理引擎设置")


def run(config: Config) -> None:
    """Print the answer as it comes; several answers one after another."""
    search = Search(**{name: getattr(config, name) for name in Search._fields})
    method = search.method()
    text = _read_stdin() if config.prompt == "-" else config.prompt
    if is_seq2seq(config.model):
        if method:
            raise ConfigError(
                tr(
                    f"{method} needs a decoder, not an encoder-decoder",
                    f"{method} 只用于解码器模型,不支持编码器-解码器",
                ),
                tr(f"leave out {method}", f"请去掉 {method}"),
            )
        _answer_source(text, config)
        return
    prompt: Prompt = [{"role": "user", "content": text}] if config.chat else text
    engine = Engine.open(config.model, config.engine)
    if method:
        answers = search.answers(engine, prompt, config.sampling, config.n)
        _show_all(answers) if len(answers) > 1 else _show([answers[0].text])
    elif max(config.n, config.sampling.n) > 1 or config.sampling.best_of:
        several = config.sampling.model_copy(update={"n": max(config.n, config.sampling.n)})
        _show_all(engine.generate([prompt], several))
    else:
        _show(engine.stream(prompt, config.sampling))


def _answer_source(text: str, config: Config) -> None:
    if config.chat:
        raise ConfigError(
            tr(
                f"{config.model} is an encoder-decoder: it knows no chats",
                f"{config.model} 是编码器-解码器模型,不懂对话",
            ),
            tr("leave out --chat", "请去掉 --chat"),
        )
    model = Seq2Seq.open(config.model, config.engine)
    if config.n > 1:
        _show_all(model.generate([text] * config.n, config.sampling))
    else:
        _show(model.stream(text, config.sampling))


def _show(pieces: Iterable[str]) -> None:
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def _show_all(answers: Sequence[Completion]) -> None:
    for number, answer in enumerate(answers, 1):
        print(f"[{number}]\n{answer.text}\n")
        if answer.error:
            raise answer.error


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
