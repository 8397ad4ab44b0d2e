import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from danlu.core.errors import MissingExtraError
from danlu.core.report import Report

NASTY = "<script>alert('诗')</script> & \"co\""


class Reader(HTMLParser):
    """Tags, what they load from elsewhere, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def read(report: Report, folder: Path) -> Reader:
    report.save(folder / "report.html")
    reader = Reader()
    reader.feed((folder / "report.html").read_text(encoding="utf-8"))
    return reader


def test_every_block_shows_its_text_and_none_is_markup(tmp_path: Path):
    report = Report(f"title {NASTY}", f"lead {NASTY}")
    report.heading(f"heading {NASTY}")
    report.text(f"text {NASTY}")
    report.commands(f"commands {NASTY}")
    report.table([f"column {NASTY}"], [[f"cell {NASTY}"], [3.5]])
    report.poems([(f"poem {NASTY}", f"lines {NASTY}", f"note {NASTY}")])
    page = read(report, tmp_path)
    for block in ("title", "lead", "heading", "text", "commands", "column", "cell", "poem", "lines", "note"):
        assert f"{block} {NASTY}" in page.text, block
    assert "script" not in page.tags
    assert "3.5" in page.text


def test_one_file_that_loads_nothing(tmp_path: Path):
    pytest.importorskip("vl_convert")
    report = Report("title")
    report.curves([(NASTY, {"training": [(1, 4.0), (2, 3.0)], "validation": [(1, 4.1), (2, 3.2)]}, "step", "nats")])
    page = read(report, tmp_path)
    assert page.tags.count("svg") == 1
    assert "script" not in page.tags
    assert not [address for address in page.loaded if not address.startswith("#")]
    assert "validation" in page.text, "several curves have a legend"
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(\s*['\"]?http", source)


def test_a_curve_is_drawn_from_its_points(tmp_path: Path):
    pytest.importorskip("vl_convert")

    def path_of(points: list[tuple[float, float]]) -> str:
        report = Report("title")
        report.curves([("loss", {"training": points}, "step", "nats")])
        report.save(tmp_path / "report.html")
        paths = re.findall(
            r'aria-roledescription="line mark"[^>]* d="([^"]+)"', (tmp_path / "report.html").read_text(encoding="utf-8")
        )
        assert len(paths) == 1
        return paths[0]

    falling = [float(y) for y in re.findall(r",([\d.]+)", path_of([(1, 4.0), (2, 3.0), (3, 2.0)]))]
    assert falling == sorted(falling), "a falling loss goes down the page, where y grows"
    assert len(falling) == 3


def test_curves_without_the_package_name_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingExtraError, match=r"danlu\[report\]"):
        Report("title").curves([("loss", {"training": [(1, 4.0)]}, "step", "nats")])
