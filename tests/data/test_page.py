from danlu.data.page import data_page
from danlu.data.statistics import Statistics

SUMMARY = {
    "sources": {"news": {"files": 2, "rows": 10}},
    "funnel": [
        {"step": "read", "rows": 10, "characters": 100, "dropped": {}, "tally": {}, "examples": []},
        {
            "step": "quality",
            "rows": 7,
            "characters": 70,
            "dropped": {"too_short": 2, "symbols": 1},
            "tally": {"looked_at": 10},
            "examples": [
                {"id": "news/1", "dropped": "too_short", "detail": "3 words", "text": "<b>short</b>"},
                {"id": "news/2", "before": "ａ", "after": "a"},
            ],
        },
    ],
    "splits": {"train": {"rows": 7, "bytes": 70, "sha256": "0" * 64}},
}


def test_the_funnel_the_reasons_and_examples_are_shown():
    page = data_page("my set", SUMMARY)
    for part in (
        "70.0%",
        "−3",
        "too_short",
        "looked_at 10",
        "&lt;b&gt;short&lt;/b&gt;",
        "3 words",
        "<ins>a</ins>",
        "漏斗",
    ):
        assert part in page, part
    assert "<b>short" not in page
    assert page == data_page("my set", SUMMARY)


def test_what_was_measured_is_shown():
    found = Statistics()
    for number in range(3):
        found.add({"id": str(number), "source": "poems", "lang": "zh", "text": "床前明月光"})
    page = data_page("my set", SUMMARY, found)
    for part in ("床前", "4–7", "zh", "2 of 3 rows"):
        assert part in page, part
