"""Loading a GGUF file beside transformers: time, and memory over what the weights take.

读取 GGUF 文件：与 transformers 比较耗时，以及超出权重本身的内存。

The file is SmolLM2-135M-Instruct in 4 bits (the asset smollm2-135m-instruct-gguf), or any llama's given as --file.
Both dequantise into float32. Each load runs in a process of its own, which measures itself after its imports: seconds,
and the highest resident memory above what it had before. --clock cpu counts that process's own processor time.
"""

import argparse
import gc
import importlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from _common import arguments, interleave, machine, ratio, show, write

from danlu.core.assets import asset_path

WORK = "load a 4-bit GGUF file of 135 M weights into float32 / 读取 1.35 亿权重的 4 位 GGUF 文件为 float32"


def load(who: str, file: Path) -> dict[str, float]:
    """In a process of its own: load once; seconds by both clocks, bytes of the weights and of the peak."""
    if who == "danlu":
        module = importlib.import_module("danlu.models.gguf")
        importlib.import_module("danlu.models.decoder")

        def run() -> torch.nn.Module:
            return module.load_gguf(file, dtype=torch.float32)
    else:
        importlib.import_module("gguf")
        from transformers import AutoModelForCausalLM
        from transformers.models.llama import modeling_llama  # noqa: F401  (so that its import is not timed)

        def run() -> torch.nn.Module:
            return AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)

    gc.collect()
    before, wall, cpu = _resident(), time.perf_counter(), time.process_time()
    model = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    weights = sum(parameter.nbytes for parameter in model.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall": wall, "cpu": cpu, "weights": weights, "peak": peak - before, "file": file.stat().st_size}


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--file", type=Path, help="a GGUF file / GGUF 文件")
    parser.add_argument("--only", choices=("danlu", "transformers"), help=argparse.SUPPRESS)
    read = parser.parse_args()
    file = read.file or next(asset_path("smollm2-135m-instruct-gguf").glob("*.gguf"))
    if read.only:
        print(json.dumps(load(read.only, file)))
        return
    clock = machine()["clock"]
    told: dict[str, list[dict[str, float]]] = {"danlu": [], "transformers": []}

    def apart(who: str) -> float:
        command = [
            sys.executable,
            __file__,
            "--only",
            who,
            "--file",
            str(file),
            "--threads",
            str(torch.get_num_threads()),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        told[who].append(json.loads(ran.stdout.splitlines()[-1]))
        return told[who][-1][clock]

    raw = interleave({who: lambda who=who: apart(who) for who in told}, read.repeats)
    memory = {f"{who}_peak": [one["peak"] for one in runs[1:]] for who, runs in told.items()}
    ratios = {
        "load_vs_transformers": ratio(raw, "danlu", "transformers"),
        "memory_vs_transformers": ratio(memory, "danlu_peak", "transformers_peak"),
    }
    rows = [
        (who, min(raw[who]), max(one["weights"] for one in runs) / 1e6, max(one["peak"] for one in runs) / 1e6,
         max(one["peak"] / one["weights"] for one in runs))
        for who, runs in told.items()
    ]  # fmt: skip
    show(("who", f"seconds ({clock})", "weights, MB", "peak, MB", "peak / weights"), rows)
    print()
    write(read.json, WORK, ratios, raw | memory)


if __name__ == "__main__":
    main()
