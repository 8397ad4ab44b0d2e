"""Fill the blanks of a text with a masked language model, from what stands on both sides of each.

用掩码语言模型填空：依据空格两侧的文字猜测缺少的词元。

Example: danlu fill runs/mlm/model "床前明月[MASK]，疑是地上霜。"
Each [MASK] is one token. All blanks are guessed at once, none of them knowing what the others became.
"""

from typing import NamedTuple

import torch
from pydantic import PositiveInt

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import ConfigError, ContextError, DataError
from danlu.core.i18n import tr
from danlu.models import auto
from danlu.models.base import LanguageModel
from danlu.tokenizer import Tokenizer
from danlu.tokenizer.markup import check_text

__all__ = ["BLANK", "Candidate", "Config", "draw", "fill_blanks", "filled", "run"]

BLANK = "[MASK]"  # how people write a blank, whatever the model's own token for it is called
_WIDTH = 30  # of the bar of a certainty, in characters


class Config(Base):
    """Which model, which text."""

    model: Input = doc(..., "folder of a masked language model", "掩码语言模型的文件夹")
    text: str = doc(..., "text with one or more [MASK] in it", "含有一个或多个 [MASK] 的文本")
    top: PositiveInt = doc(5, "candidates to show for each blank", "每处空格显示的候选数")


class Candidate(NamedTuple):
    """A token that may stand in a blank, and how probable the model finds it."""

    token_id: int
    text: str
    probability: float

    @property
    def shown(self) -> str:
        """The text without the space it brings along; blanks and line ends as Python writes them."""
        return self.text.strip() or repr(self.text)


def run(config: Config) -> None:
    """Print the filled text, and for each blank its likeliest tokens."""
    model, tokenizer = auto.load(config.model), Tokenizer.load(config.model)
    print(draw(config.text, fill_blanks(model, tokenizer, config.text, config.top)))


# lesson: fill
@torch.no_grad()
def fill_blanks(model: LanguageModel, tokenizer: Tokenizer, text: str, top: int = 5) -> list[list[Candidate]]:
    """For each blank of `text`, from left to right, the `top` likeliest tokens, likeliest first.

    Leaves the model in evaluation. Raises ConfigError when the tokenizer has no mask token, DataError for a text
    without a blank, ContextError for one that is longer than the model reads.
    """
    ids = torch.tensor([_read(text, tokenizer)], device=model.device)
    if ids.shape[1] > model.context:
        raise ContextError(
            tr(
                f"the text has {ids.shape[1]} tokens, the model's context is {model.context}",
                f"文本有 {ids.shape[1]} 个词元，模型的上下文为 {model.context}",
            ),
            tr("shorten it", "请缩短文本"),
        )
    hidden = model.eval().hidden({"input_ids": ids})
    probabilities = model.logits(hidden[ids == tokenizer.mask_id]).float().softmax(-1)
    probabilities = probabilities[..., : tokenizer.vocab_size]  # a matrix may be padded to a round size
    best = probabilities.topk(min(top, probabilities.shape[-1]), dim=-1)
    return [
        [Candidate(number, _spell(number, tokenizer), share) for number, share in zip(numbers, shares, strict=True)]
        for numbers, shares in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


# end lesson


def filled(text: str, blanks: list[list[Candidate]]) -> str:
    """`text` with the likeliest token in each blank, marked: 床前明月【光】."""
    parts = text.split(BLANK)
    told = [f"【{candidates[0].shown}】" for candidates in blanks]
    return "".join(part + (told[number] if number < len(told) else "") for number, part in enumerate(parts))


def draw(text: str, blanks: list[list[Candidate]]) -> str:
    """The picture of it: the filled text, then a bar for each candidate of each blank."""
    lines = [filled(text, blanks)]
    for number, candidates in enumerate(blanks, 1):
        lines.append(tr(f"blank {number}", f"空 {number}") if len(blanks) > 1 else "")
        for candidate in candidates:
            bar = "█" * round(_WIDTH * candidate.probability)
            lines.append(f"  {candidate.probability:6.1%}  {candidate.shown}  {bar}".rstrip())
    return "\n".join(lines)


def _read(text: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of `text`, blanks as the model's mask token, framed as the tokenizer frames a text."""
    if tokenizer.mask_id is None:
        raise ConfigError(
            tr("this model has no mask token: it cannot fill blanks", "该模型没有 mask 词元，不能填空"),
            tr("train one that can: danlu mlm", "请训练一个：danlu mlm"),
        )
    if BLANK not in text:
        raise DataError(
            tr(f"there is no {BLANK} in the text", f"文本中没有 {BLANK}"),
            tr(f"write {BLANK} where a token is to be guessed", f"请在需要猜测的地方写上 {BLANK}"),
        )
    mask = tokenizer.backend.id_to_token(tokenizer.mask_id) or BLANK
    return tokenizer.backend.encode(check_text(text).replace(BLANK, mask)).ids


def _spell(number: int, tokenizer: Tokenizer) -> str:
    """A token as people read it; one that is a part of a character by its name."""
    text = tokenizer.decode([number], skip_special=False)
    name = tokenizer.backend.id_to_token(number) or text
    return name if not text or "\ufffd" in text else text
