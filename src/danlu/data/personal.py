"""Finds personal data and secrets in text, so that a model cannot learn them by heart.

E-mail addresses (also as 'name at example dot com'), telephones, Chinese ID cards, bank cards, passports, number plates,
postal addresses, IP addresses, keys and passwords; names after a title when asked for. Patterns find candidates,
then arithmetic and context decide; see Lukas et al. 2023, "Analyzing Leakage of Personally Identifiable Information".
"""

import hashlib
import hmac
import math
import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import get_args

from danlu.data.personal_numbers import Finding, Kind, find_bank_cards, find_id_cards, find_phones, fold
from danlu.data.personal_places import find_addresses

__all__ = ["KINDS", "USUAL", "Finding", "Kind", "find", "mask", "placeholder", "pseudonym"]

KINDS: tuple[Kind, ...] = get_args(Kind)
USUAL: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "name")
# Where two findings overlap, the first of these wins: a JWT may hold digits, an e-mail address a telephone.
_STRENGTH: tuple[Kind, ...] = (
    "key",
    "email",
    "id_card",
    "bank_card",
    "address",
    "phone",
    "ip",
    "passport",
    "plate",
    "name",
)

_LOCAL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-"
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-]*\.)+[A-Za-z0-9\-]+")
_LOOSE = re.compile(
    r"\s{0,2}((?:[A-Za-z0-9\-]{1,63}(?:\s?(?:\.|。)\s?|\s?[(\[{<（【]\s?(?:dot|DOT|点)\s?[)\]}>）】]\s?|\s(?:dot|DOT|Dot)\s|点))+)([A-Za-z]{2,18})(?![A-Za-z0-9\-])"
)
_AT = re.compile(
    r"\s?[(\[{<（【*]\s?(?:at|AT|At|@|a|艾特)\s?[)\]}>）】*]\s?|[ \n](?:at|AT|At)[ \n]|艾特|_at_|-at-|[ \n]?@[ \n]{1,2}|[ \n]@|#(?=(?:qq|163|126|gmail|sina|outlook|hotmail|foxmail)\.)"
)
_COVERED = re.compile(r"[(\[{<（【*]\s?(?:at|AT|At|@|a|艾特)\s?[)\]}>）】*]|@[ \n][A-Za-z0-9]|_at_|-at-|艾特")
_HASHED = ("#qq.", "#163.", "#126.", "#gmail.", "#sina.", "#outlook.", "#hotmail.", "#foxmail.")
_BEFORE_AT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._%+\-]|\s(?:dot|DOT)\s|[(\[](?:dot|DOT)[)\]]){0,62}\Z")
_TLDS = frozenset(
    [
        "com",
        "net",
        "org",
        "edu",
        "gov",
        "mil",
        "int",
        "info",
        "biz",
        "name",
        "pro",
        "mobi",
        "app",
        "dev",
        "io",
        "ai",
        "xyz",
        "top",
        "site",
        "online",
        "shop",
        "club",
        "vip",
        "tech",
        "store",
        "cloud",
        "email",
        "asia",
        "art",
        "wang",
        "ltd",
        "group",
        "example",
        "test",
        "museum",
        "travel",
        "jobs",
    ]
)
_SPOKEN_NATIONS = frozenset(
    ["cn", "uk", "jp", "de", "fr", "kr", "au", "ca", "ru", "br", "nl", "se", "eu", "tw", "hk", "sg"]
)  # in, it and us are words, too
_NATION = re.compile(r"[a-z]{2}|[A-Z]{2}")
_FILES = frozenset(
    ["py", "js", "ts", "md", "sh", "so", "rs", "go", "cc", "ps", "gz"]
)  # two letters that end file names rather than addresses

_IPV4 = re.compile(r"[0-9](?<![0-9A-Za-z_.][0-9])[0-9]{0,2}(?:\s?[.]\s?[0-9]{1,3}){3}(?![0-9A-Za-z_]|\.[0-9])")
_IPV6_START = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![A-Za-z0-9_:])")
_JOINED = re.compile(r"[A-Za-z0-9_:]")
_VERSION = re.compile(
    r"(?i)(?:\bv|version|ver\.?|release|build|firmware|section|chapter|clause|rfc|oid|版本号?|第|章|节|图|表|驱动|固件|编号|python|java|chrome|firefox|safari|windows|android|ios|linux|kernel|php|ruby|mysql|nginx|openssl)\s?[:：]?\s?(?:is |为|是)?$|[A-Za-z](?:/\s?|[\-_])v?$"
)
_WORDED = re.compile(
    r"(?i)\b(?:ip|address|host|server|from|at|to|via|by|peer|ping|ssh|client|node|gateway|dns|login|on|and|was)\s$"
)

