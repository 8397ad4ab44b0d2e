"""Chinese and English, side by side where the words are used."""

import locale
import os
from functools import lru_cache

__all__ = ["language", "tr"]


@lru_cache(maxsize=1)
def language() -> str:
    """'zh' or 'en': the environment's `DANLU_LANG`, else the locale's."""
    wish = os.environ.get("DANLU_LANG")
    if not wish:
        names = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
        wish = next((name for name in names if name), None) or locale.getlocale()[0] or "en"
    return "zh" if wish.lower().startswith(("zh", "chinese")) else "en"


def tr(en: str, zh: str) -> str:
    """The wording in the reader's language."""
    return zh if language() == "zh" else en
