"""Step `html`: raw HTML to text. Whole pages give their main content, fragments and mails all they say.

A page without text is dropped as 'no_text'. Rows are HTML when they say so (`"html": true`, which the step takes away) or,
if `detect` is on, when their text begins with a tag. The time is bounded without a clock, so that the result is the same on
every machine: pages longer than `max_page`, and pages in which trafilatura finds nothing, are read as fragments (`whole` in
the tally).
"""

from collections import Counter

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.data.markup import Engine, fragment_text, is_page, looks_like_html, page_text, without_scripts
from danlu.data.sources import Row
from danlu.data.step import Drop
from danlu.data.steps._text import emptied, encodable, is_code, rewrite

__all__ = ["Config", "Step"]


class Config(Base):
    """What is HTML, and how it is read."""

    engine: Engine = doc(
        "auto",
        "trafilatura takes the main content, selectolax everything but menus and scripts; auto: the one for pages, the other for fragments",
        "trafilatura 取正文，selectolax 取除菜单脚本外的全部；auto：整页用前者，片段用后者",
    )
    detect: bool = doc(
        True,
        "also convert texts that begin with a tag, besides rows marked html: true",
        "除标有 html: true 的行外，也转换以标签开头的文本",
    )
    max_page: int = doc(
        200_000,
        "pages that are longer without their scripts are read by selectolax, whose time grows with the length only; in characters",
        "去掉脚本后仍更长的网页改用 selectolax（耗时只随长度增长）；单位为字符",
        ge=1,
    )


class Step:
    """Converts the text or each message; `tally` counts pages and fragments."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        marked = row.get("html") is True
        if not marked and (not self.config.detect or is_code(row)):
            return row

        def change(text: str) -> str:
            return self.text(text, tally) if marked or looks_like_html(text) else text

        changed = rewrite(row, change)
        if (marked or changed is not row) and emptied(row, changed):
            return Drop("no_text")
        return {key: value for key, value in changed.items() if key != "html"} if marked else changed

    def text(self, html: str, tally: Counter[str]) -> str:
        """The text of one page or fragment."""
        html = encodable(html).replace("\0", "")
        page = self.config.engine == "trafilatura" or (self.config.engine == "auto" and is_page(html))
        tally["page" if page else "fragment"] += 1
        if page and len(html) > self.config.max_page:
            html = without_scripts(html)
        if page and len(html) <= self.config.max_page:
            text = page_text(html)
            if text or self.config.engine == "trafilatura":
                return text
        if page:
            tally["whole"] += 1
        return fragment_text(html)
