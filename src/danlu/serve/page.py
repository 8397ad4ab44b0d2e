"""The page to talk to a model: one file without any outside resource."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from danlu.core.i18n import language as machine_language

__all__ = ["page", "preferred_language"]

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def page(language: str) -> tuple[str, dict[str, str]]:
    """The page in 'zh' or 'en' (it can be switched there), and its headers.

    The policy lets the browser run only the script and style of this very file and talk to this server only, so
    that nothing a model writes can become code.
    """
    text = files("danlu.serve").joinpath("page.html").read_text(encoding="utf-8")
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(text):
        allowed[kind].append("'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'")
    policy = (
        f"default-src 'none'; script-src {' '.join(allowed['script'])}; style-src {' '.join(allowed['style'])}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "Vary": "Accept-Language",
        "Content-Language": language,
    }
    html = text.replace('<html lang="zh-Hans"', '<html lang="en"', 1) if language == "en" else text
    return html, headers


def preferred_language(accept: str | None) -> str:
    """'zh' or 'en', whichever an Accept-Language header wants more; English for those who read neither.

    Without a header, the language of the server's own machine.
    """
    if not accept:
        return machine_language()
    best, choice = 0.0, "en"
    for part in accept.split(","):
        tag, *options = (word.strip().lower() for word in part.split(";"))
        language = tag.partition("-")[0]
        if language not in ("zh", "en"):
            continue
        quality = next((option[2:] for option in options if option.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            continue  # a header that is no header wishes for nothing
        if weight > best:
            best, choice = weight, language
    return choice
