import string

from danlu.core.errors import DataError
from danlu.data.faults import RAW_LIMIT, REASONS, Fault


def test_every_reason_is_told_in_both_languages_with_the_same_gaps():
    for reason, (en, zh, do_en, do_zh) in REASONS.items():
        gaps = [[field for _, field, _, _ in string.Formatter().parse(text) if field is not None] for text in (en, zh)]
        assert gaps[0] == gaps[1], reason
        assert all((do_en, do_zh))
        assert isinstance(Fault(reason, "detail").error("a.jsonl:3"), DataError)
        assert "a.jsonl:3" in str(Fault(reason, "detail").error("a.jsonl:3"))


def test_a_fault_keeps_a_bounded_beginning():
    bad = Fault("not_json", "why", b"x" * (RAW_LIMIT + 1)).bad("a.jsonl:3")
    assert (bad.place, bad.reason, bad.detail, len(bad.raw)) == ("a.jsonl:3", "not_json", "why", RAW_LIMIT)
