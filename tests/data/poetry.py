"""A small collection in the form of the poetry asset: traditional characters, notes, doubles, things to leave out."""

import json
from pathlib import Path

POEMS = {
    "poet.tang.0.json": [
        {"title": "江樓二首  其一", "paragraphs": ["春風吹小樓，新月照江流。", "遠客燈前坐，一聲何處愁。"]},
        {"title": "江樓二首  其二", "paragraphs": ["潮來山影動，夢裏聽行舟。", "遠客燈前坐，天寒雁過洲。"]},
        {
            "title": "雜歌 採桑（二首）",
            "paragraphs": ["東園桑葉綠初齊，曉日籠煙過小溪。", "莫問誰家春事早，滿城風雨一鶯啼。"],
        },
        {"title": "長歌", "paragraphs": ["這是五句，不成絕句。", "一二三四五，六七八九十。"]},
        {"title": "缺字", "paragraphs": ["春風吹□樓，新月照江流。", "遠客燈前坐，一聲何處愁。"]},
    ],
    "poet.song.1000.json": [
        {"title": "重出", "paragraphs": ["春風吹小樓，新月照江流。", "遠客燈前坐，一聲何處愁。"]},
        {"title": "一" * 30 + "序", "paragraphs": ["山中無曆日，雪後有梅花。", "老叟來相問，溪南第幾家。"]},
        {"title": "又", "paragraphs": ["夜雨沈沈落，秋燈淡淡明。", "小窗人未睡，猶自數更聲。"]},
    ],
    "poet.song.0.json": [
        {"title": "夜雨", "paragraphs": ["夜雨蕭蕭落？秋燈淡淡明！", "小窗人未睡；猶自數更聲。"]},
    ],
}


def write_poetry(folder: Path) -> Path:
    (folder / "quantangshi").mkdir(parents=True)
    for name, poems in POEMS.items():
        (folder / "quantangshi" / name).write_text(json.dumps(poems, ensure_ascii=False), encoding="utf-8")
    (folder / "strains").mkdir()  # files of the same names that hold no poems
    (folder / "strains" / "poet.tang.0.json").write_text("[{}]", encoding="utf-8")
    (folder / "quantangshi" / "authors.tang.json").write_text("[{}]", encoding="utf-8")
    return folder


def write_many(folder: Path, count: int) -> Path:
    """`count` poems of different lines; every ten in a row share a title, every fifth repeats a line of the one before."""
    folder.mkdir(parents=True)
    digits = "春花秋月風雨江山"

    def line(number: int) -> str:
        spelled = ""
        for _ in range(5):
            number, digit = divmod(number, 8)
            spelled += digits[digit]
        return spelled

    poems = []
    for number in range(count):
        lines = [line(4 * number + k) for k in range(4)]
        if number and number % 5 == 0:
            lines[0] = line(4 * (number - 1))
        body = [f"{lines[0]}，{lines[1]}。", f"{lines[2]}，{lines[3]}。"]
        poems.append({"title": line(number // 10)[:3], "paragraphs": body})
    (folder / "poet.tang.0.json").write_text(json.dumps(poems, ensure_ascii=False), encoding="utf-8")
    return folder
