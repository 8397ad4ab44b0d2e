import json

import pytest

from danlu.core.errors import ConfigError
from danlu.data import inspect, prepare


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.txt").write_text(f"床前明月光,疑是地上霜。Text number {number % 50}.", encoding="utf-8")
    return folder


def test_raw_files(texts, tmp_path, capsys):
    found = inspect.run(inspect.Config(data=texts, html=tmp_path / "a.html", json_=tmp_path / "a.json"))
    assert (found["rows"], found["duplicates"]) == (60, 10)
    assert found["sources"] == {"texts": 60}
    assert ["床前", 60] in found["top"]["2"]
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == found
    assert "床前" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "60" in capsys.readouterr().out


def test_a_prepared_set_shows_its_funnel(texts, tmp_path):
    prepare.run(prepare.Config(out=tmp_path / "out", source=[texts], workers=1))
    found = inspect.run(inspect.Config(data=tmp_path / "out", html=tmp_path / "a.html"))
    assert (found["rows"], found["duplicates"]) == (50, 0)
    assert inspect.run(inspect.Config(data=tmp_path / "out", split="valid"))["rows"] == 1
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "duplicate" in page
    assert "Lengths" in page


def test_an_unknown_split(tmp_path):
    with pytest.raises(ConfigError, match="valid"):
        inspect.run(inspect.Config(data=tmp_path, split="validation"))
