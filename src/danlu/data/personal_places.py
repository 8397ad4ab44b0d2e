"""Finds postal addresses: Chinese ones down to a house number, English ones from a house number on."""

import re
from collections.abc import Iterator

from danlu.data.personal_numbers import Finding

__all__ = ["find_addresses"]

_PROVINCE_NAMES = [
    "北京",
    "天津",
    "上海",
    "重庆",
    "河北",
    "山西",
    "辽宁",
    "吉林",
    "黑龙江",
    "江苏",
    "浙江",
    "安徽",
    "福建",
    "江西",
    "山东",
    "河南",
    "湖北",
    "湖南",
    "广东",
    "海南",
    "四川",
    "贵州",
    "云南",
    "陕西",
    "甘肃",
    "青海",
    "台湾",
    "内蒙古",
    "广西",
    "西藏",
    "宁夏",
    "新疆",
    "香港",
    "澳门",
]
_CITY_NAMES = [
    "广州",
    "深圳",
    "珠海",
    "汕头",
    "佛山",
    "东莞",
    "中山",
    "惠州",
    "江门",
    "湛江",
    "杭州",
    "宁波",
    "温州",
    "嘉兴",
    "湖州",
    "绍兴",
    "金华",
    "台州",
    "南京",
    "苏州",
    "无锡",
    "常州",
    "南通",
    "扬州",
    "徐州",
    "镇江",
    "盐城",
    "泰州",
    "成都",
    "绵阳",
    "德阳",
    "宜宾",
    "泸州",
    "武汉",
    "宜昌",
    "襄阳",
    "荆州",
    "长沙",
    "株洲",
    "湘潭",
    "岳阳",
    "衡阳",
    "西安",
    "咸阳",
    "宝鸡",
    "郑州",
    "洛阳",
    "开封",
    "南阳",
    "新乡",
    "济南",
    "青岛",
    "烟台",
    "潍坊",
    "淄博",
    "临沂",
    "济宁",
    "威海",
    "沈阳",
    "大连",
    "鞍山",
    "长春",
    "哈尔滨",
    "大庆",
    "石家庄",
    "唐山",
    "保定",
    "邯郸",
    "秦皇岛",
    "太原",
    "大同",
    "合肥",
    "芜湖",
    "福州",
    "厦门",
    "泉州",
    "漳州",
    "南昌",
    "九江",
    "赣州",
    "南宁",
    "桂林",
    "柳州",
    "海口",
    "三亚",
    "贵阳",
    "遵义",
    "昆明",
    "大理",
    "丽江",
    "兰州",
    "西宁",
    "银川",
    "乌鲁木齐",
    "拉萨",
    "呼和浩特",
    "包头",
    "义乌",
    "昆山",
]
_NUMBER = r"[0-9一二三四五六七八九十百零〇]{1,5}(?:[\-—~/][0-9]{1,4})?[A-Za-z]?"
# The smallest thing with a number: 中山路12号, 二期3号楼, 万柳小区5栋.
_ANCHOR = re.compile(
    rf"(?P<place>[路街道巷弄同里村庄园苑城区镇厦场期寓座府湾段屯组])(?P<gap>\s?(?:(?:[东南西北中]|{_NUMBER})段)?\s?)"
    rf"(?P<number>{_NUMBER})\s?(?P<mark>号院|号楼|号|弄|巷|栋|幢|单元|座|组)(?![线文机车令码召称公船舰台选角位方股航])"
)
_ROADS = "路街道巷弄同段"
_TAIL = re.compile(
    rf"(?:[ \t,，\n]?(?:[\u4e00-\u9fff]{{2,10}}?(?:大厦|大楼|广场|小区|花园|公寓|中心|家园|园区|学校|大学|医院|新村|国际|苑)\s?)?"
    rf"(?:[A-Za-z]?{_NUMBER}|[A-Za-z])\s?(?:号院|号楼|号|弄|栋|幢|座|单元|层|楼|室|户|房|门)(?![线文机车令]))+"
    rf"(?:[A-Za-z]?[0-9]{{2,4}}(?![0-9])室?)?"
    rf"|[ \t]?[\u4e00-\u9fff]{{2,10}}?(?:大厦|大楼|广场|小区|花园|公寓|中心|家园)"
)
_BREAK = re.compile(r"[，。、；：！？,;:!?\"“”‘’（）()《》<>【】\[\]|=\t]|[^\u4e00-\u9fff]\n|\n\s*\n")
_KNOWN = re.compile(
    rf"(?:{'|'.join(_PROVINCE_NAMES)})(?:省|市|壮族自治区|回族自治区|维吾尔自治区|自治区|特别行政区)?|(?:{'|'.join(_CITY_NAMES)})市?"
)
_LEAD = re.compile(
    r"在|到|位于|寄至|送至|前往|是|的|址|住|经过|发往|寄给|抵达|离开|来自|回了|为(?=[\u4e00-\u9fff]{2})|[了着把]"
)
_ADMIN = re.compile(r"[\u4e00-\u9fff]{2,}?[省市县区州镇乡]")
_REACH = 45  # characters before the number in which an address may begin

