"""The data card: what stands beside every prepared set for those who use it, in Chinese and English.

The head is the YAML that dataset hubs read; after it come sources with licences, the counts of each step, hashes and
the recipe. The card depends on the data alone, not on the reader's language, so that it is the same everywhere.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from danlu.data.reading import SourceOptions

__all__ = ["data_card"]

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def data_card(name: str, summary: Mapping[str, Any], about: Mapping[str, SourceOptions]) -> str:
    """Markdown for `summary`, what data.json holds."""
    assets = {asset["name"]: asset for asset in summary["assets"]}
    given = {source: options.licence for source, options in about.items() if options.licence}
    licences = sorted({asset["licence"] for asset in assets.values()} | set(given.values()))
    if any(row[2].startswith("unknown") for row in _sources(summary, assets, given)):
        licences.append("unknown")
    rows = sum(split["rows"] for split in summary["splits"].values())
    head = {
        "license": "other" if len(licences) != 1 else licences[0].lower(),
        "license_name": ", ".join(licences) or "unknown",
        "size_categories": [next((size for bound, size in _SIZES if rows < bound), "n>10M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": {"valid": "validation"}.get(split, split), "path": f"{split}.jsonl"}
                    for split, told in summary["splits"].items()
                    if told["rows"]
                ],
            }
        ],
    }
    blocks = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {name}",
        "## Sources / 来源",
        _table(
            ("source 来源", "version 版本", "licence 许可证", "files 文件", "rows 行"), _sources(summary, assets, given)
        ),
        "## Steps / 步骤",
        _table(("step 步骤", "rows 行", "characters 字符", "dropped 丢弃", "done 处理"), map(_step, summary["funnel"])),
        "## Splits / 划分",
        _table(
            ("split 划分", "rows 行", "bytes 字节", "sha256"),
            (
                (split, f"{told['rows']:,}", f"{told['bytes']:,}", f"`{told['sha256']}`")
                for split, told in summary["splits"].items()
            ),
        ),
        "## Recipe / 配方",
        f"```yaml\n{yaml.safe_dump(summary['config'], sort_keys=False, allow_unicode=True)}```",
    ]
    if summary["inputs"]:
        blocks += [
            "sha256:",
            _table(("file 文件", "sha256"), ((file, f"`{digest}`") for file, digest in summary["inputs"].items())),
        ]
    return "\n\n".join(blocks) + "\n"


def _sources(summary: Mapping[str, Any], assets: Mapping[str, Any], given: Mapping[str, str]) -> list[tuple[str, ...]]:
    found = []
    for name, report in summary["sources"].items():
        asset = assets.get(name.partition("/")[0])
        licence = asset["licence"] if asset else given.get(name, "unknown 未知")
        found.append((name, asset["version"] if asset else "", licence, f"{report['files']:,}", f"{report['rows']:,}"))
    return found


def _step(step: Mapping[str, Any]) -> tuple[str, ...]:
    def told(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in counts.items())

    characters = f"{step['characters']:,}" if "characters" in step else ""
    return step["step"], f"{step['rows']:,}", characters, told(step.get("dropped", {})), told(step.get("tally", {}))


def _table(columns: tuple[str, ...], rows: Any) -> str:
    def line(cells: Any) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(columns), line("---" for _ in columns), *map(line, rows)])
