"""Show how probable a model finds each token of a text, and what it expected instead.

逐个 token 显示模型给出的概率，以及它原本更看好的选择。

Example: danlu model probabilities runs/quickstart/base/model "江南春水绿" --out surprise.html
Surprisal is -log2 p, in bits: 1 for a coin's toss. The picture is an HTML page of the text, redder where the model
is more surprised; the pointer shows the alternatives.
"""

import html
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import NonNegativeInt
from rich.console import Console
from rich.table import Table

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError
from danlu.core.files import atomic_path
from danlu.core.i18n import language, tr
from danlu.evaluate.labels import label, labels, tokens_of
from danlu.models import auto
from danlu.models.base import LanguageModel
from danlu.models.encoder import Encoder
from danlu.models.seq2seq import EncoderDecoder
from danlu.ops.loss import logprobs
from danlu.tokenizer import Tokenizer

__all__ = ["Config", "Scored", "run", "score", "strip"]

_ROWS = 256  # positions whose logits are held at once
_MOST_BITS = 12  # from here on the colour is full: one in 4096
_STYLE = (
    "body{font:18px/2 Georgia,'Noto Serif CJK SC','Songti SC',SimSun,serif;max-width:50em;margin:3em auto;padding:0 1em}"
    "span{padding:.15em 0;border-radius:2px;white-space:pre-wrap}p{color:#6b675f;font-size:15px}"
)


class Config(Base):
    """Which model, which text."""

    model: Input = doc(..., "model folder or GGUF file", "模型文件夹或 GGUF 文件")
    text: str = doc(..., "text to read", "要读的文本")
    top: NonNegativeInt = doc(3, "alternatives shown", "列出的备选个数", le=100)
    out: Output | None = doc(None, "draw the text into this .html file", "把文本画成这个 .html 文件")
    json_: bool = doc(False, "print JSON for programs", "输出 JSON,给程序读")


class Scored(NamedTuple):
    """What a model thought of one token, given all before it. logprob in nats; rank 1 is the most probable."""

    id: int
    logprob: float
    rank: int
    top: list[tuple[int, float]]  # the most probable tokens and their logprobs

    @property
    def probability(self) -> float:
        return math.exp(self.logprob)

    @property
    def bits(self) -> float:
        """Surprisal, -log2 p (Shannon 1948)."""
        return -self.logprob / math.log(2)


@torch.no_grad()
def score(model: LanguageModel, ids: Sequence[int], top: int = 3) -> list[Scored]:
    """Every token of `ids` but the first, which nothing stands before: len(ids) - 1 of them."""
    hidden = model.hidden({"input_ids": torch.tensor([list(ids)])})[0, :-1]
    found: list[Scored] = []
    for states, targets in zip(hidden.split(_ROWS), torch.tensor(ids[1:]).split(_ROWS), strict=True):
        logits = model.logits(states)
        own = logprobs(logits, targets)
        ranks = (logits > logits.gather(-1, targets[:, None])).sum(-1) + 1
        best = logits.topk(min(top, logits.shape[-1]), dim=-1).indices
        others = [logprobs(logits, column).tolist() for column in best.unbind(-1)]
        for at, number in enumerate(targets.tolist()):
            alternatives = [(other, logs[at]) for other, logs in zip(best[at].tolist(), others, strict=True)]
            found.append(Scored(number, float(own[at]), int(ranks[at]), alternatives))
    return found


def run(config: Config) -> dict[str, Any]:
    """Print the table, draw the picture; return what was found."""
    if config.out is not None and config.out.suffix.lower() != ".html":
        raise ConfigError(
            tr(f"{config.out}: the picture is an HTML page", f"{config.out}:图片为 HTML 网页"),
            tr("end the name in .html", "文件名请以 .html 结尾"),
        )
    model = auto.load(config.model, dtype=torch.float32)
    if isinstance(model, Encoder | EncoderDecoder):
        raise ConfigError(
            tr("only a decoder gives the probability of a text, token by token", "只有解码器能逐 token 给出文本的概率"),
            tr("give a decoder, such as llama or gpt2", "请给出解码器,如 llama、gpt2"),
        )
    tokenizer = Tokenizer.load(config.model)
    ids = tokens_of(tokenizer, config.text, model.context, least=2)
    names, scored = labels(tokenizer, ids), score(model, ids, config.top)
    told = _told(tokenizer, names, scored)
    if config.out is not None:
        page = strip(names, scored, tokenizer)
        with atomic_path(config.out) as temporary:
            temporary.write_text(page, encoding="utf-8")
    if config.json_:
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        _print(told, config)
    return told