_PREFIXED = (
    ("AKIA", re.compile(r"(?<![A-Za-z0-9])AKIA[0-9A-Z]{16}(?![A-Za-z0-9])")),
    ("ASIA", re.compile(r"(?<![A-Za-z0-9])ASIA[0-9A-Z]{16}(?![A-Za-z0-9])")),
    ("gh", re.compile(r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36,255}(?![A-Za-z0-9])")),
    ("github_pat_", re.compile(r"github_pat_[A-Za-z0-9_]{22,255}")),
    ("glpat-", re.compile(r"glpat-[A-Za-z0-9_\-]{20,}")),
    ("sk-", re.compile(r"(?<![A-Za-z0-9])sk-(?=[A-Za-z0-9_\-]*[0-9])(?:[A-Za-z]+-)*[A-Za-z0-9_\-]{20,}")),
    ("k_live_", re.compile(r"(?<![A-Za-z0-9])[sr]k_live_[A-Za-z0-9]{16,}")),
    ("xox", re.compile(r"xox[abprs]-[A-Za-z0-9\-]{10,}")),
    ("AIza", re.compile(r"AIza[0-9A-Za-z_\-]{35}")),
    ("hf_", re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}(?![A-Za-z0-9])")),
    ("npm_", re.compile(r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])")),
    ("SG.", re.compile(r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}")),
    ("eyJ", re.compile(r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_\-]{8,}\.\s?eyJ[A-Za-z0-9_\-]{4,}\.\s?[A-Za-z0-9_\-]{8,}")),
    ("PRIVATE KEY", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----.{1,8000}?-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----", re.DOTALL)),
)  # fmt: skip
# The ends of the words before a secret, and whether a short one will do (a password) or it must look random (a token).
_SECRET_WORDS = {
    **dict.fromkeys(("assword", "ASSWORD", "asswd", "ASSWD", "pwd", "PWD", "密码", "口令"), True),
    **dict.fromkeys(("ecret", "ECRET", "oken", "OKEN", "_key", "_KEY", "-key", "-KEY", "-Key", "pikey", "piKey", "PIKEY", "密钥"), False),
}  # fmt: skip
_SECRET = re.compile(
    r"[\"'\]]{0,2}\s{0,2}(?:[:=：]|=>|是|为|is(?=\s))\s{0,2}(?P<quote>[\"'`])?(?P<value>[^\s\"'`,;，。；、<>(){}\[\]]{6,200})(?P<after>.?)"
)
_PASSPORT = re.compile(r"(?<![A-Za-z0-9])(?:E[A-HJ-NP-Z0-9]|[GDSP]E?|[HM])[0-9]{7,8}(?![A-Za-z0-9])")
_PLATE = re.compile(r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][·•\s]?(?=[A-HJ-NP-Z]*[0-9])[A-HJ-NP-Z0-9]{5,6}(?![A-Za-z0-9])")  # fmt: skip
_SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤"
_NAME = re.compile(
    r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof)\.?\s(?P<en>[A-Z][a-z]+(?:[\- ][A-Z][a-z]+){0,2})"
    rf"|(?P<zh>[{_SURNAMES}][\u4e00-\u9fff]{{0,2}}?)(?=先生|女士|小姐|老师|医生|教授|律师|经理|总监|同志)"
)


def find(text: str, kinds: Iterable[Kind] = USUAL) -> list[Finding]:
    """What is personal in `text`, in order, without overlaps; offsets count characters of `text`."""
    folded = fold(text)
    found = [finding for kind in dict.fromkeys(kinds) for finding in _FINDERS[kind](folded)]
    if not found:
        return []
    found.sort(key=lambda one: (_STRENGTH.index(one.kind), one.start - one.end))
    kept: list[Finding] = []
    for finding in found:
        place = bisect(kept, finding.start, key=lambda one: one.start)
        free = place == 0 or kept[place - 1].end <= finding.start
        if free and (place == len(kept) or finding.end <= kept[place].start):
            kept.insert(place, finding)
    return kept


def mask(text: str, findings: Iterable[Finding], write: Callable[[Finding, str], str], tally: Counter[str]) -> str:
    """`text` with `write(finding, what was found)` in the place of each finding; the rest stays as it is."""
    parts, done = [], 0
    for finding in findings:
        tally[finding.kind] += 1
        parts += [text[done : finding.start], write(finding, text[finding.start : finding.end])]
        done = finding.end
    return "".join([*parts, text[done:]]) if parts else text


def placeholder(finding: Finding, _found: str) -> str:
    """'<EMAIL>', '<ID_CARD>', ..."""
    return f"<{finding.kind.upper()}>"


def pseudonym(key: bytes) -> Callable[[Finding, str], str]:
    """Writes '<PHONE:1f2e3d4c>': the same person stays the same, and only who has the key can tell from a list who it is.

    HMAC-SHA256 over the kind and the letters and digits of what was found (so spaces and case do not matter), cut to 32 bits.
    """

    def write(finding: Finding, found: str) -> str:
        plain = "".join(character for character in fold(found).casefold() if character.isalnum() or character in "@.")
        digest = hmac.new(key, f"{finding.kind}:{plain}".encode(), hashlib.sha256).hexdigest()
        return f"<{finding.kind.upper()}:{digest[:8]}>"

    return write


def _emails(text: str) -> Iterator[Finding]:
    place = text.find("@")
    while place >= 0:
        before = text[max(0, place - 64) : place]
        local = before[len(before.rstrip(_LOCAL)) :].lstrip("._%+-")
        domain = _domain(text, place + 1) if local else ""
        end = place + 1 + len(domain)
        if domain and not (local == "git" and text[end : end + 1] in (":", "/")):
            yield Finding("email", place - len(local), end)
        place = text.find("@", place + 1)
    spoken = any(sign in text for sign in (" dot ", " DOT ", " Dot "))
    if not spoken and not _COVERED.search(text) and " @" not in text and not any(sign in text for sign in _HASHED):
        return
    for match in _AT.finditer(text):
        local = _BEFORE_AT.search(text, max(0, match.start() - 64), match.start())
        domain = _LOOSE.match(text, match.end())
        if not local or not domain or not _in_earnest(match.group(), local.group(), domain):
            continue
        yield Finding("email", local.start(), domain.end())


def _in_earnest(at: str, local: str, domain: re.Match[str]) -> bool:
    """Whether 'name at domain' is an address in disguise rather than a sentence or a product of matrices."""
    ending, plain = domain.group(2), at.strip().lower() in ("at", "@")
    dotted = re.search(r"(?i)dot|点", domain.group(1)) is not None
    if at.strip().lower() == "at" and not dotted:
        return False
    if plain and not dotted and (re.search(r"\.\s|\s\.", domain.group(1)) or len(local) < 2 or "\n\n" in at):
        return False
    return ending.lower() in _TLDS or (len(ending) == 2 and (not plain or ending.lower() in _SPOKEN_NATIONS))


def _domain(text: str, start: int) -> str:
    """The longest domain at `start` that ends in a top level there is; '' when there is none."""
    match = _DOMAIN.match(text, start)
    labels = match.group().split(".") if match else []
    while len(labels) > 1:
        ending = labels[-1]
        if ending.lower() in _TLDS or (_NATION.fullmatch(ending) and ending not in _FILES):
            return ".".join(labels)
        labels.pop()
    return ""


def _addresses_of_machines(text: str) -> Iterator[Finding]:
    for match in _IPV4.finditer(text) if text.count(".") >= 3 else ():
        written = re.sub(r"\s", "", match.group())
        parts = written.split(".")
        if any(int(part) > 255 or (len(part) > 1 and part[0] == "0") for part in parts) or parts[0] in (
            "0",
            "127",
            "255",
        ):
            continue
        if match.group() != written and sum(map(len, parts)) < 8:
            continue
        before = text[max(0, match.start() - 16) : match.start()]
        small = max(map(int, parts)) < 40
        heading = (not before or before.rstrip(" ")[-1:] in ("", "\n")) and small
        named = re.search(r"[A-Za-z] $", before) is not None and small
        if ((named or _VERSION.search(before)) and not _WORDED.search(before)) or (
            heading and text[match.end() : match.end() + 1] == " "
        ):
            continue
        if (
            text[match.start() - 1 : match.start()] in ("/", "-")
            and not before.endswith("//")
            and before[-2:-1].isalnum()
        ):
            continue
        if IPv4Address(written):
            yield Finding("ip", *match.span())
    done = 0
    for hit in _IPV6_START.finditer(text) if text.count(":") > 1 else ():
        start = hit.start()
        while start > 0 and hit.start() - start < 4 and text[start - 1] in "0123456789abcdefABCDEF":
            start -= 1
        if start < done or _JOINED.match(text[start - 1 : start]):
            continue
        match = _IPV6.match(text, start)
        if match and _is_ipv6(match.group()):
            done = match.end()
            yield Finding("ip", start, done)


def _is_ipv6(written: str) -> bool:
    try:
        address = IPv6Address(written)
    except ValueError:
        return False
    groups = [group for group in written.split(":") if group]
    wide = len(groups) > 2 and any(character.isdigit() for character in written) and len("".join(groups)) > 5
    return not (address.is_loopback or address.is_unspecified) and (
        wide or (len(groups[0]) == 4 and groups[0][0] in "23fF")
    )


def _keys(text: str) -> Iterator[Finding]:
    for mark, pattern in _PREFIXED:
        if mark in text:
            yield from (Finding("key", *match.span()) for match in pattern.finditer(text))
    for word, short in _SECRET_WORDS.items():
        place = text.find(word)
        while place >= 0:
            match = _SECRET.match(text, place + len(word))
            if match and match["after"] not in ("(", "["):
                value = match["value"] if match["quote"] else match["value"].rstrip(".?。！？")
                if _is_secret(value, short, word, match["quote"] is not None):
                    yield Finding("key", match.start("value"), match.start("value") + len(value))
            place = text.find(word, place + 1)


def _is_secret(value: str, short: bool, word: str, quoted: bool) -> bool:
    """Whether what stands after 'password =' is a secret and not a variable, a placeholder or prose."""
    if not value.isascii() or value.startswith(("$", "%", "*", "/", "http", "<", "&", "=", "\\")) or "..." in value:
        return False
    if re.search(r"(?i)your|example|placeholder|^x+$|xxxx|changeme|none|null|secret|token|passw|\*\*", value):
        return False
    kinds = sum(bool(re.search(kind, value)) for kind in ("[a-z]", "[A-Z]", "[0-9]", r"[^A-Za-z0-9_.\-]"))
    digits = sum(map(str.isdigit, value))
    if short:
        if not quoted and re.fullmatch(r"[A-Za-z_][A-Za-z_.]*[0-9]?", value):
            return False
        return kinds >= 2 and (digits > 0 or kinds >= 3) if not value.isdigit() else word in ("密码", "口令")
    return len(value) >= 16 and digits > 1 and kinds >= 2 and _entropy(value) >= 3.0


def _entropy(value: str) -> float:
    """Bits a character."""
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)


def _passports(text: str) -> Iterator[Finding]:
    for word in ("护照", "assport", "ASSPORT", "通行证"):
        place = text.find(word)
        while place >= 0:
            match = _PASSPORT.search(text, place, place + 40)
            if match:
                yield Finding("passport", *match.span())
            place = text.find(word, place + 1)


def _plates(text: str) -> Iterator[Finding]:
    for match in _PLATE.finditer(text) if not text.isascii() else ():
        yield Finding("plate", *match.span())


def _names(text: str) -> Iterator[Finding]:
    for match in _NAME.finditer(text):
        yield Finding("name", *match.span("en" if match["en"] else "zh"))


_FINDERS: dict[Kind, Callable[[str], Iterator[Finding]]] = {
    "email": _emails,
    "phone": find_phones,
    "id_card": find_id_cards,
    "bank_card": find_bank_cards,
    "passport": _passports,
    "plate": _plates,
    "address": find_addresses,
    "ip": _addresses_of_machines,
    "key": _keys,
    "name": _names,
}
