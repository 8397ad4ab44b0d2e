"""Text out of HTML: the main content of a page (trafilatura), or all that a fragment or mail says (selectolax).

Both parsers only build a tree; the walk that turns it into lines is the same and uses no recursion, so that ten thousand
nested elements are as good as one. Paragraphs, headings, lists, tables and code blocks are parted by an empty line; an item of a
list begins with '- ', the cells of a row are parted by ' | ', and preformatted text stands verbatim between ``` fences.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from danlu.core.errors import MissingExtraError

__all__ = ["Engine", "fragment_text", "is_page", "looks_like_html", "page_text", "without_scripts"]

Engine = Literal["auto", "trafilatura", "selectolax"]
Event = tuple[Literal["open", "text", "close"], str]

_TAG = r"(?:html|head|body|div|p|br|hr|table|thead|tbody|tr|t[dh]|[uo]l|li|d[ldt]|span|a|img|script|style|h[1-6]|pre|code|b|i|em|strong|font|center|section|article|main|header|footer|nav|blockquote|form|meta|link|title|details|figure|svg|iframe|button)"
_BEGINS = re.compile(
    rf"\s*(?:<\?xml[^<]*|<!--.{{0,2000}}?-->\s*)*<(?:!doctype\s+html|{_TAG})\b[^<>]*>", re.IGNORECASE | re.DOTALL
)
_MORE = re.compile(rf"</{_TAG}\s*>|<(?:br|hr|p|li|img|meta)\b[^<>]*>", re.IGNORECASE)
_PAGE = re.compile(r"<(?:!doctype\s+html|html|body)\b", re.IGNORECASE)

_GONE = frozenset(
    (
        *("script", "style", "noscript", "template", "head", "svg", "canvas", "iframe", "object", "embed"),
        *("audio", "video", "math", "nav", "aside", "footer", "form", "button", "select", "option", "input"),
        *("textarea", "dialog", "datalist", "menu", "-comment"),
    )
)
_APART = frozenset(
    ("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "blockquote", "hr", "head", "list", "quote")
)
_LINE = frozenset(
    (
        *("div", "li", "dt", "dd", "tr", "caption", "section", "article", "main", "header", "address"),
        *("center", "figure", "figcaption", "details", "summary", "body", "html", "fieldset", "legend"),
        *("item", "row", "br", "lb", "tbody", "thead", "tfoot"),
    )
)
_ITEM = frozenset(("li", "item"))
_CELL = frozenset(("td", "th", "cell"))
_PRE = frozenset(("pre", "listing", "xmp"))
_HIDDEN = re.compile(
    r"cookie|consent|gdpr|newsletter|subscri|breadcrumb|share-?(?:bar|button|tool)|social|sidebar|navbar|advert|\bads?\b|popup|\bmodal\b",
    re.IGNORECASE,
)
_NOT_SHOWN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
# Elements that carry no lines of their own. Left open they are what makes repairing broken HTML quadratic, so they go first.
_INLINE = re.compile(
    r"</?(?:a|b|big|em|font|i|nobr|s|small|strike|strong|tt|u|code)(?:\s[^<>]{0,2000})?/?>", re.IGNORECASE
)
_FORMAT = re.compile(r"</?(?:b|big|em|font|i|nobr|s|small|strike|strong|tt|u)(?:\s[^<>]{0,2000})?/?>", re.IGNORECASE)
_SCRIPT = re.compile(r"<(script|style|svg|noscript)\b", re.IGNORECASE)
_BLANK = re.compile(r"\s+")
_ANY_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)[^<>]*>")
_DEEPEST = 512  # what nests deeper is broken, and parsers look through all open elements at each tag
# These end by themselves, or hold nothing: left open they do not nest.
_SELF_ENDING = frozenset(
    (
        *("p", "li", "dt", "dd", "tr", "td", "th", "tbody", "thead", "tfoot", "option", "br", "hr", "img"),
        *("input", "meta", "link", "wbr", "col", "source", "area", "base"),
    )
)


def looks_like_html(text: str) -> bool:
    """Whether the text begins with a tag of HTML and has another one."""
    begins = _BEGINS.match(text)
    return begins is not None and (_PAGE.search(begins[0]) is not None or _MORE.search(text, begins.end()) is not None)


def is_page(html: str) -> bool:
    """Whether it is a whole page, which has navigation around its content, and not a fragment."""
    return _PAGE.search(html, 0, 100_000) is not None


def fragment_text(html: str) -> str:
    """All lines of the HTML but scripts, forms, navigation and what is hidden. Raises MissingExtraError."""
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        raise MissingExtraError("selectolax", "data") from None
    root = LexborHTMLParser(_shallow(_INLINE.sub("", html))).root
    return _lines(_lexbor_events(root)) if root is not None else ""


def _shallow(html: str) -> str:
    """The HTML without the tags of elements nested deeper than 512."""
    if html.count("<") <= _DEEPEST:
        return html
    depth = beyond = 0

    def keep(tag: re.Match[str]) -> str:
        nonlocal depth, beyond
        if tag[2].lower() in _SELF_ENDING:
            return tag[0]
        if tag[1]:
            if beyond:
                beyond -= 1
                return " "
            depth = max(0, depth - 1)
        elif depth >= _DEEPEST:
            beyond += 1
            return " "
        else:
            depth += 1
        return tag[0]

    return _ANY_TAG.sub(keep, html)


def without_scripts(html: str) -> str:
    """The HTML without scripts, styles and drawings, often most of a page; those that do not end stay."""
    parts: list[str] = []
    at = 0
    endless: set[str] = set()
    for begin in _SCRIPT.finditer(html):
        tag = begin[1].lower()
        if begin.start() < at or tag in endless:
            continue
        end = re.compile(f"</{tag}[^<>]*>", re.IGNORECASE).search(html, begin.end())
        if end is None:
            endless.add(tag)
            continue
        parts.append(html[at : begin.start()])
        at = end.end()
    return "".join([*parts, html[at:]])


def page_text(html: str) -> str:
    """The main content of a page; '' where trafilatura finds none. Raises MissingExtraError.

    Barbaresi 2021, "Trafilatura: A web scraping library and command-line tool for text discovery and extraction".
    """
    try:
        from lxml.etree import iterwalk  # pyright: ignore[reportAttributeAccessIssue]  # a compiled module
        from trafilatura import bare_extraction
    except ImportError as error:
        raise MissingExtraError(error.name or "trafilatura", "data") from None
    found = bare_extraction(
        _shallow(_FORMAT.sub("", html)),
        include_comments=False,
        include_tables=True,
        include_formatting=False,
        with_metadata=False,
        config=_settings(),
    )
    body = getattr(found, "body", None)
    return "" if body is None else _lines(_lxml_events(iterwalk(body, events=("start", "end"))))


@functools.cache
def _settings() -> Any:
    """trafilatura's, but that 60 characters are a text: below its 250 it takes the whole page, and Chinese is three times as dense."""
    from trafilatura.settings import use_config

    config = use_config()
    config.set("DEFAULT", "MIN_EXTRACTED_SIZE", "60")
    return config


