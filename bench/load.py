"""Loading a GGUF file and a model folder beside transformers: time, and memory over what the weights take.

读取 GGUF 文件与模型文件夹：与 transformers 比较耗时，以及超出权重本身的内存。

The file is SmolLM2-135M-Instruct in 4 bits (the asset smollm2-135m-instruct), or any llama's given as --file, which
both dequantise into float32. The folder holds the same weights in bfloat16, which both keep. Each load runs in a
process of its own, which measures itself after its imports: seconds, and, once every weight has been read, the highest
resident memory above what it had before. --clock cpu counts that process's own processor time.
"""

import argparse
import gc
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from _common import arguments, interleave, machine, ratio, show, write

from danlu.core.assets import asset_path
from danlu.core.folder import Lineage
from danlu.models import auto

WORK = (
    "load 135 M weights: a 4-bit GGUF file into float32, a bfloat16 folder as it is"
    " / 读取 1.35 亿权重：4 位 GGUF 文件读为 float32，bfloat16 文件夹照原样读取"
)
LOADERS = ("danlu", "transformers")


def load(who: str, path: Path) -> dict[str, float]:
    """In a process of its own: load once; seconds by both clocks, bytes of the weights and of the peak."""
    dtype = torch.bfloat16 if path.is_dir() else torch.float32
    if who == "danlu":
        for name in ("danlu.models.gguf", "danlu.models.decoder", "safetensors"):
            importlib.import_module(name)

        def run() -> torch.nn.Module:
            return auto.load(path, dtype=dtype)
    else:
        importlib.import_module("gguf")
        from transformers import AutoModelForCausalLM
        from transformers.models.llama import modeling_llama  # noqa: F401  (so that its import is not timed)

        def run() -> torch.nn.Module:
            if path.is_dir():
                return AutoModelForCausalLM.from_pretrained(str(path), dtype=dtype)
            return AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=dtype)

    gc.collect()
    before, wall, cpu = _resident(), time.perf_counter(), time.process_time()
    model = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    for parameter in model.parameters():
        parameter.sum()  # what is only mapped would not be counted otherwise
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return {"wall": wall, "cpu": cpu, "weights": weights, "peak": _resident("VmHWM") - before}


def _resident(key: str = "VmRSS") -> int:
    """Of this process alone; `getrusage` would begin with what the process that started it held."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def apart(who: str, path: Path) -> dict[str, float]:
    """`load` in a new process."""
    command = [sys.executable, __file__, "--only", who, "--file", str(path), "--threads", str(torch.get_num_threads())]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--file", type=Path, help="a GGUF file / GGUF 文件")
    parser.add_argument("--only", choices=LOADERS, help=argparse.SUPPRESS)
    read = parser.parse_args()
    if read.only:
        print(json.dumps(load(read.only, read.file)))
        return
    file = read.file or next(asset_path("smollm2-135m-instruct").glob("*.gguf"))
    clock = machine()["clock"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "folder"
        auto.save(auto.load(file, dtype=torch.bfloat16), folder, lineage=Lineage(verb="bench"))
        told: dict[str, list[dict[str, float]]] = {
            f"{who}_{kind}": [] for kind in ("gguf", "folder") for who in LOADERS
        }

        def measure(name: str) -> float:
            who, kind = name.split("_")
            told[name].append(apart(who, folder if kind == "folder" else file))
            return told[name][-1][clock]

        raw = interleave({name: lambda name=name: measure(name) for name in told}, read.repeats)
    memory = {f"{name}_peak": [one["peak"] for one in runs[1:]] for name, runs in told.items()}
    ratios = {}
    for kind in ("gguf", "folder"):
        ratios[f"load_{kind}_vs_transformers"] = ratio(raw, f"danlu_{kind}", f"transformers_{kind}")
        ratios[f"memory_{kind}_vs_transformers"] = ratio(memory, f"danlu_{kind}_peak", f"transformers_{kind}_peak")
    rows = [
        (name, min(raw[name]), max(one["weights"] for one in runs) / 1e6, max(one["peak"] for one in runs) / 1e6,
         max(one["peak"] / one["weights"] for one in runs))
        for name, runs in told.items()
    ]  # fmt: skip
    show(("who", f"seconds ({clock})", "weights, MB", "peak, MB", "peak / weights"), rows)
    print()
    write(read.json, WORK, ratios, raw | memory)


if __name__ == "__main__":
    main()
