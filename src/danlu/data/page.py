"""data.html: what a recipe did to a corpus, to look at: the funnel, and for each step why rows went and how texts changed.

The page is in both languages at once, and depends on the data alone: the same set gives the same bytes everywhere.
"""

from collections.abc import Mapping
from typing import Any

from danlu.core.report import Report
from danlu.data.statistics import Statistics

__all__ = ["data_page"]


def data_page(name: str, summary: Mapping[str, Any], statistics: Statistics | None = None) -> str:
    """HTML for what data.json holds, with what was measured on the rows when that is given."""
    rows = sum(split["rows"] for split in summary["splits"].values())
    size = sum(split["bytes"] for split in summary["splits"].values())
    report = Report(name, f"{rows:,} rows 行 · {size / 1e6:,.1f} MB", lang="mul")
    report.heading("Funnel 漏斗")
    funnel = summary["funnel"]
    report.bars((step["step"], step["rows"], _left(step, funnel[0]["rows"])) for step in funnel)
    report.heading("Sources 来源")
    report.table(
        ("source 来源", "files 文件", "rows 行"),
        ((source, f"{told['files']:,}", f"{told['rows']:,}") for source, told in summary["sources"].items()),
    )
    for step in funnel:
        _step(report, step)
    if statistics is not None:
        _measured(report, statistics)
    report.heading("Splits 划分")
    report.table(
        ("split 划分", "rows 行", "bytes 字节", "sha256"),
        (
            (split, f"{told['rows']:,}", f"{told['bytes']:,}", told["sha256"][:16])
            for split, told in summary["splits"].items()
        ),
    )
    return report.page()


def _left(step: Mapping[str, Any], first: int) -> str:
    dropped = sum(step.get("dropped", {}).values())
    gone = f"  −{dropped:,}" if dropped else ""
    return f"{step['rows']:,}  {step['rows'] / max(1, first):.1%}{gone}"


def _step(report: Report, step: Mapping[str, Any]) -> None:
    dropped, tally, examples = (step.get(key) for key in ("dropped", "tally", "examples"))
    if not (dropped or examples):
        return
    report.heading(step["step"])
    if dropped:
        report.bars((reason, count, f"{count:,}") for reason, count in sorted(dropped.items(), key=lambda one: -one[1]))
    if tally:
        report.text(", ".join(f"{what} {count:,}" for what, count in tally.items()))
    if examples:
        report.cases(map(_case, examples))


def _case(example: Mapping[str, str]) -> tuple[str, str, str]:
    if "dropped" in example:
        why = f"dropped 丢弃: {example['dropped']}" + (f" {example['detail']}" if example.get("detail") else "")
        return f"{example['id']}  {why}", example["text"], ""
    return f"{example['id']}  changed 修改", example["before"], example["after"]


def _measured(report: Report, found: Statistics) -> None:
    report.heading("Lengths 长度")
    report.bars((f"{low:,}–{high:,}", count, f"{count:,}") for low, high, count in found.lengths())
    for title, counts in (
        ("Sources in the set 各来源", found.sources),
        ("Languages 语言", found.languages),
        ("Scripts 文字", found.scripts),
    ):
        if counts:
            report.heading(title)
            report.bars((name, count, f"{count:,}") for name, count in counts.most_common(20))
    report.heading("Duplicates 重复")
    report.text(
        f"exact 完全相同: {found.duplicates:,} of {found.rows:,} rows 行; "
        f"repeated lines 重复的行文: {found.repeated_lines:.1%} of characters 字符占比"
    )
    for size, grams in found.top_grams().items():
        report.heading(f"{size}-grams")
        report.bars((gram.replace("\n", "⏎"), count, f"{count:,}") for gram, count in grams)
    report.heading("Samples 样例")
    report.cases((row["id"], "", row["text"]) for row in found.samples())
