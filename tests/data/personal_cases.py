"""Texts with personal data whose places are known, made by rules that know nothing of the finder.

Check digits come from python-stdnum, dialling codes from phonenumbers' metadata. `generated` has the usual ways to write
things and numbers that only look alike; `adversarial` has what people do to hide them, and the nearest look-alikes.
"""

import base64
import random
import string
from collections.abc import Callable
from datetime import date, timedelta
from typing import NamedTuple

import phonenumbers
from stdnum import ean, isbn, luhn
from stdnum.cn import ric

__all__ = ["Case", "adversarial", "generated"]


class Case(NamedTuple):
    """`gold`: (kind, start, end) of each thing to find; `what` names the rule that made the text."""

    text: str
    gold: list[tuple[str, int, int]]
    what: str


Maker = Callable[[random.Random], str]


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def word(rng: random.Random, low: int = 3, high: int = 8) -> str:
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(low, high)))


def token(rng: random.Random, count: int, letters: str = string.ascii_letters + string.digits) -> str:
    return "".join(rng.choice(letters) for _ in range(count))


# What is personal.


def email(rng: random.Random) -> str:
    name = rng.choice([word(rng), f"{word(rng)}.{word(rng)}", f"{word(rng)}{digits(rng, 3)}", digits(rng, 9), f"{word(rng)}_{word(rng)}", f"{word(rng)}+{word(rng)}", word(rng).title() + word(rng).title()])  # fmt: skip
    host = rng.choice(["qq.com", "163.com", "gmail.com", "126.com", "outlook.com", f"{word(rng)}.com.cn", f"mail.{word(rng)}.edu", f"{word(rng)}-{word(rng)}.org", f"{word(rng)}.de", f"{word(rng)}.co.uk", f"{word(rng)}.io"])  # fmt: skip
    return f"{name}@{host}"


def mobile_digits(rng: random.Random) -> str:
    return rng.choice(["130", "131", "135", "136", "138", "139", "145", "150", "152", "156", "158", "159", "166", "171", "176", "177", "180", "185", "187", "188", "189", "191", "198", "199"]) + digits(rng, 8)  # fmt: skip


def mobile(rng: random.Random) -> str:
    number = mobile_digits(rng)
    cut = f"{number[:3]}{{0}}{number[3:7]}{{0}}{number[7:]}"
    return rng.choice(
        [
            number,
            number,
            cut.format("-"),
            cut.format(" "),
            "+86 " + number,
            "+86" + number,
            "+86-" + number,
            "86" + number,
        ]
    )


def landline(rng: random.Random) -> str:
    area, size = rng.choice(
        [
            ("010", 8),
            ("021", 8),
            ("020", 8),
            ("0755", 8),
            ("0571", 8),
            ("028", 8),
            ("0312", 7),
            ("0898", 8),
            ("0931", 7),
        ]
    )
    local = rng.choice("2345678") + digits(rng, size - 1)
    number = rng.choice([f"{area}-{local}", f"{area} {local}", f"({area}){local}", f"（{area}）{local}", f"{area}-{local[:4]}-{local[4:]}" if size == 8 else f"{area}-{local}", area + local])  # fmt: skip
    return number + (rng.choice(["转", "-", " ext. "]) + digits(rng, 3) if rng.random() < 0.15 else "")


def foreign(rng: random.Random) -> str:
    region = rng.choice(
        ["US", "GB", "DE", "FR", "JP", "IN", "AU", "BR", "SG", "KR", "CA", "IT", "ES", "SE", "NL", "HK"]
    )
    kinds = rng.sample([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE], 2)
    samples = [found for kind in kinds if (found := phonenumbers.example_number_for_type(region, kind)) is not None]
    sample = samples[0]
    for _ in range(50):  # another one like the plan's example
        body = str(sample.national_number)
        other = phonenumbers.parse(f"+{sample.country_code}{body[:-4]}{digits(rng, 4)}")
        if phonenumbers.is_valid_number(other):
            sample = other
            break
    form = rng.choice([phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164])
    return phonenumbers.format_number(sample, form)


