"""Proofs about raw data: files of many kinds, HTML, languages. What is expected is written down here or by other libraries."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

from danlu.data.sources import read_rows
from danlu.data.step import Drop, make_step, step_config

__all__ = ["PROOFS"]

TEXTS = [
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
    "白日依山尽，黄河入海流。\n欲穷千里目，更上一层楼。",
    'A line with "quotes", commas, and a tab\there.',
    "C++ 与 C# 的区别：a < b && c > d",
    "emoji 👩\u200d🚀, accents café naïve, full width ＡＢＣ",
    "  leading blanks and 中文 mixed  ",
]

ARTICLE = [
    "The river rose two metres in the night, and by morning the lower fields of the village stood under water.",
    "“We have seen this before,” said the teacher, who opened her school to thirty families; “in 1954 it was worse.”",
    "如果水位 h 满足 1 < h < 3，闸门就不必打开；否则，值班员须在十分钟内上报，并逐户通知下游居民。",
    "Engineers write the rule as if a < b and c > d: open(gate), which every child in the village can recite by now.",
]
AROUND = ["Skip to content", "Subscribe to our newsletter", "© 2024 Example Media", "var tracker = 1", "分享到微信"]
PAGE = """<!DOCTYPE html><html><head><title>Flood</title><script>{tracker}</script><style>p{{margin:0}}</style></head><body>
<nav><a href="/">Home</a> <a href="/s">{skip}</a></nav><main><article><h1>Flood</h1>{body}</article></main>
<aside><a href="/n">{news}</a> <a href="/w">{share}</a></aside><footer>{footer}</footer></body></html>"""
FRAGMENTS = [
    ("<p>One<br>two</p><p>three</p>", "One two three"),
    ("<div>1 &lt; 2 &amp;&amp; 3 &gt; 2</div>", "1 < 2 && 3 > 2"),
    ("<ul><li>甲</li><li>乙</li></ul>", "- 甲 - 乙"),
    ("<p>H<sub>2</sub>O 与 <b>粗</b>体</p>", "H2O 与 粗体"),
    ("<p>text</p><script>if (a < b) { x() }</script><style>p {}</style>", "text"),
    ("<p>&#x4E2D;&#25991;&nbsp;&eacute;</p>", "中文 é"),
    ("<p title='a > b'>attribute</p>", "attribute"),
    ("if a < b and c > d: swap(a, b)", "if a < b and c > d: swap(a, b)"),
    ("由 1<2 且 3>2，可知 x<y。", "由 1<2 且 3>2，可知 x<y。"),
    ("vector<int> v; std::map<string, int> m;", "vector<int> v; std::map<string, int> m;"),
]

LANGUAGES = {
    "zh": ["今天的会议改到下午三点，请大家准时参加。", "頭髮白了，山上的樹葉也都黃了。", "好"],
    "ja": ["昨日は雨が降っていたので、家で本を読みました。", "この電車は東京駅に止まりますか。"],
    "ko": ["내일 아침에 시장에 가서 사과를 살 거예요.", "이 책은 아주 재미있어요."],
    "en": ["The children walked along the river until it was too dark to see the bridge.", "We have not decided yet what to cook for dinner."],
    "fr": ["Les enfants jouaient dans le jardin pendant que leur mère préparait le dîner.", "Je ne sais pas encore où nous irons cet été."],
    "de": ["Die Kinder spielten im Garten, während ihre Mutter das Abendessen vorbereitete.", "Ich weiß noch nicht, wohin wir diesen Sommer fahren."],
    "es": ["Los niños jugaban en el jardín mientras su madre preparaba la cena.", "Todavía no sé adónde iremos este verano."],
    "it": ["I bambini giocavano nel giardino mentre la madre preparava la cena.", "Non so ancora dove andremo quest'estate."],
    "pt": ["As crianças brincavam no jardim enquanto a mãe preparava o jantar.", "Ainda não sei para onde vamos neste verão."],
    "ru": ["Дети играли в саду, пока их мать готовила ужин.", "Я ещё не знаю, куда мы поедем этим летом."],
    "ar": ["كان الأطفال يلعبون في الحديقة بينما كانت أمهم تحضر العشاء.", "لا أعرف بعد إلى أين سنذهب هذا الصيف."],
    "vi": ["Bọn trẻ chơi trong vườn trong khi mẹ chúng chuẩn bị bữa tối.", "Tôi chưa biết mùa hè này chúng tôi sẽ đi đâu."],
    "code": ["def area(r):\n    return 3.14 * r * r\n\nprint(area(2))", "for (int i = 0; i < n; i++) {\n    sum += a[i];\n}", "SELECT name, age FROM people\nWHERE age > 30\nORDER BY name;"],
    "und": ["12345 67890", "!!! ??? ---", "ok"],
}  # fmt: skip


def _tables(folder: Path) -> list[Path]:
    """TEXTS as rows of every kind of file, written by other libraries; the names sort in no order that matters."""
    import pyarrow
    import pyarrow.parquet

    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS).encode()
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["id", "text"])
    writer.writeheader()
    writer.writerows({"id": number, "text": text} for number, text in enumerate(TEXTS))
    contents = {
        "rows.jsonl": lines,
        "rows.json": json.dumps([{"text": text} for text in TEXTS]).encode(),
        "rows.csv": table.getvalue().encode(),
        "rows-gb.csv": table.getvalue().replace("👩\u200d🚀", "").encode("gb18030"),
        "rows.jsonl.gz": gzip.compress(lines),
        "rows.jsonl.bz2": bz2.compress(lines),
        "rows.jsonl.xz": lzma.compress(lines),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), folder / "rows.parquet")
    with zipfile.ZipFile(folder / "rows.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("inside/rows.jsonl", lines)
    with tarfile.open(folder / "rows.tar.gz", "w:gz") as tarred:
        member = tarfile.TarInfo("inside/rows.jsonl")
        member.size = len(lines)
        tarred.addfile(member, io.BytesIO(lines))
    return sorted(folder.iterdir())


def sources() -> dict[str, float]:
    """The same texts out of ten kinds of file, then as text files in six encodings that nobody names."""
    right = []
    with tempfile.TemporaryDirectory() as scratch:
        for file in _tables(Path(scratch)):
            wanted = [text.replace("👩\u200d🚀", "") for text in TEXTS] if "-gb" in file.name else TEXTS
            told = [row["text"] for row in read_rows([file])]
            right.append(told == wanted)
            if told != wanted:
                print(file.name, told)
    poem = "\n".join(TEXTS[:2]) + "\n人闲桂花落，夜静春山空。\n"
    with tempfile.TemporaryDirectory() as scratch:
        for encoding in ("utf-8", "utf-8-sig", "gb18030", "gbk", "utf-16", "utf-16-le"):
            file = Path(scratch) / f"{encoding}.txt"
            file.write_bytes(poem.encode(encoding))
            told = [row["text"].strip() for row in read_rows([file])]
            right.append(told == [poem.strip()])
            if not right[-1]:
                print(encoding, told)
    return {"right": sum(right) / len(right), "files": len(right)}


def _through(name: str, text: str) -> str:
    row = make_step(name, step_config(name, {})).apply({"id": "", "source": "", "text": text}, Counter())
    return "" if isinstance(row, Drop) else row["text"]


def html() -> dict[str, float]:
    """A page's sentences are all there and what stands around them is not; fragments word for word; what is no HTML stays."""
    skip, news, footer, tracker, share = AROUND
    body = "".join(f"<p>{text.replace('<', '&lt;').replace('>', '&gt;')}</p>" for text in ARTICLE)
    page = _through("html", PAGE.format(skip=skip, news=news, footer=footer, tracker=tracker, share=share, body=body))
    right = [" ".join(text.split()) in " ".join(page.split()) for text in ARTICLE] + [
        text not in page for text in AROUND
    ]
    for raw, wanted in FRAGMENTS:
        right.append(" ".join(_through("html", raw).split()) == wanted)
        if not right[-1]:
            print(repr(raw), repr(_through("html", raw)))
    return {"right": sum(right) / len(right), "checks": len(right)}


def languages() -> dict[str, float]:
    """Sentences whose language is known, one by one."""
    step = make_step("language", step_config("language", {}))
    wrong, total = [], 0
    for wanted, texts in LANGUAGES.items():
        for text in texts:
            row = step.apply({"id": "", "source": "", "text": text}, Counter())
            told = "" if isinstance(row, Drop) else row["lang"]
            total += 1
            if told != wanted:
                wrong.append(text)
                print(f"{told}, not {wanted}: {text}")
    return {"right": 1 - len(wrong) / total, "texts": total}


PROOFS = {"text-sources": sources, "html-cleaning": html, "language-identification": languages}
