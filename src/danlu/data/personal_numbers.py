"""Finds numbers that belong to a person: Chinese ID cards, bank cards, telephones.

A pattern alone says too little: an order number has as many digits as a bank card. What decides is arithmetic (check
digits, dates, regions, dialling codes), how the digits are grouped, and what stands beside them. All offsets are those of the
text that was given; digits may be full-width, and spaces, hyphens or a line break may stand between them.
"""

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import Literal, NamedTuple

from danlu.core.errors import MissingExtraError

__all__ = ["Finding", "Kind", "find_bank_cards", "find_id_cards", "find_phones", "fold", "is_id_card", "is_luhn"]

Kind = Literal["email", "phone", "id_card", "bank_card", "passport", "plate", "address", "ip", "key", "name"]


class Finding(NamedTuple):
    """text[start:end] is personal data of this kind."""

    kind: Kind
    start: int
    end: int


# One character for one, so that offsets stay: full-width ASCII, mathematical, Arabic-Indic and circled digits.
_FOLD = {
    **{0xFEE0 + code: code for code in range(0x21, 0x7F)},
    **{0x1D7CE + place: 0x30 + place % 10 for place in range(50)},
    **{base + place: 0x30 + place for base in (0x660, 0x6F0) for place in range(10)},
    **{0x2460 + place: 0x31 + place for place in range(9)},
    0x24EA: 0x30,
}
_FOLDABLE = re.compile("[\uff10-\uff19\uff20-\uff3a\uff41-\uff5a\u0660-\u0669\u06f0-\u06f9\u2460-\u2468\u24ea\U0001d7ce-\U0001d7ff]")  # fmt: skip

# What people put between digits; \ufe0f and \u20e3 make a digit a key-cap emoji.
_GAP = r"[ \t\r\n\u00a0\u2000-\u200d\u2010-\u2015\u3000\ufe0f\u20e3.\-·•_]{0,3}"
_ENOUGH = re.compile(rf"[0-9](?:{_GAP}[0-9]){{6}}")
# Each begins with its first character, and only then asks what stands before it: so `re` can skip to the candidates.
_ID = re.compile(rf"[1-8](?<![0-9][0-9])(?:(?:{_GAP}[0-9]){{16}}{_GAP}[0-9Xx]|(?:{_GAP}[0-9]){{14}}(?![0-9]))")
_CARD = re.compile(rf"[1-9](?<![0-9][0-9])(?:{_GAP}[0-9]){{11,18}}")
_MOBILE = re.compile(
    rf"(?:\+{_GAP}86[)）]?{_GAP}1|0(?<![0-9]0)086[)）]?{_GAP}1|8(?<![0-9]8)6[)）]?{_GAP}1|1(?<![0-9]1)){_GAP}[3-9](?:{_GAP}[0-9]){{9}}(?![0-9])"
)
_LANDLINE = re.compile(
    r"(?:\(0|（0|0(?<![0-9]0))(?:10|2[0-9]|[3-9][0-9]{2})[)）]?[ \-\u2010-\u2015\n]{0,2}[2-8][0-9]{2,3}[ \-\n]?[0-9]{4}(?![0-9])"
    r"(?:(?: ?(?:转|ext\.?|x|分机) ?|-)[0-9]{1,5}(?![0-9]))?"
)
_SERVICE = re.compile(r"[48](?<![0-9][48])00[ \-](?:[0-9]{3}[ \-][0-9]{4}|[0-9]{4}[ \-][0-9]{3}|[0-9]{7})(?![0-9])")
_PLUS = re.compile(rf"(?:\+{_GAP}|0(?<![0-9]0)0)[1-9](?:[()（）]?{_GAP}[()（）]?[0-9]){{6,14}}(?![0-9])")
_AMERICAN = re.compile(
    r"[(1-9](?<![0-9][(1-9])(?:(?<=1)[ \-.]\(?[2-9][0-9]{2}\)?|(?<=\()[2-9][0-9]{2}\)|(?<=[2-9])[0-9]{2})"
    r"[ \-.\n]{0,2}[2-9][0-9]{2}[ \-.\n]?[0-9]{4}(?![0-9])(?: ?(?:x|ext\.? ?)[0-9]{1,5}(?![0-9]))?"
)
# A telephone that only the word before it gives away; the words' common endings, to be looked for one by one.
_SPEAKING = ("电话", "手机", "座机", "热线", "传真", "联系方式", "Tel", "tel", "TEL", "hone", "HONE", "obile", "OBILE", "Cell", "cell", "Fax", "fax", "FAX", "hatsApp", "hatsapp", "Call", "call", "CALL")  # fmt: skip
_SPOKEN = re.compile(
    r"(?:号码|号|(?: (?:me|us|him|her))?(?:\s?(?:[Nn]umber|[Nn]o\.?))?)(?:[ 　]?(?:是|为|is|at|on))?[ \t.:：=]{0,4}"
    r"(\+?[(（]?[0-9][0-9\-. ()]{5,18}[0-9](?: ?(?:x|ext\.? ?)[0-9]{1,5})?)(?![0-9])"
)
_PHONE_WORD = re.compile(r"(?i:tel|phone|mobile|call|fax|whatsapp)|电话|手机|座机|联系|热线|传真|拨打|致电|微信|短信")

