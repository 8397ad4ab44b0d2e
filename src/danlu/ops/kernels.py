"""Kernels in C++ for a decoder's layers on a CPU, built once by the machine's own compiler.

The source, danlu/ops/kernels.cpp, is compiled at first use into ~/.cache/danlu/kernels, under a name made of the source,
the compiler's flags and the processor, and loaded by ctypes. Without a compiler `load_kernels` says why, and callers
compute with torch.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr

__all__ = ["Layer", "Matrix", "Pass", "Quantised", "Shape", "kernel_fault", "load_kernels", "pointer"]

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-w")
_COMPILERS = ("c++", "g++", "clang++")

_i64, _f32, _ptr = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


# The structs of kernels.cpp, field by field.


class Matrix(ctypes.Structure):
    """A packed matrix: see danlu/ops/packing.py."""

    _fields_ = [("rows", _i64), ("columns", _i64), ("kind", _i64), ("codes", _ptr), ("scales", _ptr), ("offsets", _ptr)]


class Quantised(ctypes.Structure):
    """Activations in groups of 32: codes int8, scales float32, sums int32."""

    _fields_ = [("codes", _ptr), ("scales", _ptr), ("sums", _ptr)]


class Layer(ctypes.Structure):
    """One decoder layer: its matrices, norms and biases, and where its keys and values lie."""

    _fields_ = [
        *((name, Matrix) for name in ("qkv", "output", "gate_up", "down")),
        *((name, _ptr) for name in ("attention_norm", "mlp_norm", "q_norm", "k_norm", "qkv_bias", "output_bias")),
        ("keys", _ptr),
        ("values", _ptr),
        ("window", _i64),
    ]


class Shape(ctypes.Structure):
    """Sizes that all layers share."""

    _fields_ = [
        *((name, _i64) for name in ("hidden", "heads", "kv_heads", "head_dim", "inner", "threads")),
        ("eps", _f32),
        ("scale", _f32),
    ]


class Pass(ctypes.Structure):
    """What one forward pass computes, and room to do it in."""

    _fields_ = [
        *((name, _i64) for name in ("tokens", "tiles", "table_width", "longest")),
        *((name, _ptr) for name in ("sequence", "position", "tables", "tile_starts", "cosine", "sine")),
        *((name, _ptr) for name in ("x", "qkv", "mixed", "gates", "scores")),
        ("quantised", Quantised),
    ]


def pointer(tensor: torch.Tensor | None) -> int | None:
    """Address of a contiguous CPU tensor's data; None stays None. The caller keeps the tensor alive."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    assert tensor.device.type == "cpu"
    return tensor.data_ptr()


@cache
def kernel_fault() -> str:
    """Why there are no kernels here; empty when there are."""
    try:
        load_kernels()
    except ConfigError as error:
        return error.what
    return ""


@cache
def load_kernels() -> ctypes.CDLL:
    """The compiled kernels, built when they are not yet. Raises ConfigError when they cannot be."""
    try:
        library = ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            tr(f"the kernels cannot be built or loaded: {error}", f"内核无法构建或加载:{error}"),
            tr(
                "set XDG_CACHE_HOME to a folder that can be written and executed from",
                "请把 XDG_CACHE_HOME 设为可写、可执行的文件夹",
            ),
        ) from None
    library.decoder_layers.argtypes = [_ptr, _ptr, _i64, _ptr]
    library.linear.argtypes = [_ptr, _ptr, _i64, _ptr, _ptr, _i64]
    library.embed.argtypes = [_ptr, _ptr, _i64, _ptr]
    for name in ("decoder_layers", "linear", "embed"):
        getattr(library, name).restype = None
    return library


def _built() -> Path:
    """The shared library for this source, compiler and processor."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), *_COMPILERS))), None)
    if compiler is None:
        raise ConfigError(
            tr("no C++ compiler here to build the kernels with", "没有可用的 C++ 编译器,无法构建内核"),
            tr("install g++ or clang++, or set CXX", "请安装 g++ 或 clang++,或设置 CXX"),
        )
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kind = f"{compiler}\n{_FLAGS}\n{platform.machine()}\n{_processor()}\n{torch.__version__}"
    name = hashlib.sha256(_SOURCE.read_bytes() + kind.encode()).hexdigest()[:16]
    target = cache_home / "danlu" / "kernels" / f"{name}.so"
    if not target.exists():
        _compile(compiler, target)
    return target


def _compile(compiler: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    faults = []
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / target.name
        for threading in (["-fopenmp", *_openmp_of_torch()], []):  # some compilers come without OpenMP
            ran = subprocess.run(
                [compiler, *_FLAGS, *threading, str(_SOURCE), "-o", str(built)],
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            if ran.returncode == 0:
                os.replace(built, target)  # another process may build the same: the last one wins, both are whole
                return
            faults.append(ran.stderr.strip().splitlines()[:3])
    raise ConfigError(
        tr(f"{compiler} could not build the kernels: {faults[-1]}", f"{compiler} 无法构建内核:{faults[-1]}"),
        tr(
            "set CXX to another compiler (g++ 9 or clang 9 and later)", "请用 CXX 指定其他编译器(g++ 9、clang 9 或更新)"
        ),
    )


def _openmp_of_torch() -> list[str]:
    """Link against the OpenMP that torch brings: two of them in one process would fight for the cores."""
    folder = Path(torch.__file__).parent / "lib"
    found = sorted(folder.glob("libgomp*.so*"))
    return [f"-L{folder}", f"-l:{found[0].name}", f"-Wl,-rpath,{folder}"] if found else []


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(next((line for line in lines if line.startswith(key)), "") for key in ("model name", "flags"))
