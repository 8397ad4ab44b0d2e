"""Where to compute and in which precision, and what this machine is.

Nothing here imports torch before it is asked about a device, so `import danlu.core.device` stays fast.
"""

import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr

if TYPE_CHECKING:
    import torch

__all__ = [
    "Precision",
    "choose_device",
    "choose_precision",
    "cpu_model",
    "explain_precision",
    "instruction_sets",
    "machine",
    "memory_free",
    "memory_total",
    "usable_cores",
]

Precision = Literal["bf16", "fp16", "fp32"]

# Linux's flag, or macOS's sysctl key, of each instruction set that decides how fast a matrix product is.
_FLAGS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_bf16": "avx512_bf16",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "amx_tile": "amx",
    "amx_bf16": "amx_bf16",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "bf16": "arm_bf16",
    "i8mm": "arm_i8mm",
    "sve": "sve",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512",
    "hw.optional.neon": "neon",
    "hw.optional.arm.FEAT_BF16": "arm_bf16",
    "hw.optional.arm.FEAT_I8MM": "arm_i8mm",
}
_FAST_BF16 = {"avx512_bf16", "amx_bf16"}


def choose_device(wish: str = "auto") -> "torch.device":
    """The device for `wish`: 'auto' (CUDA, else Apple's MPS, else CPU), 'cpu', 'cuda', 'cuda:1', 'mps'.

    Raises ConfigError for an unknown word or a device that this machine lacks.
    """
    import torch

    kind, colon, index = wish.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and (kind != "cuda" or not index.isdecimal())):
        raise _unknown("device", wish, ["auto", "cpu", "cuda", "cuda:0", "mps"])
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        _require_cuda(int(index or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            tr("device 'mps' is not available here", "这里没有 mps 设备"),
            tr("it needs an Apple chip and macOS; choose --device auto", "它需要苹果芯片和 macOS;请用 --device auto"),
        )
    return torch.device(f"{kind}:{index}" if index else kind)


def _require_cuda(index: int) -> None:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        raise ConfigError(
            tr("device 'cuda' is not available here", "这里没有可用的 cuda 设备"),
            tr("no NVIDIA GPU or driver was found; ", "没有找到 NVIDIA 显卡或驱动;") * built
            + tr("this torch was built without CUDA; ", "这个 torch 是不带 CUDA 的版本;") * (not built)
            + tr("choose --device auto, or see: danlu doctor", "请用 --device auto,或看:danlu doctor"),
        )
    if index >= torch.cuda.device_count():
        raise ConfigError(
            tr(f"device 'cuda:{index}' does not exist", f"没有 cuda:{index} 这个设备"),
            tr(
                f"this machine has {torch.cuda.device_count()} GPUs, counted from 0",
                f"这台机器有 {torch.cuda.device_count()} 块显卡,从 0 数起",
            ),
        )


def choose_precision(wish: str = "auto", device: "torch.device | str" = "cpu") -> Precision:
    """The autocast precision for `wish` ('auto', 'bf16', 'fp16', 'fp32') on `device`.

    Raises ConfigError for an unknown word, or bf16 on a GPU that lacks it.
    """
    if wish == "auto":
        return explain_precision(device)[0]
    if wish not in get_args(Precision):
        raise _unknown("precision", wish, ["auto", *get_args(Precision)])
    if wish == "bf16" and _kind(device) == "cuda" and not _cuda_bf16(device):
        raise ConfigError(
            tr("this GPU does not compute in bf16", "这块显卡不支持 bf16 计算"),
            tr("choose --precision auto or fp16", "请用 --precision auto 或 fp16"),
        )
    return wish  # pyright: ignore[reportReturnType]


def explain_precision(device: "torch.device | str" = "cpu") -> tuple[Precision, str]:
    """What 'auto' means on `device`, and why, in the reader's language."""
    kind = _kind(device)
    if kind == "cuda":
        if _cuda_bf16(device):
            return "bf16", tr("the GPU computes in bf16", "显卡支持 bf16")
        return "fp16", tr("the GPU has no bf16, so fp16 with loss scaling", "显卡没有 bf16,故用 fp16 加损失缩放")
    if kind == "mps":
        return "fp32", tr(
            "every Apple chip computes fp32; bf16 only newer ones", "每种苹果芯片都支持 fp32;bf16 只有较新的才有"
        )
    fast = [name for name in instruction_sets() if name in _FAST_BF16]
    if fast:
        return "bf16", tr(f"the CPU multiplies bf16 in hardware ({fast[-1]})", f"CPU 有 bf16 矩阵指令({fast[-1]})")
    return "fp32", tr(
        "the CPU has no avx512_bf16 or amx_bf16; bf16 would be slower",
        "CPU 没有 avx512_bf16 或 amx_bf16,用 bf16 反而慢",
    )


def _kind(device: "torch.device | str") -> str:
    return str(device).partition(":")[0]


def _cuda_bf16(device: "torch.device | str") -> bool:
    import torch

    index = int(str(device).partition(":")[2] or 0)
    _require_cuda(index)
    with torch.cuda.device(index):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def _unknown(setting: str, wish: str, known: list[str]) -> ConfigError:
    names = ", ".join(known)
    return ConfigError(
        tr(f"{setting}: '{wish}' is not known", f"{setting}:不认识“{wish}”"),
        tr(f"choose one of {names}", f"可选:{names}"),
    )


def machine() -> dict[str, Any]:
    """What results were measured on, JSON-ready: nothing in it names the host or its user.

    Sizes in units of 10^9 bytes; `cores` is what this process may use, `gpus` the names in order.
    """
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "instructions": instruction_sets(),
        "memory_gb": round(memory_total() / 1e9, 1),
        "gpus": _gpu_names(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
    }


def _gpu_names() -> list[str]:
    import torch

    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ["Apple MPS"] if torch.backends.mps.is_available() else []


@lru_cache(maxsize=1)
def cpu_model() -> str:
    """The processor's name for people; the architecture's where the system does not tell."""
    name = (
        _sysctl("-n", "machdep.cpu.brand_string")
        if sys.platform == "darwin"
        else _field(_read("/proc/cpuinfo"), "model name")
    )
    return name or platform.machine()


@lru_cache(maxsize=1)
def instruction_sets() -> list[str]:
    """Those of the CPU's instruction sets that decide how fast a matrix product is, plainest first."""
    if sys.platform == "darwin":
        return _known_flags(
            {line.partition(":")[0] for line in _sysctl("hw.optional").splitlines() if line.endswith(": 1")}
        )
    text = _read("/proc/cpuinfo")
    return _known_flags(set((_field(text, "flags") or _field(text, "Features")).split()))


def _known_flags(present: set[str]) -> list[str]:
    found = {name: None for flag, name in _FLAGS.items() if flag in present}  # a dict keeps the order
    return list(found)


def _field(cpuinfo: str, name: str) -> str:
    """The first value of `name` in the form 'name : value'."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def usable_cores() -> int:
    """Cores that this process may keep busy: its affinity, and a container's quota rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *_core_quotas(_control_groups("cpu"))])


def _core_quotas(groups: list[Path]) -> list[int]:
    found = []
    for folder in groups:
        quota, _, period = _read(folder / "cpu.max").partition(" ")  # version 2: "200000 100000" or "max 100000"
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.strip().isdecimal() and period.strip().isdecimal():
            found.append(max(1, -(-int(quota) // int(period))))
    return found


def memory_total() -> int:
    """Bytes of memory that this process may use: the machine's, or a container's limit if less."""
    return min(
        [
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            *(limit for limit, _ in _memory_limits(_control_groups("memory"))),
        ]
    )


def memory_free() -> int | None:
    """Bytes that can be had without swapping; None where the system does not tell (macOS)."""
    available = _field(_read("/proc/meminfo"), "MemAvailable").removesuffix("kB").strip()
    if not available.isdecimal():
        return None
    return max(
        0, min([int(available) * 1024, *(limit - used for limit, used in _memory_limits(_control_groups("memory")))])
    )


def _memory_limits(groups: list[Path]) -> list[tuple[int, int]]:
    """(limit, used) in bytes of every control group that has a limit."""
    found = []
    for folder in groups:
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            values = _read(folder / limit).strip(), _read(folder / used).strip()
            if values[0].isdecimal() and values[1].isdecimal():
                found.append((int(values[0]), int(values[1])))
    return found


def _control_groups(
    controller: str, root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> list[Path]:
    """The folders that may hold this process's limits (cgroup version 1 or 2), from the inner one outwards."""
    folders = []
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)  # version 1: "4:memory:/a/b", version 2: "0::/a/b"
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        inner = base / path.lstrip("/")
        folders += [folder for folder in (inner, *inner.parents) if folder == base or base in folder.parents]
    return folders


def _read(path: str | Path) -> str:
    """A system file's text; empty where this system has no such file."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl(*arguments: str) -> str:
    """macOS's answer; empty where it has none."""
    done = subprocess.run(["sysctl", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
