import ctypes
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from danlu.core.errors import ConfigError
from danlu.ops import kernels
from danlu.ops.kernels import Quantised, kernel_fault, load_kernels, pointer
from danlu.ops.packing import Packed, pack_int4, pack_int8, pack_int8_codes, unpack

PACKERS = {
    "int8": pack_int8,
    "int4": pack_int4,
    "rows": lambda w: pack_int8_codes((w / w.abs().amax(1, True) * 127).round().to(torch.int8), w.abs().amax(1) / 127),
}


def linear(packed: Packed, x: Tensor, threads: int = 2) -> tuple[Tensor, Tensor]:
    """The kernel's product, and the activations as it rounded them."""
    tokens, columns = x.shape
    out = torch.empty(tokens, packed.padded_rows)
    codes = torch.empty(tokens, columns, dtype=torch.int8)
    scales = torch.empty(tokens, columns // 32)
    sums = torch.empty(tokens, columns // 32, dtype=torch.int32)
    room = Quantised(pointer(codes), pointer(scales), pointer(sums))
    load_kernels().linear(ctypes.byref(packed.struct()), pointer(x), tokens, pointer(out), ctypes.byref(room), threads)
    assert torch.equal(sums, codes.view(tokens, -1, 32).sum(-1, dtype=torch.int32))
    return out[:, : packed.rows], (codes.float().view(tokens, -1, 32) * scales[..., None]).view(tokens, columns)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(13, 96, generator=torch.Generator().manual_seed(1))


def test_there_are_kernels_here():
    assert kernel_fault() == ""


@pytest.mark.parametrize("name", PACKERS)
def test_products_equal_torchs_with_the_same_roundings(name, x):
    packed = PACKERS[name](torch.randn(50, 96, generator=torch.Generator().manual_seed(0)))
    told, rounded = linear(packed, x)
    torch.testing.assert_close(told, rounded @ unpack(packed).T, atol=2e-5, rtol=1e-5)
    step = x.view(13, -1, 32).abs().amax(-1, keepdim=True) / 127
    assert ((rounded - x).view(13, -1, 32).abs() <= step * 0.5001).all()


@pytest.mark.parametrize("name", PACKERS)
def test_a_row_is_the_same_to_the_bit_in_any_company(name, x):
    packed = PACKERS[name](torch.randn(50, 96, generator=torch.Generator().manual_seed(0)))
    together = linear(packed, x)[0]
    for cut in ((0, 1), (3, 8), (5, 13), (12, 13)):
        part = x[slice(*cut)].contiguous()
        assert torch.equal(linear(packed, part)[0], together[slice(*cut)])
    assert torch.equal(linear(packed, x, threads=1)[0], together)


def test_zeros_and_large_numbers(x):
    packed = pack_int8(torch.randn(16, 96))
    assert torch.equal(linear(packed, torch.zeros(2, 96))[0], torch.zeros(2, 16))
    large = x * 1e30
    assert torch.isfinite(linear(packed, large)[0]).all()


@pytest.mark.parametrize("name", PACKERS)
def test_embedding_rows_are_the_matrix_rows(name):
    packed = PACKERS[name](torch.randn(50, 64, generator=torch.Generator().manual_seed(0)))
    ids = torch.tensor([0, 49, 17, 15, 16])
    out = torch.empty(5, 64)
    load_kernels().embed(ctypes.byref(packed.struct()), pointer(ids), 5, pointer(out))
    torch.testing.assert_close(out, unpack(packed)[ids], atol=1e-7, rtol=1e-6)


def test_the_portable_code_gives_the_same(tmp_path, x):
    """Compiled for a processor without AVX-512: the loops that other machines run, to rounding."""
    out = tmp_path / "portable.so"
    command = ["c++", "-O2", "-std=c++17", "-shared", "-fPIC", "-w", "-fopenmp", str(kernels._SOURCE), "-o", str(out)]
    subprocess.run(command, check=True, timeout=120)
    library = ctypes.CDLL(str(out))
    packed = pack_int4(torch.randn(48, 96, generator=torch.Generator().manual_seed(0)))
    told = torch.empty(13, 48)
    room = [torch.empty(13 * 96, dtype=torch.int8), torch.empty(13 * 3), torch.empty(13 * 3, dtype=torch.int32)]
    library.linear.argtypes = load_kernels().linear.argtypes
    library.linear(ctypes.byref(packed.struct()), pointer(x), 13, pointer(told), ctypes.byref(Quantised(*map(pointer, room))), 1)  # fmt: skip
    torch.testing.assert_close(told, linear(packed, x)[0], atol=1e-5, rtol=1e-5)


def test_without_a_compiler_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels.shutil, "which", lambda _: None)
    with pytest.raises(ConfigError, match="compiler|编译器"):
        kernels._built()


def test_what_a_compiler_refuses_is_told(monkeypatch, tmp_path):
    broken = tmp_path / "kernels.cpp"
    broken.write_text("this is no C++")
    monkeypatch.setattr(kernels, "_SOURCE", broken)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="error"):
        kernels._built()
    assert not list(tmp_path.rglob("*.so"))


def test_built_once_and_found_again(tmp_path):
    script = "from danlu.ops.kernels import load_kernels, _built; load_kernels(); print(_built().stat().st_mtime_ns)"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert runs[0] == runs[1]
    assert len(list(tmp_path.rglob("*.so"))) == 1