def _told(tokenizer: Tokenizer, names: list[str], scored: list[Scored]) -> dict[str, Any]:
    bits = sum(one.bits for one in scored)
    tokens = [
        {
            "token": name,
            "id": one.id,
            "probability": one.probability,
            "logprob": one.logprob,
            "bits": one.bits,
            "rank": one.rank,
            "top": [
                {"token": label(tokenizer, number), "id": number, "probability": math.exp(log)}
                for number, log in one.top
            ],
        }
        for name, one in zip(names[1:], scored, strict=True)
    ]
    return {"first": names[0], "tokens": tokens, "bits": bits, "perplexity": 2 ** (bits / len(scored))}


def _print(told: dict[str, Any], config: Config) -> None:
    console, table = Console(), Table()
    for name in (
        tr("token", "词元"),
        tr("probability", "概率"),
        tr("bits", "比特"),
        tr("rank", "名次"),
        tr("expected", "更看好"),
    ):
        table.add_column(name, justify="right" if table.columns and len(table.columns) < 4 else "left")
    table.add_row(told["first"], "", "", "", tr("nothing stands before it", "前面没有内容"))
    for one in told["tokens"]:
        expected = "  ".join(f"{other['token']} {other['probability']:.1%}" for other in one["top"])
        figures = (f"{one['probability']:.2%}", f"{one['bits']:.2f}", str(one["rank"]), expected)
        table.add_row(*(cell.replace("[", r"\[") for cell in (one["token"], *figures)))
    console.print(table)
    count = len(told["tokens"])
    told_sum = tr(
        f"{told['bits']:.1f} bits for {count} tokens, perplexity {told['perplexity']:.2f}",
        f"{count} 个 token 共 {told['bits']:.1f} 比特,困惑度 {told['perplexity']:.2f}",
    )
    console.print(told_sum, highlight=False)
    if config.out is not None:
        console.print(str(config.out), markup=False, highlight=False, soft_wrap=True)


def strip(names: list[str], scored: list[Scored], tokenizer: Tokenizer) -> str:
    """The text as an HTML page: the redder a token, the more bits it took; white at 0, full at 12."""
    spans = [f'<span title="{tr("nothing stands before it", "前面没有内容")}">{_shown(names[0])}</span>']
    for name, one in zip(names[1:], scored, strict=True):
        others = "\n".join(f"{label(tokenizer, number)} {math.exp(log):.1%}" for number, log in one.top)
        title = html.escape(f"{one.probability:.2%}, {one.bits:.2f} bits, rank {one.rank}\n{others}", quote=True)
        share = min(one.bits / _MOST_BITS, 1.0)
        spans.append(f'<span style="background:rgba(168,50,42,{share:.3f})" title="{title}">{_shown(name)}</span>')
    bits = sum(one.bits for one in scored)
    told = tr(
        f"{bits:.1f} bits for {len(scored)} tokens; white: expected, red: {_MOST_BITS} bits or more",
        f"{len(scored)} 个 token 共 {bits:.1f} 比特;白:意料之中,红:{_MOST_BITS} 比特以上",
    )
    return (
        f'<!doctype html><html lang="{language()}"><head><meta charset="utf-8"><title>{tr("surprisal", "惊异度")}</title>'
        f"<style>{_STYLE}</style></head><body><div>{''.join(spans)}</div><p>{told}</p></body></html>\n"
    )


def _shown(name: str) -> str:
    """A token in running text: blanks as themselves, a line's end with its sign."""
    return html.escape(name).replace("␣", " ").replace("⏎", "⏎\n")