def american(rng: random.Random) -> str:
    while True:
        number = (
            rng.choice(["212", "310", "415", "617", "702", "206", "312", "713", "650", "404"])
            + rng.choice("23456789")
            + digits(rng, 6)
        )
        if phonenumbers.is_valid_number(phonenumbers.parse(number, "US")):
            break
    a, b, c = number[:3], number[3:6], number[6:]
    return rng.choice([f"({a}) {b}-{c}", f"{a}-{b}-{c}", f"{a}.{b}.{c}", f"1-{a}-{b}-{c}", f"+1 {a} {b} {c}"])


COUNTIES = [
    "110101",
    "110105",
    "310104",
    "440305",
    "330106",
    "320102",
    "510104",
    "420106",
    "610113",
    "370202",
    "210102",
    "230103",
    "350203",
    "410105",
    "430102",
    "500103",
    "450103",
    "530102",
    "650102",
    "130102",
]


def birthday(rng: random.Random) -> date:
    return date(1940, 1, 1) + timedelta(days=rng.randrange(27000))


def id_digits(rng: random.Random) -> str:
    body = rng.choice(COUNTIES) + birthday(rng).strftime("%Y%m%d") + digits(rng, 3)
    return body + ric.calc_check_digit(body + "0")


def id_card(rng: random.Random) -> str:
    number = id_digits(rng)
    if rng.random() < 0.1:
        return rng.choice(COUNTIES) + birthday(rng).strftime("%y%m%d") + digits(rng, 3)
    if rng.random() < 0.15:
        return f"{number[:6]} {number[6:14]} {number[14:]}"
    return number.replace("X", "x") if rng.random() < 0.3 else number


