import json

import pytest

from danlu.core.errors import DataError
from danlu.data.poems import Quatrain, poem_rows
from danlu.tasks.base import Task
from danlu.tasks.poem import PoemTask, check_poem, summary

GOOD = "春风吹小楼，新月照江流。\n远客灯前坐，一声何处愁。"
SEVEN = "东园桑叶绿初齐，晓日笼烟过小溪。\n莫问谁家春事早，满城风雨一莺啼。"


def rows(count=40):
    """Two poems for each title, every other poem of seven characters a line."""
    names = [f"{first}{second}" for first in "春夏秋冬" for second in "山水花月风"]
    lines = [["字" * (5 + 2 * (n % 2) - 1) + name[k % 2] for k in range(4)] for n, name in enumerate(2 * names)]
    return list(poem_rows([Quatrain(name, tuple(four)) for name, four in zip(2 * names, lines, strict=True)]))[:count]


@pytest.mark.parametrize(
    ("text", "form", "rhyme_by", "no_repeat"),
    [
        (GOOD, True, "pingshui", True),
        (f"《江楼》\n{GOOD}\n", True, "pingshui", True),  # a base model may write the title
        ("春风吹小楼\n新月照江流\n远客灯前坐\n一声何处愁", True, "pingshui", True),
        (GOOD.replace("愁", "春"), True, None, True),
        (GOOD.replace("愁", "流"), True, None, True),  # the same character
        ("春风吹小楼，新月照江流。\n春风吹小楼，一声何处愁。", True, "pingshui", False),
        (SEVEN, False, "pinyin", True),  # not the asked length
        (GOOD[:-7], False, None, True),  # three lines
        (GOOD + "又一句多余。", False, "pingshui", True),
        (GOOD.replace("小楼", "A楼"), False, "pingshui", True),
        (GOOD.replace("小楼", "□楼"), False, "pingshui", True),
        (GOOD.replace("小", ""), False, "pingshui", True),
        ("", False, None, False),
        ("《江楼》", False, None, False),
    ],
)
def test_check(text, form, rhyme_by, no_repeat):
    check = check_poem(text, (5,))
    assert (check.form, check.rhyme_by, check.no_repeat) == (form, rhyme_by, no_repeat)
    assert check.rhyme == (rhyme_by is not None)


def test_the_fourth_line_alone_may_rhyme_by_todays_reading():
    check = check_poem(GOOD.replace("流", "东").replace("愁", "冬"), (5,))
    assert (check.rhyme, check.rhyme_by) == (True, "pinyin")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (GOOD, 1.0),
        (GOOD.replace("愁", "春"), 0.5),
        ("春风吹小楼，新月照江流。\n春风吹小楼，一声何处愁。", 0.75),
        ("春风吹小楼，春风吹小楼。\n春风吹小楼，春风吹小楼。", 0.25),
        ("春风", 0.0),
    ],
)
def test_score(text, score):
    assert check_poem(text, (5,)).score == score


def test_a_task_asks_once_for_each_title_the_same_always():
    task = PoemTask(rows())
    assert isinstance(task, Task)
    titles = [task.title(i) for i in range(len(task))]
    assert len(task) == len(set(titles)) == 20
    again = PoemTask(rows()[::-1], 7)
    assert [again.prompt(i) for i in range(7)] == [task.prompt(i) for i in range(7)]
    for i in range(7):
        (message,) = task.prompt(i)
        assert message["role"] == "user"
        assert task.title(i) in message["content"]
        assert task.completion(i) == f"《{task.title(i)}》\n"


def test_the_asked_form_counts_unless_none_was_asked():
    task = PoemTask(rows())
    five = next(i for i in range(len(task)) if task.form(i) == 5)
    assert task.score(five, GOOD) == 1.0
    assert task.score(five, SEVEN) == 0.0
    assert task.check(five, SEVEN, asked=False).score == 1.0


def test_rows_that_are_no_poems_are_refused():
    with pytest.raises(DataError, match="1"):
        PoemTask([{"text": "prose"}])


def test_the_task_of_a_prepared_folder(tmp_path):
    for split in ("train", "valid", "test"):
        text = "".join(json.dumps(row) + "\n" for row in rows())
        (tmp_path / f"{split}.jsonl").write_text(text, encoding="utf-8")
    assert len(PoemTask.open(tmp_path, 5)) == 5
    (tmp_path / "test.jsonl").write_text('{"text": "prose"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.jsonl:1"):
        PoemTask.open(tmp_path)


def test_summary_counts_over_all_answers():
    """Of four answers three are in form, two of these rhyme; 14 lines, of which 10 differ."""
    texts = [GOOD, GOOD, SEVEN.replace("啼", "春"), "春风吹小楼，不成诗。"]
    told = summary([check_poem(texts[0], (5,)), check_poem(texts[1], (5,)), *map(check_poem, texts[2:])])
    assert told["form"] == 3 / 4
    assert told["rhyme"] == 2 / 4
    assert told["no_repeat"] == 3 / 4
    assert told["distinct"] == 9 / 14
    assert told["score"] == (1 + 1 + 0.5 + 0) / 4
    assert set(summary([]).values()) == {0.0}