_WAYS = [
    "Street",
    "St",
    "Avenue",
    "Ave",
    "Road",
    "Rd",
    "Boulevard",
    "Blvd",
    "Lane",
    "Ln",
    "Drive",
    "Dr",
    "Court",
    "Ct",
    "Way",
    "Place",
    "Pl",
    "Terrace",
    "Square",
    "Sq",
    "Highway",
    "Hwy",
    "Parkway",
    "Pkwy",
    "Circle",
    "Cir",
    "Trail",
    "Crescent",
    "Close",
    "Gardens",
    "Row",
    "Alley",
    "Broadway",
    "Walk",
    "Mews",
    "Plaza",
    "Loop",
    "Hill",
]
_STREET = re.compile(
    rf"[0-9](?<![\w.,$£€#/\-][0-9])[0-9]{{0,4}}(?:-[0-9]{{1,4}})?[A-Za-z]?,?[ \n](?:(?:[NSEW]{{1,2}}\.?|North|South|East|West)[ \n])?"
    rf"(?:(?:(?:[A-Z][A-Za-z'’\-]*\.?|[0-9]{{1,3}}(?:st|nd|rd|th)|of|the|de|la)[ \n]){{1,4}}?(?:{'|'.join(_WAYS)})|Broadway)\b\.?"
    rf"(?:[ ](?:[NSEW]{{1,2}}|North|South|East|West)\b\.?)?",
    re.ASCII,
)
_LOWER = re.compile(
    rf"[0-9](?<![\w.,$£€#/\-][0-9])[0-9]{{0,4}}[a-z]?,?[ \n](?:[a-z0-9'’\-]+\.?[ \n]){{1,3}}?(?:{'|'.join(_WAYS).lower()})\b\.?",
    re.ASCII,
)
_POST_BOX = re.compile(r"\b(?i:p\.?\s?o\.?\s?box)\s?#?[0-9]{1,6}\b", re.ASCII)
_FLAT = re.compile(
    r"[,.]?\s(?:#\s?[0-9]{1,5}[A-Za-z]?|(?i:apt|apartment|suite|ste|unit|floor|fl|flat|room|rm)\.?\s?#?[0-9A-Za-z]{1,5})\b",
    re.ASCII,
)
_ZIP = r"[A-Z]{2},?[ \n]{1,2}[0-9]{5}(?:-[0-9]{4})?\b"
_POSTCODE = r"[A-Z]{1,2}[0-9][0-9A-Z]? ?[0-9][A-Z]{2}\b"
_TOWN = re.compile(
    rf"[,.]?\s{{1,2}}(?:[A-Z][A-Za-z.'’\-]+[ ]){{0,3}}[A-Z][A-Za-z.'’\-]+,?[ \n]{{1,2}}(?:{_ZIP}|{_POSTCODE})"
    rf"|,\s(?:[A-Z][A-Za-z.'’\-]+[ ]){{0,2}}[A-Z][A-Za-z.'’\-]+,\s(?:[A-Z]{{2}}\b(?:[ ][0-9]{{5}}(?:-[0-9]{{4}})?\b)?)"
    rf"|,?\s{_ZIP}|,?\s{_POSTCODE}",
    re.ASCII,
)
# What kind of way it is does not matter when town, state and ZIP code follow.
_ANY_STREET = re.compile(
    rf"[0-9](?<![\w.,$£€#/\-][0-9])[0-9]{{0,5}}[A-Za-z]?[ ](?:[A-Z][A-Za-z'’\-]*\.?[ ]){{0,3}}[A-Z][A-Za-z'’\-]+"
    rf"(?:{_FLAT.pattern})?[,.]?\s{{1,2}}(?:[A-Z][A-Za-z.'’\-]+[ ]){{0,3}}[A-Z][A-Za-z.'’\-]+,?[ \n]{_ZIP}",
    re.ASCII,
)
_LIVES = re.compile(
    r"(?i)(?:address|live[sd]?|living|resid\w*|ship\w*|deliver\w*|mail\w*|send|sent|visit|office)\b[^.\n]{0,20}$"
)
_LIVING = ("ddress", "live", "living", "resid", "ship", "deliver", "mail", "send", "sent", "visit", "office")
_STATE = re.compile(r"[A-Z]{2},? [0-9]{5}")
_YEAR = re.compile(r"(?:1[89]|20)[0-9]{2}$")
_DATED = re.compile(r"(?i)\b(?:in|since|of|by|until|the|after|before|during|from|january|february|march|april|may|june|july|august|september|october|november|december)\s$")  # fmt: skip