# What makes of a number something else, before it and after it.
_OTHER_WORD = re.compile(
    r"(?i:\b(?:order|invoice|serial|tracking|ticket|version|isbn|issn|sku|doi|part|model|batch|item|ref|case|patent|"
    r"transaction|commit|hash|timestamp|barcode|upc|ean|asin|qq|uid|id(?!\s?(?:card|num))|no|nr|seed|offset|row)\b|_id\b|_no\b)"
    r"|订单|单号|编号|编码|流水|货号|型号|版本|发票|批号|快递|运单|条码|学号|工号|准考证|专利|序列|时间戳|案号|商品|物流|约等于"
)
_UNIT = re.compile(
    r"[ \t]*(?:[*×÷^%‰€]|=[=\s]|[+\-/] ?[0-9(]|元|美元|块钱|万|亿|千克|公斤|kg\b|km\b|bytes?\b|字节|次|人|条|个|米|吨|年|倍"
    r"|dollars|yuan|USD|RMB|people|users|[KMG]B\b)"
)
_MATHS = re.compile(r"(?:[*×÷^<>≈≥≤$¥￥€£#∑√]|[0-9)\s]=|[0-9)]\s?[+/]|\s[+/])[ \t]*$")
_ID_WORD = re.compile(r"身份证|证件|(?i:id.?card|identity|身份号)")
_CARD_WORD = re.compile(r"卡号|银行|账号|账户|账 号|(?i:card|visa|amex|account|bank)")
_ENDS_IN_DIGIT = re.compile(rf"[0-9]{_GAP}$")
_ONE_MORE = re.compile(rf"{_GAP}[0-9](?![0-9])")
_NOT_DIGIT = re.compile(r"[^0-9Xx]+")
_LOOK_BACK = 30  # characters before a number in which a word tells what it is

_PROVINCES = frozenset(
    [*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71, 81, 82, 83]
)
# Groups of digits as people write them; `1` stands for digits one by one.
_MOBILE_SHAPES = {(11,), (3, 4, 4), (3, 8), (7, 4), (4, 4, 3), (3, 3, 5), (5, 6), (4, 3, 4), (6, 5)}
_CARD_SHAPES = {(4, 4, 4, 4), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 4, 4, 7), (4, 6, 5), (4, 6, 4), (6, 13), (6, 10), (6, 4, 4, 4, 1), (4, 4, 4, 3), (3, 3, 3, 3, 3)}  # fmt: skip
_ID_SHAPES = {(6, 8, 4), (6, 4, 4, 4), (3, 3, 4, 4, 4), (6, 12), (14, 4), (6, 4, 2, 2, 4), (3, 3, 8, 4), (6, 6, 6), (4, 4, 4, 4, 2), (6, 6, 3), (3, 3, 3, 3, 3, 3)}  # fmt: skip
_ID_SHAPES |= {(10, 8), (9, 9), (8, 10), (12, 6), (3, 3, 4, 8), (6, 8, 3, 1), (6, 2, 2, 2, 3)}


def fold(text: str) -> str:
    """The text with digits, letters and signs in their ASCII form; of the same length."""
    return text if text.isascii() or not _FOLDABLE.search(text) else text.translate(_FOLD)


# lesson: check-digits
def is_id_card(number: str) -> bool:
    """Whether 18 characters (or the 15 of cards before 1999, which bear no check digit) can be a Chinese ID card.

    GB 11643: six digits of region, a date of birth, three of sequence, and a check character after ISO 7064 MOD 11-2:
    the sum of digit times 2^(17 - place), X counting as 10, is 1 modulo 11.
    """
    if len(number) not in (15, 18) or int(number[:2]) not in _PROVINCES:
        return False
    born = number[6:14] if len(number) == 18 else "19" + number[6:12]
    try:
        birthday = date(int(born[:4]), int(born[4:6]), int(born[6:]))
    except ValueError:
        return False
    if not date(1880, 1, 1) <= birthday <= date(2100, 1, 1):
        return False
    if len(number) == 15:
        return number.isdigit()
    values = [10 if character in "Xx" else int(character) for character in number]
    return sum(value * pow(2, 17 - place, 11) for place, value in enumerate(values)) % 11 == 1


