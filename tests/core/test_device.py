"""Which device and precision are chosen, which wishes are refused, and what is said of the machine."""

import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from danlu.core import device
from danlu.core.device import choose_device, choose_precision, explain_precision, instruction_sets, machine
from danlu.core.errors import ConfigError

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens without CUDA")


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, danlu.core.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_cpu_can_always_be_had() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@without_cuda
def test_auto_falls_to_what_is_there() -> None:
    assert choose_device().type == ("mps" if torch.backends.mps.is_available() else "cpu")


@without_cuda
@pytest.mark.parametrize("wish", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_without_cuda_is_refused(wish: str) -> None:
    with pytest.raises(ConfigError, match="cuda") as caught:
        choose_device(wish)
    assert "--device auto" in caught.value.do


@without_cuda
def test_a_precision_for_cuda_without_cuda_is_refused() -> None:
    with pytest.raises(ConfigError, match="cuda"):
        choose_precision("auto", "cuda")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="tells what happens without MPS")
def test_mps_without_mps_is_refused() -> None:
    with pytest.raises(ConfigError, match="mps"):
        choose_device("mps")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_last_gpu_can_be_had_and_no_further_one() -> None:
    last = torch.cuda.device_count() - 1
    assert choose_device(f"cuda:{last}") == torch.device("cuda", last)
    assert choose_device().type == "cuda"
    assert choose_precision("auto", "cuda") in ("bf16", "fp16")
    with pytest.raises(ConfigError, match=f"cuda:{last + 1}"):
        choose_device(f"cuda:{last + 1}")


@pytest.mark.parametrize("wish", ["gpu", "", "cuda:", "cuda:x", "cpu:1", "CUDA", "cuda:-1"])
def test_an_unknown_device_is_refused(wish: str) -> None:
    with pytest.raises(ConfigError, match="auto, cpu, cuda, cuda:0, mps"):
        choose_device(wish)


@pytest.mark.parametrize("wish", ["bf16", "fp16", "fp32"])
def test_a_wish_for_the_cpu_is_granted(wish: str) -> None:
    assert choose_precision(wish, torch.device("cpu")) == wish


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="auto, bf16, fp16, fp32"):
        choose_precision("bf_16")


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        (["avx2"], "fp32"),
        (["avx512", "avx512_bf16"], "bf16"),
        (["avx512", "amx", "amx_bf16"], "bf16"),
        ([], "fp32"),
        (["avx512"], "fp32"),
    ],
)
def test_auto_on_the_cpu_follows_its_instructions(
    instructions: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "instruction_sets", lambda: instructions)  # this machine has but one CPU
    assert choose_precision("auto", "cpu") == expected
    assert explain_precision("cpu")[1]


def test_mps_computes_in_fp32_and_says_why() -> None:
    assert explain_precision(torch.device("mps")) == (choose_precision("auto", "mps"), explain_precision("mps")[1])
    assert choose_precision("auto", "mps") == "fp32"


def test_the_description_is_json_and_names_no_host() -> None:
    told = machine()
    assert json.loads(json.dumps(told)) == told
    assert told["torch"] == torch.__version__
    assert told["python"] == platform.python_version()
    assert 1 <= told["cores"] <= (os.cpu_count() or 1)
    assert 0.1 < told["memory_gb"] < 100_000
    assert len(told["gpus"]) == (torch.cuda.device_count() or torch.backends.mps.is_available())
    values = [value for value in told.values() if isinstance(value, str)]
    assert not any(socket.gethostname() in value for value in values)


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="reads /proc/cpuinfo of x86")
def test_instruction_sets_agree_with_torch() -> None:
    capability = torch.backends.cpu.get_cpu_capability()  # what torch itself found: DEFAULT, AVX2, AVX512
    assert ("avx512" in instruction_sets()) == capability.startswith("AVX512")
    assert ("avx2" in instruction_sets()) == (capability != "DEFAULT")


def test_cpuinfo_is_read() -> None:
    text = "processor\t: 0\nmodel name\t: A CPU: fast\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_tile amx_bf16\n\nmodel name\t: other\n"
    assert device._field(text, "model name") == "A CPU: fast"
    assert device._field(text, "Features") == ""
    assert device._known_flags(set(device._field(text, "flags").split())) == [
        "avx2",
        "avx512",
        "avx512_bf16",
        "amx",
        "amx_bf16",
    ]
    assert device._known_flags({"hw.optional.avx512f", "hw.optional.arm.FEAT_BF16"}) == ["avx512", "arm_bf16"]


def test_limits_of_a_container_version_2(tmp_path: Path) -> None:
    inner = tmp_path / "system" / "job"
    inner.mkdir(parents=True)
    (tmp_path / "membership").write_text("0::/system/job\n")
    groups = device._control_groups("memory", tmp_path, tmp_path / "membership")
    assert groups == [inner, inner.parent, tmp_path]
    assert device._memory_limits(groups) == []
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("2000000000\n")
    (inner.parent / "memory.current").write_text("500000000\n")
    (inner / "cpu.max").write_text("150000 100000\n")
    (inner.parent / "cpu.max").write_text("max 100000\n")
    assert device._memory_limits(groups) == [(2_000_000_000, 500_000_000)]
    assert device._core_quotas(groups) == [2]  # one and a half, rounded up


def test_limits_of_a_container_version_1(tmp_path: Path) -> None:
    (tmp_path / "memory" / "job").mkdir(parents=True)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "membership").write_text("4:memory:/job\n3:cpuset,cpu:/elsewhere\n")
    (tmp_path / "memory" / "job" / "memory.limit_in_bytes").write_text("1000\n")
    (tmp_path / "memory" / "job" / "memory.usage_in_bytes").write_text("10\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert device._memory_limits(device._control_groups("memory", tmp_path, tmp_path / "membership")) == [(1000, 10)]
    assert device._core_quotas(device._control_groups("cpu", tmp_path, tmp_path / "membership")) == [4]


def test_a_machine_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    assert device._control_groups("cpu", tmp_path, tmp_path / "absent") == []


def test_memory_is_that_of_a_machine() -> None:
    free = device.memory_free()
    assert free is None or 0 < free <= device.memory_total()
