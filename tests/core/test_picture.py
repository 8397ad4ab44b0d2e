import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from danlu.core.errors import ConfigError, MissingExtraError
from danlu.core.picture import KINDS, check_kind, save_picture

BARS = {
    "data": {"values": [{"word": "春眠", "count": 3}, {"word": "cat", "count": 1}]},
    "mark": "bar",
    "encoding": {"x": {"field": "word", "type": "nominal"}, "y": {"field": "count", "type": "quantitative"}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str, tmp_path: Path):
    path = tmp_path / f"bars{kind}"
    save_picture(BARS, path)
    content = path.read_bytes()
    if kind == ".png":
        picture = Image.open(io.BytesIO(content))
        assert min(picture.size) > 100
        assert len(picture.getcolors(1 << 20) or []) > 3
        return
    text = content.decode()
    assert "春眠" in text
    if kind == ".html":
        assert "<script src=" not in text  # opens without a network
        assert "vegaEmbed" in text


def test_chinese_is_drawn_and_not_boxes(tmp_path: Path):
    """Two texts of as many characters look different; without a Chinese font both would be the same boxes."""
    drawn = []
    for word in ("春眠", "夏醒"):
        values = [{"word": word, "count": 3}]
        save_picture({**BARS, "data": {"values": values}}, tmp_path / "one.png")
        drawn.append((tmp_path / "one.png").read_bytes())
    if drawn[0] == drawn[1]:
        pytest.skip("this machine has no Chinese font")


def test_other_endings(tmp_path: Path):
    for name in ("bars.jpeg", "bars"):
        with pytest.raises(ConfigError, match=r"\.png, \.svg, \.html|\.png、\.svg、\.html"):
            check_kind(tmp_path / name)
        with pytest.raises(ConfigError):
            save_picture(BARS, tmp_path / name)
    check_kind(tmp_path / "BARS.PNG")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingExtraError, match="report"):
        save_picture(BARS, tmp_path / "bars.svg")
    assert not list(tmp_path.iterdir())
