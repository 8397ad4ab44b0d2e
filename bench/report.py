"""Gather bench/results/*.json into bench/RESULTS.md.

汇总 bench/results/*.json，写成 bench/RESULTS.md。
"""

import sys
from pathlib import Path
from typing import Any

from danlu.core.files import atomic_path, read_json

HERE = Path(__file__).parent
HEAD = """# Measurements / 实测结果

Written by `make bench`. A ratio above 1 means that danlu is better; each comes from runs that were interleaved in
one process, so the spread (min to max) is what this machine did meanwhile.

由 `make bench` 生成。比值大于 1 表示 danlu 更好；参与比较的各方在同一进程中交替运行，最小值到最大值的跨度反映了机器当时的波动。
"""


def told(machine: dict[str, Any]) -> str:
    """'Xeon, 2 cores (1 thread), 8.2 GB, Linux x86_64, Python 3.11.7, torch 2.13.0'."""
    cores, threads = machine["cores"], machine["threads"]
    parts = [
        machine["cpu"],
        *machine["gpus"],
        f"{cores} core{'s' * (cores != 1)} ({threads} thread{'s' * (threads != 1)})",
        f"{machine['memory_gb']} GB",
        machine["platform"],
        f"Python {machine['python']}",
        f"torch {machine['torch']}",
        *(["processor time / 处理器时间"] if machine["clock"] == "cpu" else []),
    ]
    return ", ".join(parts)


def section(name: str, result: dict[str, Any]) -> str:
    """One script's ratios as a table."""
    lines = [f"## {name}", "", result["work"], "", f"`python bench/{name}.py` · {told(result['machine'])}", ""]
    lines += ["| ratio / 比值 | median / 中位 | min / 最小 | max / 最大 | runs / 轮数 |", "|---|---|---|---|---|"]
    for ratio, one in result["ratios"].items():
        lines.append(f"| {ratio} | {one['median']:.3g} | {one['min']:.3g} | {one['max']:.3g} | {one['runs']} |")
    return "\n".join(lines) + "\n"


def main(folder: Path = HERE / "results", out: Path = HERE / "RESULTS.md") -> None:
    """Write `out`; exits with a message when nothing was measured."""
    results = sorted(folder.glob("*.json"))
    if not results:
        sys.exit(f"nothing in {folder}: run `make bench` / {folder} 中没有结果：请运行 make bench")
    measured = {file.stem: read_json(file) for file in results}
    sections = [section(name, result) for name, result in measured.items() if result["ratios"]]  # proofs have none
    with atomic_path(out) as path:
        path.write_text("\n".join([HEAD, *sections]), encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