def card_digits(rng: random.Random) -> str:
    start, size = rng.choice([("622202", 19), ("621700", 19), ("622848", 19), ("625965", 16), ("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("37", 15), ("3530", 16), ("6011", 16), ("621226", 19), ("436742", 19)])  # fmt: skip
    body = start + digits(rng, size - len(start) - 1)
    return body + luhn.calc_check_digit(body)


def bank_card(rng: random.Random) -> str:
    number = card_digits(rng)
    if rng.random() < 0.55:
        return number
    if len(number) == 15:
        return f"{number[:4]} {number[4:10]} {number[10:]}"
    return rng.choice(" -").join(number[at : at + 4] for at in range(0, len(number), 4))


def address_zh(rng: random.Random) -> str:
    place = rng.choice(["北京市海淀区", "上海市浦东新区", "广东省深圳市南山区", "浙江省杭州市西湖区", "四川省成都市武侯区", "江苏省南京市鼓楼区", "湖北省武汉市洪山区", "陕西省西安市雁塔区", "内蒙古自治区呼和浩特市新城区", "河北省石家庄市长安区正定县", "杭州市余杭区", "云南省大理白族自治州大理市下关镇"])  # fmt: skip
    road = rng.choice(
        [
            "中关村大街",
            "世纪大道",
            "科技南路",
            "文三路",
            "人民南路四段",
            "珞喻路",
            "小寨东路",
            "建国门外大街",
            "和平里北街",
            "学院路",
            "延安西路",
            "解放巷",
        ]
    )
    end = rng.choice(["", f"{rng.randint(1, 30)}号楼{rng.randint(101, 2505)}室", f"{rng.randint(1, 9)}栋{rng.randint(1, 4)}单元{rng.randint(101, 1808)}室", f"{rng.choice(['阳光', '金色', '万科'])}小区{rng.randint(1, 20)}幢{rng.randint(101, 1808)}室", f"{rng.choice(['国际', '创新', '环球'])}大厦{rng.randint(2, 30)}层"])  # fmt: skip
    return f"{place}{road}{rng.randint(1, 1999)}号{end}"


def address_en(rng: random.Random) -> str:
    street = f"{rng.randint(1, 9999)} {rng.choice(['Maple', 'Oak', 'Washington', 'Park', 'North Main', '5th', 'W 42nd', 'Martin Luther King', 'Elm', 'Sunset', 'St. James'])} {rng.choice(['Street', 'St', 'St.', 'Avenue', 'Ave', 'Road', 'Rd.', 'Boulevard', 'Blvd', 'Lane', 'Drive', 'Dr', 'Court', 'Way', 'Place'])}"  # fmt: skip
    flat = rng.choice(
        [
            "",
            "",
            f", Apt {rng.randint(1, 40)}{rng.choice('ABC')}",
            f" Suite {rng.randint(100, 900)}",
            f" #{rng.randint(1, 99)}",
        ]
    )
    town = rng.choice(
        [
            "",
            ", Springfield, IL 62704",
            ", San Francisco, CA 94107",
            "\nNew York, NY 10018",
            ", Austin, TX 78701-1234",
            ", London SW1A 2AA",
        ]
    )
    return street + flat + town


def ip(rng: random.Random) -> str:
    if rng.random() < 0.2:
        groups = [f"{rng.randrange(0x1000, 0x10000):x}" for _ in range(7)]
        return rng.choice(
            [
                ":".join(["2001", *groups]),
                f"2001:db8:{groups[0]}::{groups[1]}",
                f"fe80::{groups[0]}:{groups[1]}:{groups[2]}:{groups[3]}",
            ]
        )
    return f"{rng.choice([8, 23, 45, 59, 101, 114, 123, 180, 202, 223, 192, 10])}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def key(rng: random.Random) -> str:
    segments = [base64.urlsafe_b64encode(rng.randbytes(size)).decode().rstrip("=") for size in (24, 32)]
    return rng.choice([
        "AKIA" + token(rng, 16, string.ascii_uppercase + "234567"), "ghp_" + token(rng, 36), "sk-" + token(rng, 48), "sk-proj-" + token(rng, 60),
        "github_pat_" + token(rng, 22) + "_" + token(rng, 59), "xoxb-" + digits(rng, 11) + "-" + token(rng, 24), "AIza" + token(rng, 35), "hf_" + token(rng, 34),
        "eyJhbGciOiJIUzI1NiJ9.eyJ" + segments[0] + "." + segments[1], "glpat-" + token(rng, 20),
        "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(token(rng, 64) for _ in range(4)) + "\n-----END RSA PRIVATE KEY-----",
    ])  # fmt: skip


def password(rng: random.Random) -> str:
    return word(rng, 4, 7).title() + digits(rng, 3) + rng.choice("!#%^~")


CONTEXTS: dict[str, list[str]] = {
    "email": [
        "请发邮件到{}，谢谢。",
        "Contact: {}",
        "邮箱：{}；",
        "Please write to {} by Friday.",
        "From: Li <{}>",
        "mailto:{}",
        "投稿信箱{}（长期有效）",
        '{{"mail": "{}"}}',
    ],
    "phone": [
        "我的手机是{}，有事打给我。",
        "联系电话：{}",
        "Tel: {}",
        "Call me at {} tonight.",
        "张先生 {} 随时联系",
        "电话{}。",
        "phone={}",
        "微信同号 {}\n谢谢",
        "My number is {}.",
    ],
    "id_card": [
        "身份证号：{}",
        "身份证号码为{}，请核实。",
        "ID card {}",
        "证件号 {}，姓名略",
        "他的身份证是{}。",
        '"idcard": "{}"',
    ],
    "bank_card": [
        "银行卡号：{}",
        "请转到{}这个账户",
        "card number {}",
        "卡号{}，开户行工商银行",
        "Visa {} exp 09/27",
        "收款账号 {}",
    ],
    "address": [
        "我住在{}。",
        "地址：{}",
        "Address: {}",
        "寄到{}，收件人略",
        "请送至{}",
        "She lives at {}.",
        "公司位于{}，欢迎来访",
    ],
    "ip": [
        "登录 IP：{}",
        "Failed password for root from {} port 22",
        "来自 {} 的请求",
        "ping {}",
        "client {} connected",
        "服务器地址是{}。",
    ],
    "key": [
        'api_key = "{}"',
        "token: {}",
        "密钥是 {} ，不要外传",
        "export KEY={}",
        "my key is {}",
        "Authorization: Bearer {}",
    ],
    "password": ['password = "{}"', "密码：{}", "passwd={}", "pwd: {}"],
}
MAKERS: dict[str, list[Maker]] = {
    "email": [email], "phone": [mobile, mobile, landline, foreign, american], "id_card": [id_card], "bank_card": [bank_card],
    "address": [address_zh, address_zh, address_en], "ip": [ip], "key": [key],
}  # fmt: skip
FILLERS = [
    "今天天气不错，我们去了公园。", "The meeting was moved to next week.", "请大家按时提交材料，逾期不候。", "I think that this is the better of the two ideas.", "春眠不觉晓，处处闻啼鸟。",
    "It took about 45 minutes in total.", "本次活动共有 128 人参加，收入 35,600 元。", "See chapter 12, page 345.", "", "",
]  # fmt: skip


# What only looks so: nothing is to be found.


def bad_id(rng: random.Random) -> str:
    number = id_digits(rng)
    return number[:17] + rng.choice([last for last in "0123456789X" if last != number[17]])


def bad_card(rng: random.Random) -> str:
    number = card_digits(rng)
    return number[:-1] + str((int(number[-1]) + rng.randint(1, 9)) % 10)


def bad_date(rng: random.Random) -> str:
    body = (
        rng.choice(COUNTIES) + f"{rng.randint(1950, 2005)}{rng.randint(13, 99)}{rng.randint(10, 28)}" + digits(rng, 3)
    )
    return body + ric.calc_check_digit(body + "0")


def isbn_digits(rng: random.Random) -> str:
    body = "9787" + digits(rng, 8)
    return body + ean.calc_check_digit(body)


def hex_digits(rng: random.Random, count: int) -> str:
    return token(rng, count, "0123456789abcdef")


NOTHING: dict[str, Callable[[random.Random], str]] = {
    "id off by one": lambda r: f"身份证号 {bad_id(r)}",
    "id with no such day": lambda r: f"号码{bad_date(r)}。",
    "card off by one": lambda r: f"卡号：{bad_card(r)}",
    "order number": lambda r: f"订单号：{r.choice(['', 'SN', 'DD'])}{digits(r, r.choice([10, 12, 14, 16, 20]))}",
    "order like a phone": lambda r: f"{r.choice(['订单编号', 'Order', 'order no.', '运单号', '快递单号'])} {mobile_digits(r)}",
    "dated order": lambda r: f"订单 2024{r.randint(10, 12)}{r.randint(10, 28)}{digits(r, r.choice([4, 6, 8]))} 已发货",
    "version": lambda r: f"{r.choice(['version', 'v', '版本', 'Python', 'build', 'Chrome/'])}{r.choice(['', ' '])}{r.randint(1, 120)}.{r.randint(0, 30)}.{r.randint(0, 9)}{r.choice(['', '.' + str(r.randint(0, 200))])}",
    "date": lambda r: f"{r.randint(1990, 2030)}-{r.randint(1, 12):02}-{r.randint(1, 28):02} {r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}",
    "compact date": lambda r: f"log_{r.randint(1990, 2030)}{r.randint(1, 12):02}{r.randint(1, 28):02}{digits(r, 6)}.txt",
    "isbn": lambda r: f"ISBN {r.choice([isbn.format, str])(isbn_digits(r))}",
    "price": lambda r: f"{r.choice('$¥€£')}{r.randint(1000, 99999)}.{digits(r, 2)} / {r.randint(1, 99)},{digits(r, 3)},{digits(r, 3)} 元",
    "sha1": lambda r: f"commit {hex_digits(r, 40)}",
    "md5": lambda r: f"md5sum {hex_digits(r, 32)}  file.tar.gz",
    "uuid": lambda r: f"id: {hex_digits(r, 8)}-{hex_digits(r, 4)}-4{hex_digits(r, 3)}-a{hex_digits(r, 3)}-{hex_digits(r, 12)}",
    "math": lambda r: f"{digits(r, 5)} + {digits(r, 6)} = {digits(r, 6)}, {mobile_digits(r)} * {r.randint(2, 9)}",
    "decimal": lambda r: f"π ≈ 3.{digits(r, 15)}, x = 0.{digits(r, 11)}",
    "amount": lambda r: f"共计1{r.randint(3, 9)}{digits(r, 9)}元",
    "code": lambda r: f"@app.route('/{word(r)}')\ndef {word(r)}(self): return self.{word(r)} @ self.weights.T",
    "scoped package": lambda r: f"npm install @{word(r)}/{word(r)}@{r.randint(1, 20)}.{r.randint(0, 9)}.{r.randint(0, 9)}",
    "picture name": lambda r: f"<img src=\"{word(r)}@2x.png\">",
    "password in code": lambda r: r.choice(["password = getpass.getpass()", "token = tokens[0]", "def login(user, password=None):", "password: str", "if token == 'secret':", "密码：请联系管理员", "api_key = os.environ['API_KEY']", "self.password = password", "password = \"your_password\""]),
    "time of machine": lambda r: f"MAC {':'.join(hex_digits(r, 2) for _ in range(6))} at {r.randint(0, 23)}:{r.randint(10, 59)}:{r.randint(10, 59)}",
    "loopback": lambda r: r.choice(["listen on 127.0.0.1:8080", "bind 0.0.0.0", "netmask 255.255.255.0", "std::vector<int>::iterator", "x[::2]", "a[1::3] = b[:5:]"]),
    "at in prose": lambda r: r.choice(["We met at noon dot on time.", "look at example.com for more", "She works at the company. Next day", "at last he dotted the i", "follow @" + word(r) + " today"]),
    "road without a number": lambda r: r.choice(["他沿着中山路走了很久。", "乘地铁2号线到人民广场站下车", "第3号文件已经下发", "5号早上在学校门口集合", "They went down the Main Street again.", "in 1961 Wall Street firms made money", "他在路上走了3个小时", "一号教学楼旁边有一条街"]),
    "phone too long": lambda r: f"流水 1{r.randint(3, 9)}{digits(r, 10)}{digits(r, r.randint(1, 3))}",
    "sequence": lambda r: " ".join(str(n) for n in range(r.randint(1, 9), r.randint(12, 30))),
    "table": lambda r: "\n".join(f"{r.randint(1, 999)}\t{r.random():.3f}\t{r.randint(100, 99999)}" for _ in range(4)),
    "timestamp": lambda r: f"timestamp={r.randint(1500000000, 1760000000)}{r.choice(['', digits(r, 3)])}",
    "stock": lambda r: f"股票代码 {r.choice(['600', '000', '300'])}{digits(r, 3)}，成交量 {r.randint(1, 99)}{digits(r, 6)} 股",
    "ratio": lambda r: f"比分 3-1，赛程 {r.randint(1, 9)}-{r.randint(1, 9)}-{r.randint(1, 9)}，编号 A-{digits(r, 4)}-{digits(r, 4)}",
    "year range": lambda r: f"({r.randint(1900, 1950)}-{r.randint(1951, 1999)}), pp. {r.randint(100, 400)}-{r.randint(401, 800)}",
}  # fmt: skip


def generated(seed: int, count: int = 2000) -> list[Case]:
    """Sentences with one to three things to find, or (four in ten) with look-alikes only."""
    rng = random.Random(f"generated {seed}")
    return [_nothing(rng) if rng.random() < 0.4 else _something(rng) for _ in range(count)]


def adversarial(seed: int, count: int = 300) -> list[Case]:
    """Full-width digits, gaps, line breaks, disguises; and, four in ten, the same done to look-alikes."""
    rng = random.Random(f"adversarial {seed}")
    return [_hidden(rng) if rng.random() < 0.6 else _nothing(rng, disguise=True) for _ in range(count)]


def _something(rng: random.Random) -> Case:
    text, gold, names = rng.choice(FILLERS), [], []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kind = rng.choice([*MAKERS, *MAKERS, "password"])
        value = password(rng) if kind == "password" else rng.choice(MAKERS[kind])(rng)
        before, after = rng.choice(CONTEXTS[kind]).format("\0").split("\0")
        text += before
        gold.append((("key" if kind == "password" else kind), len(text), len(text) + len(value)))
        text += value + after + rng.choice(["\n", " ", "\n"]) + rng.choice(FILLERS)
        names.append(kind)
    return Case(text, gold, "+".join(names))


def _nothing(rng: random.Random, disguise: bool = False) -> Case:
    what = rng.choice(list(NOTHING))
    text = NOTHING[what](rng)
    if (
        disguise
        and rng.random() < 0.5
        and what in ("id off by one", "card off by one", "id with no such day", "order like a phone")
    ):
        text = wide(rng, text) if rng.random() < 0.5 else spaced(rng, text)
    return Case(
        rng.choice(FILLERS) + rng.choice(["", "\n"]) + text + rng.choice(["", "。", "\n", " "]) + rng.choice(FILLERS),
        [],
        what,
    )


def wide(_rng: random.Random, text: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if one.isdigit() or one in "Xx@." else one for one in text)


def spaced(rng: random.Random, text: str) -> str:
    """A gap after each of the digits."""
    gap = rng.choice([" ", "-", "\u3000", "\u200b", "."])
    out = [one + (gap if one.isdigit() and text[at + 1 : at + 2].isdigit() else "") for at, one in enumerate(text)]
    return "".join(out)


def grouped(rng: random.Random, text: str) -> str:
    size = 4 if len(text) in (16, 19) else 3 if len(text) == 15 else {18: 6}.get(len(text), 4)
    head = 3 if len(text) == 11 else size
    gap = rng.choice([" ", "-", "\u00a0", "–", "·", "  "])
    return gap.join([text[:head], *(text[at : at + size] for at in range(head, len(text), size))])


def broken(rng: random.Random, text: str) -> str:
    at = rng.randint(2, len(text) - 2)
    return text[:at] + rng.choice(["\n", "\r\n", "-\n", " \n"]) + text[at:]


def mathematical(rng: random.Random, text: str) -> str:
    base = rng.choice([0x1D7CE, 0x1D7D8, 0x1D7EC, 0x1D7F6])
    return "".join(chr(base + int(one)) if one.isdigit() else one for one in text)


def obfuscated(rng: random.Random) -> str:
    name, host = email(rng).split("@")
    style = rng.choice(
        [
            "{n} at {d}",
            "{n}(at){h}",
            "{n}[at]{h}",
            "{n} [at] {h}",
            "{n}(AT){d2}",
            "{n} (at) {d}",
            "{n}＠{h}",
            "{n}{{at}}{h}",
            "{n} AT {D}",
            "{n}@\n{h}",
        ]
    )
    return style.format(
        n=name, h=host, d=host.replace(".", " dot "), d2=host.replace(".", "(dot)"), D=host.replace(".", " DOT ")
    )


def _hidden(rng: random.Random) -> Case:
    kind = rng.choice(
        ["phone", "id_card", "bank_card", "email", "phone", "id_card", "bank_card", "address", "ip", "key"]
    )
    if kind == "email":
        value, way = obfuscated(rng), "disguise"
    elif kind in ("phone", "id_card", "bank_card"):
        plain = {"phone": mobile_digits, "id_card": id_digits, "bank_card": card_digits}[kind](rng)
        change = rng.choice([wide, spaced, grouped, broken, mathematical])
        value, way = change(rng, plain), change.__name__
    elif kind == "address":
        plain = address_zh(rng)
        value, way = rng.choice(
            [
                (wide(rng, plain), "wide"),
                (plain.replace("路", "路 ", 1), "gap"),
                (plain.replace("区", "区\n", 1), "broken"),
                (plain.replace("市", "市 ").replace("区", "区 "), "gaps"),
            ]
        )
    elif kind == "ip":
        plain = (
            f"{rng.choice([45, 114, 202])}.{rng.randrange(100, 256)}.{rng.randrange(100, 256)}.{rng.randrange(10, 255)}"
        )
        value, way = rng.choice([(wide(rng, plain), "wide"), (plain.replace(".", " . "), "gaps")])
    else:
        value, way = wide(rng, "sk-" + token(rng, 32) + "7"), "wide"
    contexts = [one for one in CONTEXTS[kind] if one not in ("phone={}", "Authorization: Bearer {}")]
    before, after = rng.choice(contexts).format("\0").split("\0")
    head = rng.choice(FILLERS) + before
    return Case(
        head + value + after + rng.choice(["\n", " "]) + rng.choice(FILLERS),
        [(kind, len(head), len(head) + len(value))],
        f"{kind}: {way}",
    )