def _lexbor_events(root: Any) -> Iterator[Event]:
    """The tree in the order of the text; a child comes before its next sibling, by hand instead of by recursion."""
    node, depth = root, 0
    while node is not None:
        tag = node.tag
        if tag == "-text":
            yield "text", node.text_content or ""
        elif tag not in _GONE and not _hidden(node, tag):
            yield "open", tag
            if node.child is not None:
                node, depth = node.child, depth + 1
                continue
            yield "close", tag
        while node is not None and node.next is None:
            if depth == 0:
                return
            node, depth = node.parent, depth - 1
            yield "close", node.tag if node is not None else ""
        node = node.next if node is not None else None


def _hidden(node: Any, tag: str) -> bool:
    attributes = node.attributes
    if not attributes or tag in ("html", "body", "main", "article"):
        return False
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    return bool(_HIDDEN.search(names) or _NOT_SHOWN.search(attributes.get("style") or ""))


def _lxml_events(walk: Iterable[tuple[str, Any]]) -> Iterator[Event]:
    for event, element in walk:
        if not isinstance(element.tag, str):
            continue
        tag = "pre" if element.tag == "code" and _is_block(element) else element.tag
        if event == "start":
            yield "open", tag
            if element.text:
                yield "text", element.text
        else:
            yield "close", tag
            if element.tail:
                yield "text", element.tail


def _is_block(element: Any) -> bool:
    parent = element.getparent()
    return (parent is None or parent.tag in ("body", "item", "quote")) and "\n" in "".join(element.itertext())


def _lines(events: Iterable[Event]) -> str:
    page = _Page()
    for kind, said in events:
        if kind == "text":
            page.text(said)
        elif kind == "open":
            page.open(said)
        else:
            page.close(said)
    return page.finish()


class _Page:
    """Lines in the making: `parts` of the current line, and how far the next one stands from the last."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.parts: list[str] = []
        self.pre = 0
        self.items = 0
        self.apart = False
        self.mark = ""

    def text(self, said: str) -> None:
        self.parts.append(said if self.pre else _BLANK.sub(" ", said))

    def open(self, tag: str) -> None:
        if tag in _PRE:
            if self.pre == 0:
                self.end_line()
                self.apart = True
            self.pre += 1
        elif self.pre:
            if tag == "br":
                self.parts.append("\n")
        elif tag in _APART or tag in _LINE:
            self.end_line()
            self.apart |= tag in _APART and self.items == 0
            if tag in _ITEM:
                self.mark, self.items = "- ", self.items + 1
        elif tag in _CELL and any(part.strip() for part in self.parts):
            self.parts.append(" | ")

    def close(self, tag: str) -> None:
        if tag in _PRE and self.pre:
            self.pre -= 1
            if self.pre == 0:
                self.end_code()
        elif not self.pre and (tag in _APART or tag in _LINE):
            self.end_line()
            if tag in _ITEM:
                self.mark, self.items = "", self.items - 1
            self.apart |= tag in _APART and self.items == 0

    def end_line(self) -> None:
        line = _BLANK.sub(" ", "".join(self.parts)).strip()
        self.parts = []
        if line:
            self.add([self.mark + line])

    def end_code(self) -> None:
        code = "".join(self.parts).strip("\r\n").replace("\r\n", "\n")
        self.parts = []
        if code.strip():
            self.add(["```", *code.split("\n"), "```"])
            self.apart = True

    def add(self, lines: list[str]) -> None:
        if self.apart and self.lines:
            self.lines.append("")
        self.lines += lines
        self.apart, self.mark = False, ""

    def finish(self) -> str:
        if self.pre:
            self.end_code()
        self.end_line()
        return "\n".join(self.lines)
