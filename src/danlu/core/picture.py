"""Pictures as files: a Vega-Lite specification becomes PNG, SVG, or an HTML page that needs nothing beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danlu.core.errors import ConfigError, MissingExtraError
from danlu.core.files import atomic_path
from danlu.core.i18n import tr

__all__ = ["FONTS", "KINDS", "check_kind", "save_picture"]

KINDS = (".png", ".svg", ".html")
# Fonts with Chinese, as the three systems have them; a PNG is drawn with those of this machine.
FONTS = "Noto Sans CJK SC, Source Han Sans SC, PingFang SC, Microsoft YaHei, WenQuanYi Micro Hei, sans-serif"


def check_kind(path: Path) -> None:
    """Raise ConfigError for a name that ends in none of `KINDS`: before long work, not after it."""
    if path.suffix.lower() not in KINDS:
        raise ConfigError(
            tr(f"{path}: what kind of picture is it?", f"{path}:不知道要哪种图片"),
            tr(f"end the name in {', '.join(KINDS)}", f"文件名请以 {'、'.join(KINDS)} 结尾"),
        )


def save_picture(specification: Mapping[str, Any], path: Path) -> None:
    """Draw a Vega-Lite specification into `path`; its ending tells the kind.

    Raises ConfigError for another ending, MissingExtraError without the package vl-convert-python, and StorageError
    when the disk is full.
    """
    check_kind(path)
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise MissingExtraError("vl-convert-python", "report") from None
    config = {"font": FONTS, "view": {"stroke": None}, **specification.get("config", {})}
    whole = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", **specification, "config": config}
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".png":
            temporary.write_bytes(vl_convert.vegalite_to_png({"background": "white", **whole}, scale=2))
        elif path.suffix.lower() == ".svg":
            temporary.write_text(vl_convert.vegalite_to_svg(whole), encoding="utf-8")
        else:
            temporary.write_text(vl_convert.vegalite_to_html(whole, bundle=True), encoding="utf-8")
