"""Repairs mojibake: text whose bytes were read in the wrong encoding, found by reading them back.

A repair is made only when three things hold: the characters go back to bytes that are valid in the other encoding (the
round trip), the result looks like writing (every character plausible, the frequent ones of modern Chinese among them),
and the source does not. UTF-8 read as Latin-1 or Windows-1252 is the work of ftfy (Speer 2019); it does not look for
the Chinese cases, which stand here: UTF-8 read as GBK (鐨勪竴), GBK read as Latin-1 (ÖÐ¹ú), Big5 read as GBK.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial

from danlu.core.errors import MissingExtraError

__all__ = ["FREQUENT", "repair_big5", "repair_gbk", "repair_utf8_as_gbk", "repair_with_ftfy"]

# About six hundred of the most frequent characters of modern Chinese, and the traditional forms among them that differ:
# of ordinary prose they make up three quarters, of misread bytes a few in a hundred.
_SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
    "日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员"
    "解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象"
    "完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运笑飞风步改收根干造言联持组每济车亲极林服快办议往元英士证近失转夫令准布始怎呢存未远叫台单影具罗字爱击流备兵连调"
    "深商算质团集百需价花党华城石级整府离况亚请技际约示复病息究线似官火断精满支视消越器容照须九增研写称企八功吗包片史委乎查轻易早曾除农找装广显吧阿李标谈吃图念六引历首医局突专费号尽另周较注语仅考落青随选列"
    "武红响虽推势参希古众构房半节土投某案黑维革划敌致陈律足态护七兴派孩验责营星够章音跟志底站严巴例防族供效续施留讲型料终答紧黄绝奇察母京段依批群项故按河米围江织害斗双境客纪采举杀攻父苏密低朝友诉止细愿千值"
    "胜秘岛岁"
)
_TRADITIONAL = (
    "這個們來為國說時會對於著過發後裡種經麼學現當沒動還進樣開從實軍無與長機關點業將兩間問並應戰頭體見產話內給門兒東聲員論處義幾認條氣題爾別變總電數報結務場計資許統區隊決馬書則聽卻達強難權設記類據邊張該規萬"
    "覺術領確傳師觀讓識帶導爭運飛風幹聯組濟車親極辦議證轉準遠臺單羅愛擊備連調質團價黨華級離況亞請際約復線斷滿視須寫稱嗎輕農裝廣顯標談圖歷醫專費號盡較語僅隨選紅響雖勢參眾構節維劃敵陳態護興驗責營夠嚴續講終緊"
    "黃絕項圍織鬥雙紀採舉殺蘇訴細願勝祕島歲"
)
FREQUENT = frozenset(_SIMPLIFIED + _TRADITIONAL)

_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_PLAUSIBLE = re.compile(
    "[\u00a7\u00a8\u00b0\u00b1\u00b7\u00d7\u00f7\u2010-\u203e\u2100-\u22ff\u2460-\u27bf\u3000-\u30ff\u3400-\u9fff"
    "\uff00-\uffef\U0001f300-\U0001faff\U00020000-\U000323af]+"
)
_HAN = re.compile("[\u3400-\u9fff]")


def _characters(leads: range, trails: range) -> str:
    """The characters of GB18030 with these two bytes."""
    pairs = (bytes([lead, trail]) for lead in leads for trail in trails if trail != 0x7F)
    return "".join(pair.decode("gb18030", "ignore") for pair in pairs)


# How the first two bytes of a CJK character in UTF-8 (E3 81 to EF BF) look as GBK: 鐨, 涓, 鍥; rare in real Chinese.
_SIGNS = re.compile(f"[{re.escape(_characters(range(0xE2, 0xF0), range(0x80, 0xC0)))}]")
_MOST_SIGNS = 0.2  # a third of misread UTF-8 is signs; of real Chinese not one in fifty, of prose one in a thousand
_PROOF = 5  # characters of GBK that are valid UTF-8 by chance: never seen in 60 MB of poems
_LOST = re.compile("(?:锟斤拷){2,}锟?斤?")  # U+FFFD in UTF-8, read as GBK: what stood here is gone


def _frequent(text: str) -> float:
    """Share of frequent characters among the ideographs, 0 when there are none."""
    han = _HAN.findall(text)
    return sum(char in FREQUENT for char in han) / len(han) if han else 0.0


def _plausible(text: str) -> bool:
    """Whether every character outside ASCII is one of Chinese writing, of symbols or of general punctuation."""
    return not _NON_ASCII.search(_PLAUSIBLE.sub("", text).replace("\ufffd", ""))


def repair_utf8_as_gbk(text: str, tally: Counter[str]) -> str:
    """UTF-8 read as GBK, run by run of characters outside ASCII; a lost byte becomes U+FFFD, as does 锟斤拷锟斤拷."""
    if "锟斤拷锟斤拷" in text:
        text = _LOST.sub("\ufffd", text)
        tally["lost"] += 1
    if not _SIGNS.search(text):
        return text
    repaired = _NON_ASCII.sub(partial(_gbk_run, False), text)
    if repaired == text:
        return text
    tally["utf8_as_gbk"] += 1
    return _NON_ASCII.sub(partial(_gbk_run, True), repaired)


def _gbk_run(certain: bool, found: re.Match[str]) -> str:
    """The run read back; where the text is known to be misread (`certain`) a run of few characters is read back too."""
    run = found[0]
    if len(run) < 2 or len(_SIGNS.findall(run)) < _MOST_SIGNS * len(run):
        return run
    # Windows shows the byte 80 as €; other readers cannot place it: before more bytes U+FFFD can be nothing else.
    body = run.rstrip("\ufffd").replace("\ufffd", "€")
    try:
        data = b"".join(b"\x80" if char == "€" else char.encode("gb18030") for char in body)
    except UnicodeEncodeError:
        return run
    decoded = data.decode("utf-8", "replace")
    lost = decoded.count("\ufffd")
    if lost > 1 + len(decoded) // 5 or (len(decoded) == lost and not certain) or not _plausible(decoded):
        return run
    if lost and not certain and len(run) < _PROOF:
        return run
    proven = certain or (lost == 0 and len(run) >= _PROOF)
    return decoded if proven or _frequent(decoded) >= _frequent(run) + 0.2 or not _HAN.search(decoded) else run


_LATIN_RUN = re.compile("(?:[\x81-\xfe][@-~\x80-\xfe])+")
_LONG_LATIN_RUN = re.compile("[\xa1-\xfe]{4}")  # four accented letters in a row are hardly a European word
# An accented letter beside a character that Windows-1252 has in place of a control: UTF-8 read so, ftfy's matter.
_WINDOWS = re.compile("[\xa1-\xfe][ŒœŠšŽžŸƒˆ˜–—‘’‚“”„†‡•…‰‹›€™]|[ŒœŠšŽžŸƒˆ˜–—‘’‚“”„†‡•…‰‹›€™][\xa1-\xfe]")


# lesson: round-trip
def repair_gbk(text: str, tally: Counter[str]) -> str:
    """GBK read as Latin-1: `ÖÐ¹ú` is 中国. All runs together must look like Chinese, then those that can be read are."""
    if not _LONG_LATIN_RUN.search(text) or _WINDOWS.search(text):
        return text
    runs = dict.fromkeys(_LATIN_RUN.findall(text))
    read = {run: decoded for run in runs if (decoded := _decoded(run, "latin-1", "gbk")) and _plausible(decoded)}
    chinese = "".join(read.values())
    if sum(bool(_decoded(run, "latin-1", "utf-8")) for run in runs) > 0.5 * len(runs):
        return text  # UTF-8 read as Latin-1
    if len(read) < 0.8 * len(runs) or len(_HAN.findall(chinese)) < 2 or _frequent(chinese) < 0.3:
        return text
    tally["gbk_as_latin"] += 1
    return _LATIN_RUN.sub(lambda run: read.get(run[0], run[0]), text)


# end lesson


def _decoded(text: str, wrong: str, right: str) -> str:
    try:
        return text.encode(wrong).decode(right)
    except UnicodeError:
        return ""


_BIG5_RUN = re.compile("([^\x00-\x7f\ufffd]+)|\ufffd([@-~]?)")
_BIG5_MARKS = {"A": "，", "C": "。"}  # bytes that GBK does not know; A1 is by far the most likely first of them
_PRIVATE = re.compile("[\ue000-\uf8ff]")  # where GBK has no character; good text has none of these
_HEAD = 500  # characters; a text in the wrong encoding is wrong from its beginning


def repair_big5(text: str, tally: Counter[str]) -> str:
    """Big5 read as GBK, the whole text, only if nearly no frequent character stands in it and many come out.

    GBK has no characters for some bytes of Big5: U+FFFD and a letter stand for them, of which only ， and 。 come back.
    """
    head = text[:_HEAD]
    private = len(_PRIVATE.findall(head))
    if private + len(_HAN.findall(head)) < 8 or (before := _frequent(head)) > 0.2:
        return text
    read: list[str] = []
    for run in _BIG5_RUN.finditer(text):
        decoded = _decoded(run[1], "gb18030", "big5") if run[1] else ""
        if run[1] and not (decoded and _plausible(decoded)):
            return text
        read.append(decoded)
    least = before + 0.1 if private >= 0.1 * len(head) else 0.4
    if _frequent("".join(read)) < least:
        return text
    tally["big5_as_gbk"] += 1
    pieces = iter(read)
    return _BIG5_RUN.sub(lambda run: next(pieces) or _BIG5_MARKS.get(run[2], "\ufffd"), text)


_MAYBE_LATIN = re.compile("[\x80-\u04ff]")


def repair_with_ftfy() -> Callable[[str, Counter[str]], str]:
    """A repair of UTF-8 read as a one-byte encoding, line by line, by ftfy. Raises MissingExtraError."""
    try:
        from ftfy import fix_encoding
    except ImportError:
        raise MissingExtraError("ftfy", "data") from None

    def repair(text: str, tally: Counter[str]) -> str:
        if text.isascii() or not _MAYBE_LATIN.search(text):
            return text
        lines = text.split("\n")
        fixed = [_fixed(line, fix_encoding) if _MAYBE_LATIN.search(line) else line for line in lines]
        if fixed == lines:
            return text
        tally["utf8_as_latin"] += 1
        return "\n".join(fixed)

    return repair


def _fixed(line: str, fix: Callable[[str], str]) -> str:
    """What still looks misread after the repair was misread in another way: better left as it is."""
    fixed = fix(line)
    return line if _LONG_LATIN_RUN.search(fixed) else fixed
