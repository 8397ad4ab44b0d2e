"""Draw how much each token of a text looks at each other, by layer and head.

画出一段文本中各 token 的注意力，按层与头排列。

Example: danlu model attention runs/quickstart/base/model "江南春" --out attention.png
The picture is PNG, SVG or HTML by its name. --layer and --head (both from 0) enlarge one row, column or map.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeInt
from rich.console import Console

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.core.picture import check_kind, save_picture
from danlu.evaluate.labels import labels, tokens_of
from danlu.models import auto
from danlu.models.encoder import Encoder
from danlu.models.record import Seen, attention_maps
from danlu.models.seq2seq import EncoderDecoder
from danlu.tokenizer import Tokenizer

__all__ = ["Config", "choose", "drawing", "run"]

_MOST = 150_000  # cells of all maps; beyond, drawing takes minutes and the cells are smaller than a pixel
_SIDE = {1: 420, 4: 240, 12: 160}  # pixels of a map, by how many maps there are at most
_SMALLEST, _LARGEST = 72, 160  # of many
_LEGIBLE, _TINY = 9, 5  # pixels that a token's name needs, alone and among many maps


class Config(Base):
    """Which model, which text, which of its maps."""

    model: Input = doc(..., "model folder or GGUF file", "模型文件夹或 GGUF 文件")
    text: str = doc(..., "text to read", "要读的文本")
    out: Output = doc(Path("attention.png"), "picture: .png, .svg or .html", "图片:.png、.svg 或 .html")
    layer: NonNegativeInt | None = doc(None, "only this layer, from 0", "只画这一层(从 0 计)")
    head: NonNegativeInt | None = doc(None, "only this head, from 0", "只画这一头(从 0 计)")


def run(config: Config) -> Path:
    """Draw the picture; return its path."""
    check_kind(config.out)
    model = auto.load(config.model, dtype=torch.float32)
    if isinstance(model, EncoderDecoder):
        raise ConfigError(
            tr("the attention of an encoder-decoder is not drawn", "尚不支持画编码器-解码器模型的注意力"),
            tr("give a decoder or an encoder, such as llama or bert", "请给出解码器或编码器,如 llama、bert"),
        )
    tokenizer = Tokenizer.load(config.model)
    ids = tokens_of(tokenizer, config.text, model.context, framed=isinstance(model, Encoder))
    maps = choose(attention_maps(model, {"input_ids": torch.tensor([ids])}), config.layer, config.head)
    save_picture(drawing(maps, labels(tokenizer, ids)), config.out)
    Console().print(
        tr(f"{len(maps)} maps of {len(ids)} tokens:", f"{len(ids)} 个 token 的 {len(maps)} 幅注意力图:"),
        str(config.out),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return config.out


def choose(seen: list[Seen], layer: int | None, head: int | None) -> dict[tuple[int, int], torch.Tensor]:
    """The maps [T, T] of the first text, by layer and head; only one layer's or head's where told.

    Raises ConfigError for a layer or a head that there is not.
    """
    counts = {"layer": len(seen), "head": seen[0].weights.shape[1]}
    for name, number in (("layer", layer), ("head", head)):
        if number is not None and number >= counts[name]:
            raise ConfigError(
                tr(f"there is no {name} {number}", f"没有 {name} {number}"),
                tr(f"{name}s are counted from 0 to {counts[name] - 1}", f"{name} 从 0 数到 {counts[name] - 1}"),
            )
    return {
        (at, which): one.weights[0, which]
        for at, one in enumerate(seen)
        for which in range(one.weights.shape[1])
        if layer in (None, at) and head in (None, which)
    }


def drawing(maps: dict[tuple[int, int], torch.Tensor], tokens: list[str]) -> dict[str, Any]:
    """A Vega-Lite specification: a row for each layer, a column for each head, in each map a row for each token that
    looks and a column for each that is looked at; the darker, the more. Cells that a mask hides stay empty.

    Raises ConfigError when the maps have more cells than can be drawn.
    """
    values = _cells(maps)
    if len(values) > _MOST:
        raise ConfigError(
            tr(f"{len(values):,} cells are too many to draw", f"共 {len(values):,} 格,太多,无法绘制"),
            tr("choose --layer or --head, or give a shorter text", "请用 --layer 或 --head 选取,或缩短文本"),
        )
    header = {"labelFontSize": 10, "titleFontSize": 12, "labelPadding": 4}
    return {
        "params": [{"name": "tokens", "value": tokens}],
        "data": {"values": values},
        "facet": {
            "row": {"field": "l", "type": "ordinal", "title": tr("layer", "层"), "header": header},
            "column": {"field": "h", "type": "ordinal", "title": tr("head", "头"), "header": header},
        },
        "spacing": 6,
        "spec": _one_map(len(maps), len(tokens)),
    }


def _cells(maps: dict[tuple[int, int], torch.Tensor]) -> list[dict[str, Any]]:
    """All shares above 0: layer, head, who looks (q) at whom (k), and how much (w)."""
    values = []
    for (layer, head), weights in maps.items():
        rows, columns = (weights > 0).nonzero(as_tuple=True)
        cells = zip(rows.tolist(), columns.tolist(), weights[rows, columns].tolist(), strict=True)
        values += [{"l": layer, "h": head, "q": q, "k": k, "w": round(share, 4)} for q, k, share in cells]
    return values


def _one_map(maps: int, tokens: int) -> dict[str, Any]:
    """What all maps have in common; the fewer they are, the larger."""
    side = next((side for most, side in _SIDE.items() if maps <= most), _SMALLEST)
    side = max(side, tokens * _LEGIBLE if maps == 1 else min(tokens * _TINY, _LARGEST))
    axis: dict[str, Any] = {
        "labelExpr": "tokens[datum.value]",
        "labelFontSize": min(12, side / tokens),
        "labelOverlap": False,
        "labelLimit": 80,
        "labelPadding": 2,
        "labels": side >= 4 * tokens,
        "ticks": False,
        "domain": False,
    }
    shade = {"domain": [0, 1], "scheme": "orangered", "type": "sqrt"}
    return {
        "width": side,
        "height": side,
        "mark": "rect",
        "transform": [{"calculate": "tokens[datum.q]", "as": "looks"}, {"calculate": "tokens[datum.k]", "as": "at"}],
        "encoding": {
            "x": {"field": "k", "type": "ordinal", "title": None, "axis": {**axis, "labelAngle": -90}},
            "y": {"field": "q", "type": "ordinal", "title": None, "axis": axis},
            "color": {"field": "w", "type": "quantitative", "title": tr("attention", "注意力"), "scale": shade},
            "tooltip": [
                {"field": "looks", "title": tr("looks", "看")},
                {"field": "at", "title": tr("at", "被看")},
                {"field": "w", "title": tr("share", "份额")},
            ],
        },
    }
