"""A report to look at: one HTML file, nothing outside it, with tables, curves and texts."""

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.core.errors import MissingExtraError
from danlu.core.files import atomic_path
from danlu.core.i18n import language

__all__ = ["Report"]

_STYLE = """
:root{--ink:#22211f;--soft:#6b675f;--line:#e4dfd5;--paper:#fbf9f4;--card:#fff;--seal:#a8322a}
@media(prefers-color-scheme:dark){:root{--ink:#e9e4d8;--soft:#a49d8d;--line:#3a3730;--paper:#1b1a17;--card:#24221e;--seal:#e0756b}
.curve svg{filter:invert(.88) hue-rotate(180deg)}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 "Source Serif 4",Georgia,"Songti SC","Noto Serif CJK SC",SimSun,serif}
main{max-width:1060px;margin:0 auto;padding:48px 24px 80px}
h1{font-size:34px;margin:0 0 4px;letter-spacing:.02em}h1::after{content:"";display:block;width:56px;height:4px;background:var(--seal);margin:14px 0 18px}
h2{font-size:21px;margin:44px 0 12px}
p{color:var(--soft);max-width:46em;margin:4px 0 12px}
table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--line)}
th,td{padding:8px 14px;text-align:right;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--soft);font-size:14px}th:first-child,td:first-child{text-align:left}
.scroll{overflow-x:auto}
.curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:20px}
.curve{background:var(--card);border:1px solid var(--line);padding:14px}.curve svg{width:100%;height:auto}
.poems{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:18px}
.poem{background:var(--card);border:1px solid var(--line);padding:20px 16px;white-space:pre-line;text-align:center;line-height:1.9}
.poem b{display:block;margin-bottom:4px}.poem small{display:block;color:var(--soft);margin-top:8px;font-size:13px}
.bars{display:grid;grid-template-columns:max-content 1fr max-content;gap:6px 14px;align-items:center;font-variant-numeric:tabular-nums}
.bars i{display:block;height:18px;background:var(--seal);min-width:1px;border-radius:2px}.bars small{color:var(--soft)}
.cases{display:grid;gap:10px}.case{background:var(--card);border:1px solid var(--line);border-left:3px solid var(--seal);padding:10px 14px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:14px}
.case b{display:block;color:var(--soft);font-weight:600}.case del{color:var(--soft)}.case ins{text-decoration:none}
pre{background:var(--card);border:1px solid var(--line);padding:14px 16px;overflow-x:auto;font-size:14px}
"""


class Report:
    """Collects blocks, then writes them as one HTML file; `lang` is the language of the page, by default the reader's."""

    def __init__(self, title: str, lead: str = "", lang: str | None = None) -> None:
        self._language = lang or language()
        self._blocks = [f"<h1>{html.escape(title)}</h1>"]
        self._title = title
        if lead:
            self.text(lead)

    def heading(self, text: str) -> None:
        self._blocks.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        self._blocks.append(f"<p>{html.escape(text)}</p>")

    def commands(self, text: str) -> None:
        """Lines that can be pasted into a shell."""
        self._blocks.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        head = "".join(f"<th>{html.escape(str(column))}</th>" for column in columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        self._blocks.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def curves(self, pictures: Iterable[tuple[str, Mapping[str, Sequence[tuple[float, float]]], str, str]]) -> None:
        """Pictures (title, {series: [(x, y), ...]}, name of x, name of y), side by side.

        Raises MissingExtraError without the package vl-convert-python.
        """
        drawn = "".join(f'<div class="curve">{_draw(*picture)}</div>' for picture in pictures)
        self._blocks.append(f'<div class="curves">{drawn}</div>')

    def bars(self, rows: Iterable[tuple[str, float, str]]) -> None:
        """Lines of (name, length of its bar, what stands at its end); the longest bar takes the whole width."""
        lines = list(rows)
        longest = max((size for _, size, _ in lines), default=0) or 1
        self._blocks.append(
            '<div class="bars">'
            + "".join(
                f'<span>{html.escape(name)}</span><i style="width:{100 * size / longest:.2f}%"></i><small>{html.escape(end)}</small>'
                for name, size, end in lines
            )
            + "</div>"
        )

    def cases(self, cases: Iterable[tuple[str, str, str]]) -> None:
        """Texts one below the other: (what it is, the text before or '', the text after or '')."""
        shown = "".join(
            f'<div class="case"><b>{html.escape(name)}</b>'
            + (f"<del>{html.escape(before)}</del>" if before else "")
            + ("\n" if before and after else "")
            + (f"<ins>{html.escape(after)}</ins>" if after else "")
            + "</div>"
            for name, before, after in cases
        )
        self._blocks.append(f'<div class="cases">{shown}</div>')

    def poems(self, poems: Iterable[tuple[str, str, str]]) -> None:
        """Cards of (title, text, small print)."""
        cards = "".join(
            f'<div class="poem"><b>{html.escape(title)}</b>{html.escape(_one_line_a_clause(text))}<small>{html.escape(note)}</small></div>'
            for title, text, note in poems
        )
        self._blocks.append(f'<div class="poems">{cards}</div>')

    def save(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(self.page(), encoding="utf-8")

    def page(self) -> str:
        """The whole file."""
        return (
            f'<!doctype html><html lang="{self._language}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{html.escape(self._title)}</title><style>{_STYLE}</style></head><body><main>"
            + "\n".join(self._blocks)
            + "</main></body></html>\n"
        )


def _one_line_a_clause(text: str) -> str:
    return text.replace("，", "，\n")


def _draw(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str) -> str:
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise MissingExtraError("vl-convert-python", "report") from None
    points = [{"x": at, "y": value, "series": name} for name, line in series.items() for at, value in line]
    specification = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": title, "anchor": "start"},
        "width": 420,
        "height": 250,
        "background": None,
        "data": {"values": points},
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": x},
            "y": {"field": "y", "type": "quantitative", "title": y, "scale": {"zero": False}},
            "color": {
                "field": "series",
                "type": "nominal",
                "title": None,
                "scale": {"range": ["#a8322a", "#2a6f8f", "#7a8f2a", "#8f5a2a"]},
                "legend": {"orient": "top"} if len(series) > 1 else None,
            },
        },
        "config": {"view": {"stroke": None}, "axis": {"gridColor": "#e4dfd5", "domainColor": "#b5afa2"}},
    }
    return vl_convert.vegalite_to_svg(specification)
