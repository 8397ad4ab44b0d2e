"""Step `boilerplate`: lines that belong to the page or the mail and not to the text.

A line goes when it is as a whole what a menu, a cookie note or a footer says: words of it within a sentence do not
count, so that a sentence about cookies stays. Lines are looked at only when they hold one of the trigger words, found in one
pass over the text (Aho-Corasick). Text between code fences stays, and rows that the language step called code.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, pairwise

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.core.errors import MissingExtraError
from danlu.data.sources import Row
from danlu.data.step import Drop
from danlu.data.steps._phrases import GROUPS, TRIGGERS
from danlu.data.steps._text import emptied, encodable, is_code, rewrite

__all__ = ["Config", "Step"]


class Config(Base):
    """The groups of lines that go, and how long such a line may be."""

    menus: bool = doc(True, "menus, breadcrumbs, previous and next, read more", "菜单、面包屑、上一篇下一篇、阅读更多")
    notices: bool = doc(
        True, "cookie, subscription and login notes, advertisements", "Cookie 提示、订阅与登录提示、广告语"
    )
    footers: bool = doc(
        True, "copyright, editors in charge, licences of sites, disclaimers", "版权所有、责任编辑、备案号、免责声明"
    )
    sharing: bool = doc(True, "share buttons, follow us, likes", "分享按钮、关注公众号、点赞收藏")
    symbols: bool = doc(
        True,
        "lines of symbols alone, five or more (Markdown's rules and tables stay)",
        "只有符号的行（五个以上；Markdown 的分隔线与表格除外）",
    )
    repeated: int = doc(
        5,
        "short lines that come this often, apart from one another, go after the first (0: never)",
        "重复出现这么多次的短行（页眉页脚）只留第一次（0：不处理）",
        ge=0,
    )
    mail: bool = doc(True, "mail headers, quoted replies and signatures", "邮件头、引用的回复、签名")
    max_line: int = doc(120, "longer lines are never boilerplate, in characters", "更长的行不算样板文字（字符）", ge=1)


_AROUND = " \t\u3000*#>-|·•»«›‹【】[]_~"  # what decorates a line
_SYMBOLS = re.compile(r"^(?:[^\w\n□]|_){5,}$", re.MULTILINE)
_LETTER = re.compile(r"[^\W_]|□")  # □ stands for a character that is lost
_RULE = re.compile(r"\s*(?:-{3,}|\*{3,}|_{3,}|={3,}|~{3,}|`{3,})\s*|[-|: ]+")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_HEADER = re.compile(
    r"(?:From|To|Cc|Bcc|Sent|Date|Subject|Reply-To|Message-I[Dd]|In-Reply-To|References|Received|Return-Path|MIME-Version"
    r"|Content-(?:Type|Transfer-Encoding|Disposition)|List-[A-Z]\w+|X-[A-Z][\w-]*|Delivered-To|Precedence|Sender|Organization"
    r"|发件人|收件人|抄送|发送时间|发送日期|日期|主题)[:：]"
)
_QUOTED = re.compile(r"\s?>(?!>>)")
_WROTE = re.compile(
    r"On .{5,80}\bwrote:|.{3,60}(?:写道|寫道)[:：]|-{2,}\s*(?:Original Message|Forwarded message|原始邮件|转发邮件|原始郵件)\s*-{2,}",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"-- ?|__+|—— ?")
_SENT_FROM = re.compile(r"(?:Sent from my |Get Outlook for |发自我的|從我的).{2,40}", re.IGNORECASE)
_MAIL = re.compile(r"^(?:\s?>|--|[A-Z][\w-]+:|Get Outlook|Sent from|[发從]|.{2,4}[:：])", re.MULTILINE)
_SIGNATURE_LINES = 8  # more lines after the mark are text


class Step:
    """Removes the lines; `tally` counts them by group. A row of which nothing is left is dropped as 'boilerplate'."""

    def __init__(self, config: Config) -> None:
        try:
            from ahocorasick_rs import AhoCorasick
        except ImportError:
            raise MissingExtraError("ahocorasick-rs", "data") from None
        self.config = config
        self.groups = [(name, pattern) for name, pattern in GROUPS.items() if getattr(config, name)]
        self.triggers = AhoCorasick(TRIGGERS)

    def apply(self, row: Row, tally: Counter[str]) -> Row | Drop:
        if is_code(row):
            return row
        rest = rewrite(row, lambda text: self.text(text, tally))
        return Drop("boilerplate") if rest is not row and emptied(row, rest) else rest

    def text(self, text: str, tally: Counter[str]) -> str:
        """The text without its boilerplate lines; where lines went, one empty line at most stays."""
        lines = text.split("\n")
        gone = dict(self._phrases(text, lines))
        if self.config.symbols and _SYMBOLS.search(text):
            gone.update((number, "symbols") for number, line in enumerate(lines) if _only_symbols(line))
        if self.config.repeated:
            gone.update((number, "repeated") for number in self._repeated(lines))
        if self.config.mail and _MAIL.search(text):
            gone.update((number, "mail") for number in _mail(lines))
        if gone and "```" in text:
            for number in _fenced(lines):
                gone.pop(number, None)
        if not gone:
            return text
        tally.update(gone.values())
        kept: list[str] = []
        cut = False
        for number, line in enumerate(lines):
            if number in gone:
                cut = True
            elif line.strip() or not cut or (kept and kept[-1].strip()):
                kept.append(line)
                cut = False
        return "\n".join(kept).strip("\n")

    def _phrases(self, text: str, lines: list[str]) -> Iterator[tuple[int, str]]:
        """(line, group) of the lines that some pattern matches from end to end."""
        lower = text.lower()
        if len(lower) != len(text):  # a few capitals become two characters: positions would move
            lower = "".join(char.lower()[:1] for char in text)
        found = self.triggers.find_matches_as_indexes(encodable(lower))
        if not found:
            return
        starts = [0, *accumulate(len(line) + 1 for line in lines)]
        for number in sorted({bisect_right(starts, start) - 1 for _, start, _ in found}):
            said = lines[number].strip(_AROUND)
            if len(said) <= self.config.max_line:
                name = next((name for name, pattern in self.groups if pattern.fullmatch(said)), None)
                if name:
                    yield number, name

    def _repeated(self, lines: list[str]) -> list[int]:
        """Short lines of several words that come again and again, never next to each other, as page headers do."""
        if len(lines) < 4 * self.config.repeated:
            return []
        places: dict[str, list[int]] = {}
        for number, line in enumerate(lines):
            said = line.rstrip()
            if not line.startswith((" ", "\t")) and 4 <= len(said) <= self.config.max_line:
                places.setdefault(said, []).append(number)
        far = 10  # lines of text at least from one header to the next: a refrain or a list is denser
        return [
            number
            for said, numbers in places.items()
            if len(numbers) >= self.config.repeated
            and min(b - a for a, b in pairwise(numbers)) >= far
            and _LETTER.search(said)
            and said[-1] not in "，。；！？.,;!?{}();:'\""
            for number in numbers[1:]
        ]


def _only_symbols(line: str) -> bool:
    return len(line.strip()) >= 5 and not _LETTER.search(line) and not _RULE.fullmatch(line)


def _fenced(lines: list[str]) -> Iterator[int]:
    inside = False
    for number, line in enumerate(lines):
        mark = bool(_FENCE.match(line))
        if inside or mark:
            yield number
        inside ^= mark


def _mail(lines: list[str]) -> Iterator[int]:
    """Blocks of two or more header lines; replies quoted by '>' below 'wrote:' or another '>'; what follows '-- '."""
    header = [bool(_HEADER.match(line)) for line in lines]
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    inside = False  # a block of headers: at the beginning, or below a line that announces a forwarded mail
    quoted = [bool(_QUOTED.match(line)) for line in lines]
    is_mail = False
    mostly_quoted = quoted.count(True) > max(1, len(lines) / 2)
    for number, line in enumerate(lines):
        follows = number + 1 < len(lines) and header[number + 1]
        announced = bool(_WROTE.fullmatch(line.strip()))
        if (announced and any(quoted[number + 1 : number + 4])) or (announced and line.strip().startswith("-")):
            is_mail = True
            yield number
        starts = header[number] and follows and (number == first or _announces(lines, number))
        inside = bool(line.strip()) and ((inside and (header[number] or line[0] in " \t")) or starts)
        if inside:
            is_mail = True
            yield number
        elif (quoted[number] and (is_mail or mostly_quoted)) or _SENT_FROM.fullmatch(line.strip()):
            yield number
    yield from _signature(lines)


def _announces(lines: list[str], number: int) -> bool:
    before = [line.strip() for line in lines[max(0, number - 2) : number] if line.strip()]
    return bool(before) and bool(_WROTE.fullmatch(before[-1]))


def _signature(lines: list[str]) -> Iterator[int]:
    """The last lines after a line '-- ' (RFC 3676, section 4.3)."""
    for number in range(len(lines) - 1, max(len(lines) - _SIGNATURE_LINES - 2, 0), -1):
        if lines[number] in ("-- ", "--"):
            yield from range(number, len(lines))
            return