def is_luhn(number: str) -> bool:
    """The check digit of bank cards (ISO/IEC 7812): from the right, every second digit counts double, 16 as 1 + 6."""
    digits = [int(character) for character in reversed(number)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


# end lesson


def find_id_cards(text: str) -> Iterator[Finding]:
    """`text` is folded."""
    if not _ENOUGH.search(text):
        return
    for match in _walk(_ID, text):
        raw = match.group()
        number = _NOT_DIGIT.sub("", raw)
        if not is_id_card(number) or not _apart(text, *match.span()) or not _grouped(raw, _ID_SHAPES):
            continue
        # Without a check digit one number in a hundred looks like a card: the context must not speak against it.
        if not _alone(text, match) or (len(number) == 15 and not _means_id(text, match.start(), number)):
            continue
        yield Finding("id_card", *match.span())


def find_bank_cards(text: str) -> Iterator[Finding]:
    """`text` is folded."""
    if not _ENOUGH.search(text):
        return
    for match in _walk(_CARD, text):
        raw = match.group()
        digits = [place for place, character in enumerate(raw) if character.isdigit()]
        named = _CARD_WORD.search(text[max(0, match.start() - 12) : match.start()]) is not None
        for size in range(len(digits), 11, -1):
            end = digits[size - 1] + 1
            if raw[end : end + 1].isdigit() or (size == len(digits) and text[match.end() : match.end() + 1].isdigit()):
                continue
            part = raw[:end]
            if size < len(digits) and set(_groups(raw)) == {1}:
                break  # a part of digits that stand one by one is no number
            number = _NOT_DIGIT.sub("", part)
            if not (
                (_issuer(number) or named) and is_luhn(number) and _grouped(part, _CARD_SHAPES) and len(set(number)) > 1
            ):
                continue
            start, stop = match.start(), match.start() + end
            if not _apart(text, start, stop) or _context(text, start) == "other" or not _alone(text, match):
                continue
            if not _may_be_id(number) and not (is_id_card(number) and _means_id(text, start, number)):
                yield Finding("bank_card", start, stop)
                break


def find_phones(text: str) -> Iterator[Finding]:
    """`text` is folded. What overlaps is found more than once."""
    if _ENOUGH.search(text):
        yield from _chinese_phones(text)
        yield from _world_phones(text)
        yield from _spoken_phones(text)


def _chinese_phones(text: str) -> Iterator[Finding]:
    for match in _walk(_MOBILE, text):
        digits = re.sub(r"[^0-9]+", "", match.group())
        raw = match.group()[_place_of_digit(match.group(), len(digits) - 11) :]
        if not _grouped(raw, _MOBILE_SHAPES) or len(set(digits[-9:])) == 1:
            continue
        if _plausible(text, *match.span()) and _alone(text, match):
            yield Finding("phone", *match.span())
    for pattern in (_LANDLINE, _SERVICE):
        for match in _walk(pattern, text):
            if _plausible(text, *match.span()) and len(set(re.sub(r"[^0-9]", "", match.group()))) > 3:
                yield Finding("phone", *match.span())


def _world_phones(text: str) -> Iterator[Finding]:
    for match in _walk(_PLUS, text):
        raw = match.group()
        if re.search(r"\.[0-9]{1,2}$", raw) or raw.count("\n") > 1:
            continue  # +12345678.9 is a sum of money
        if raw[0] == "+" or re.search("[ -]", raw) or _context(text, match.start()) == "phone":
            number = raw if raw[0] == "+" else "+" + raw[2:]
            if _plausible(text, *match.span()) and _dialled(_unbroken(number), None):
                yield Finding("phone", *match.span())
    for match in _walk(_AMERICAN, text):
        context = _context(text, match.start())
        written = re.search(r"[^0-9]", match.group()) is not None
        meant = context == "phone" or (context != "other" and written and _apart(text, *match.span()))
        if meant and _dialled(_unbroken(match.group()), "US"):
            yield Finding("phone", *match.span())


def _spoken_phones(text: str) -> Iterator[Finding]:
    for word in _SPEAKING:
        place = text.find(word)
        while place >= 0:
            match = _SPOKEN.match(text, place + len(word))
            if match and 7 <= sum(map(str.isdigit, match.group(1))) <= 16 and not _UNIT.match(text, match.end()):
                yield Finding("phone", *match.span(1))
            place = text.find(word, place + 1)


def _walk(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """All matches, also those that begin within another: whether the first one holds is not known here."""
    match = pattern.search(text)
    while match:
        yield match
        match = pattern.search(text, match.start() + 1)


def _groups(raw: str) -> tuple[int, ...]:
    return tuple(len(part) for part in _NOT_DIGIT.split(raw) if part)


def _grouped(raw: str, shapes: set[tuple[int, ...]]) -> bool:
    """Digits in one piece, one by one, or in groups that people use; one line break may cut them anywhere."""
    ways = [raw]
    if "\n" in raw:
        if raw.count("\n") > 1:
            return False
        ways.append(re.sub(r"[\-\u2010]?[ \t]*\r?\n[ \t]*", "", raw))
    for way in ways:
        found = _groups(way)
        if len(found) == 1 or found in shapes or set(found[:-1]) == {1}:
            return True
    return False


def _apart(text: str, start: int, end: int) -> bool:
    """Whether the number stands by itself: not part of a word, a decimal, a path or a sum."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    last = before[-1:]
    if last.isascii() and (last.isalpha() or last == "_") and not _PHONE_WORD.search(text[max(0, start - 9) : start]):
        return False
    if last in ("/", "-", ".", ",", ":", "_") and before[:-1].isascii() and before[:-1].isalnum():
        known = last in ":/" and (before[0].isalpha() or re.search(r"[0-9]{7}$", text[max(0, start - 12) : start - 1]))
        if not known or (last == "/" and before[0].isalpha()):
            return False
    if after[:1].isascii() and (after[:1].isalnum() or after[:1] == "_"):
        return False
    if after[:1] in (".", ",") and after[1:].isdigit():
        return False
    if after[:1] == "-" and after[1:].isascii() and after[1:].isalnum():
        return False
    return not _UNIT.match(text, end) and not _MATHS.search(text[max(0, start - 6) : start])


def _alone(text: str, match: re.Match[str]) -> bool:
    """Digits that stand one by one must not be a part of a longer such row."""
    if set(_groups(match.group())) != {1}:
        return True
    return not (
        _ENDS_IN_DIGIT.search(text[max(0, match.start() - 4) : match.start()]) or _ONE_MORE.match(text, match.end())
    )


def _means_id(text: str, start: int, number: str) -> bool:
    """Whether 15 digits, which bear no check digit, are an ID card: by the nearest word, else if no bank issues such a card."""
    window = text[max(0, start - _LOOK_BACK) : start] + text[start + len(number) : start + len(number) + 8]
    card = max((match.end() for match in _CARD_WORD.finditer(window)), default=0)
    if identity := max((match.end() for match in _ID_WORD.finditer(window)), default=0):
        return identity >= card
    return not card and _context(text, start) != "other" and not (_issuer(number) and is_luhn(number))


def _context(text: str, start: int) -> str:
    """'phone' or 'other' by the nearest word before the number, '' when there is none."""
    window = text[max(0, start - _LOOK_BACK) : start]
    window = re.split(r"[。！？;；]|\n\s*\n|\. (?=[A-Z])", window)[-1]
    phone = max((match.end() for match in _PHONE_WORD.finditer(window)), default=0)
    other = max((match.end() for match in _OTHER_WORD.finditer(window)), default=0)
    return "" if phone == other else "phone" if phone > other else "other"


def _plausible(text: str, start: int, end: int) -> bool:
    return _apart(text, start, end) and _context(text, start) != "other"


def _unbroken(raw: str) -> str:
    return re.sub(r"\s*\n\s*", "", raw)


def _place_of_digit(raw: str, number: int) -> int:
    return [place for place, character in enumerate(raw) if character.isdigit()][number]


def _may_be_id(number: str) -> bool:
    """An ID card with a wrong check digit is no bank card either."""
    return len(number) == 18 and any(is_id_card(number[:17] + last) for last in "0123456789X")


def _issuer(number: str) -> bool:
    """Whether a bank issues cards of this length with this beginning (ISO/IEC 7812; UnionPay and older Chinese ones)."""
    size, two, four = len(number), int(number[:2]), int(number[:4])
    if two == 62 or number[:2] == "81" or four in (9558, 9559, 9400, 6013, 6858):
        return 16 <= size <= 19
    if number[0] == "4":
        return size in (16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720 or 2200 <= four <= 2204:
        return size == 16
    if two in (34, 37):
        return size == 15
    if 3528 <= four <= 3589 or four == 6011 or two in (60, 64, 65):
        return size == 16
    return (two in (36, 38, 39) or 300 <= int(number[:3]) <= 305) and size == 14


@lru_cache(maxsize=4096)
def _dialled(number: str, region: str | None) -> bool:
    """Whether the number can be dialled in the world's numbering plans."""
    try:
        import phonenumbers
    except ImportError:
        raise MissingExtraError("phonenumbers", "data") from None
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False