def find_addresses(text: str) -> Iterator[Finding]:
    """`text` is folded."""
    yield from _chinese(text)
    yield from _english(text)


def _chinese(text: str) -> Iterator[Finding]:
    if text.isascii() or not any(mark in text for mark in "号弄栋幢座"):
        return
    done = 0
    for match in _ANCHOR.finditer(text):
        if match.start() < done:
            continue
        if match["mark"] == "弄" and not match["number"][0].isascii():
            continue  # 弄一弄
        begin, certain = _begin(text, max(done, match.start() - _REACH), match.end("place"))
        tail = _TAIL.match(text, match.end())
        end = tail.end() if tail else match.end()
        road = match["place"] in _ROADS and match["mark"] in ("号", "号院", "号楼", "弄", "巷")
        rooms = bool(tail) and any(mark in tail.group() for mark in ("室", "单元", "栋", "幢"))
        length = match.end("place") - begin
        if length < 2 or not (certain or (road and length >= 3) or rooms):
            continue
        done = end
        yield Finding("address", begin, end)


def _begin(text: str, lowest: int, end: int) -> tuple[int, bool]:
    """Where the address whose road ends at `end` begins, and whether a province, city or district is named."""
    window = text[lowest:end]
    cut = max((match.end() for match in _BREAK.finditer(window)), default=0)
    window = window[cut:]
    known = [match for match in _KNOWN.finditer(window) if match.end() < len(window)]
    named = [match for match in known if match.group()[-1] in "省市区"] or known
    if named:
        # 山东路 in 上海市山东路5号 is a road: the address begins at the first name, unless a sentence lies between.
        for match in known:
            between = window[match.end() :]
            if not _LEAD.search(between[:-1]) or match is known[-1]:
                begin = match.start()
                return lowest + cut + begin, bool(_ADMIN.search(window[begin:])) or len(known) > 1 or len(between) > 3
    lead = max((match.end() for match in _LEAD.finditer(window[:-2])), default=0)
    window = window[lead:]
    blank = max((match.end() for match in re.finditer(r"\s", window[:-2])), default=0)
    if blank and not _ADMIN.search(window[:blank]):
        lead, window = lead + blank, window[blank:]
    return lowest + cut + lead, bool(_ADMIN.match(window[:-1])) and len(window) > 4


def _english(text: str) -> Iterator[Finding]:
    for match in _POST_BOX.finditer(text) if "ox" in text or "OX" in text else ():
        yield Finding("address", match.start(), _rest(text, match.end()))
    for match in _STREET.finditer(text):
        end = _rest(text, match.end())
        number = re.match(r"[0-9]+", match.group())
        assert number
        bare = end == match.end()
        before = text[max(0, match.start() - 12) : match.start()]
        if bare and (_YEAR.match(number.group()) or len(match.group().split()) < 3) and _dated(before, match.group()):
            continue
        if bare and re.match(r"\s?(?:firms|companies|banks|traders|districts?|cars|miles|people)\b", text[end:]):
            continue
        yield Finding("address", match.start(), end)
    if _STATE.search(text):
        yield from (Finding("address", *match.span()) for match in _ANY_STREET.finditer(text))
    if not any(word in text for word in _LIVING) and not _STATE.search(text):
        return
    for match in _LOWER.finditer(text):
        end = _rest(text, match.end())
        if end > match.end() or _LIVES.search(text[max(0, match.start() - 40) : match.start()]):
            yield Finding("address", match.start(), end)


def _dated(before: str, found: str) -> bool:
    return bool(_DATED.search(before)) or len(found.split()) < 3


def _rest(text: str, end: int) -> int:
    """The end of flat, town and postcode after a street that ends at `end`."""
    for pattern in (_FLAT, _TOWN):
        match = pattern.match(text, end)
        end = match.end() if match else end
    return end
