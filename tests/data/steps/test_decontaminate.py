"""Planted evaluation items are found, with small edits too, and cut out; clean text is untouched."""

import random
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.errors import DataError
from danlu.data.step import Drop, make_step, step_config
from danlu.data.steps.decontaminate import Index, covered, grams, tokens

QUESTIONS = [
    "A farmer has seventeen sheep and all but nine of them run away in the night; how many sheep does the farmer have left?",
    "Which of the planets of our solar system has the shortest day, and how long does one rotation take it?",
    "Is it true that lightning never strikes the same place twice?",
    "小明有十二个苹果，他给了小红三个，又从妈妈那里得到五个，请问小明现在一共有多少个苹果？",
    "下列哪一项不属于可再生能源：太阳能、风能、天然气还是潮汐能？请说明理由。",
]
ENGLISH = topics["assignment"]
CHINESE = "春天来了，公园里的花都开了。孩子们在草地上奔跑，老人们坐在长椅上聊天，一切都那么安静而美好。" * 5


@pytest.fixture
def sets(tmp_path: Path) -> str:
    folder = tmp_path / "sets"
    folder.mkdir()
    rows = [{"question": one, "answer": "yes", "id": at} for at, one in enumerate(QUESTIONS)]
    (folder / "quiz.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    return str(folder)


def step(sets: str, **settings):
    return make_step("decontaminate", step_config("decontaminate", {"sets": [sets], **settings}))


def within(question: str, text: str) -> str:
    at = len(text) // 2
    return f"{text[:at]}\n{question}\n{text[at:]}"


@pytest.mark.parametrize("question", QUESTIONS)
def test_planted(sets: str, question: str):
    text = within(question, ENGLISH if question.isascii() else CHINESE)
    tally: Counter[str] = Counter()
    assert step(sets).apply({"id": "1", "source": "s", "text": text}, tally) == Drop("contaminated", "quiz")
    assert tally == {"from_quiz": 1}


def edited(question: str, rng: random.Random) -> str:
    """One word in eight is changed or left out, a mark is lost, the case is another."""
    parts = list(question) if not question.isascii() else question.split()
    at = rng.randrange(3, len(parts) - 3)
    parts[at] = rng.choice(["", "大" if not question.isascii() else "great"])
    joined = ("" if not question.isascii() else "  ").join(parts)
    return joined.replace("，", " ").replace(",", "").upper()


@pytest.mark.parametrize("question", [one for one in QUESTIONS if len(tokens(one)) > 15])
def test_small_edits_do_not_hide(sets: str, question: str):
    made, rng = step(sets), random.Random(0)
    for _ in range(20):
        text = within(edited(question, rng), ENGLISH if question.isascii() else CHINESE)
        assert isinstance(made.apply({"id": "1", "source": "s", "text": text}, Counter()), Drop)


def test_clean_text_is_untouched(sets: str):
    made = step(sets)
    texts = [
        *topics.values(),
        CHINESE,
        "Is it true that lightning never fails?",
        "how many sheep does the farmer have",
        "",
    ]
    for text in texts:
        row = {"id": "1", "source": "s", "text": text}
        assert made.apply(row, Counter()) is row


def test_cut(sets: str):
    made = step(sets, action="cut")
    for question, text in ((QUESTIONS[0], ENGLISH), (QUESTIONS[3], CHINESE)):
        tally: Counter[str] = Counter()
        row = made.apply({"id": "1", "source": "s", "text": within(question, text)}, tally)
        left = within("\0", text).replace("\0", question[-1])  # the mark after the last word is no word
        assert row["text"] == left
        assert tally == {"from_quiz": 1, "passages_cut": 1}
    assert made.apply({"id": "1", "source": "s", "text": QUESTIONS[0]}, Counter()) == Drop("contaminated", "quiz")


def test_messages(sets: str):
    row = {"id": "1", "source": "s", "messages": [{"role": "user", "content": QUESTIONS[0]}]}
    assert step(sets).apply(row, Counter()) == Drop("contaminated", "quiz")


def test_columns(sets: str):
    with pytest.raises(DataError, match="long enough|足够长"):
        step(sets, columns=["answer"])
    assert len(step(sets, columns=["question"]).index.items) == len(QUESTIONS)


def test_faults(tmp_path: Path):
    (tmp_path / "broken.jsonl").write_text('{"text": ')
    with pytest.raises(DataError, match=r"broken\.jsonl"):
        step(str(tmp_path / "broken.jsonl"))
    with pytest.raises(DataError, match="absent"):
        step(str(tmp_path / "absent.txt"))


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 9))
def test_equal_runs_have_equal_hashes(numbers: list[int], size: int):
    """Against comparing the runs themselves."""
    runs = [tuple(numbers[at : at + size]) for at in range(len(numbers) - size + 1)]
    hashes = grams(np.asarray(numbers, np.uint64) + np.uint64(11), size).tolist()
    assert len(hashes) == len(runs)
    assert all(
        (a == b) == (x == y) for a, x in zip(runs, hashes, strict=True) for b, y in zip(runs, hashes, strict=True)
    )


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5))
def test_covered(found: list[bool], size: int):
    length = len(found) + size - 1
    wanted = [any(found[max(0, at - size + 1) : at + 1]) for at in range(length)]
    assert covered(np.asarray(found, bool), size, length).tolist() == wanted


def test_a_run_of_thirteen_out_of_a_long_passage():
    words = tokens(ENGLISH)
    index = Index()
    index.add(ENGLISH, "docs")
    index.build()
    head = [f"unheard{at}" for at in range(20)]
    assert index.search([*head, *words[40:53], *head]) is not None
    assert index.search([*head, *words[40:52], *head]) is None
    assert index.search(head) is None
