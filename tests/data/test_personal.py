"""Recall and precision on cases that the rules were not tuned on; masking changes nothing else."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.data.personal import KINDS, USUAL, Finding, find, mask, placeholder, pseudonym
from tests.data.personal_cases import Case, adversarial, generated
from tests.data.personal_score import score

SEED = 1  # the rules were tuned on others


@pytest.mark.parametrize(("make", "count"), [(generated, 2000), (adversarial, 300)])
def test_recall_and_precision(make, count: int):
    total = score(make(SEED, count), find)["all"]
    assert total["recall"] >= 0.98
    assert total["precision"] >= 0.95


def test_the_score_can_fail():
    cases = [Case("a@b.com 1", [("email", 0, 7)], "x"), Case("nothing", [], "y")]
    assert score(cases, lambda text: [])["all"]["recall"] == 0
    assert score(cases, lambda text: [Finding("email", 0, 5)])["all"]["precision"] == 0
    assert score(cases, find)["all"] == {"recall": 1.0, "precision": 1.0, "found": 1, "missed": 0, "wrong": 0}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("write to john.doe+x@mail.example.co.uk.", [("email", "john.doe+x@mail.example.co.uk")]),
        ("john at example dot com", [("email", "john at example dot com")]),
        ("john(at)example.com", [("email", "john(at)example.com")]),
        ("look at example.com", []),
        ("q @ k.mT and x@y.T", []),
        ("image@2x.png react@18.2.0 git@github.com:a/b", []),
        ("@app.route @property\nfoo.bar", []),
        ("ping 8.8.8.8 or 2001:db8::ff00:42:8329", [("ip", "8.8.8.8"), ("ip", "2001:db8::ff00:42:8329")]),
        ("version 1.2.3.4, Chrome/120.0.0.0, 127.0.0.1, 1.2.3.4.5, 256.1.1.1, std::vector, a[::2], 12:30:45", []),
        ("key AKIAIOSFODNN7EXAMPLE", [("key", "AKIAIOSFODNN7EXAMPLE")]),
        ("password = 'hunter2!'", [("key", "hunter2!")]),
        ("password = get_password()\ntoken = tokens[0]\npassword: str = None", []),
        ("token: 5f4dcc3b5aa765d61d8327deb882cf99", [("key", "5f4dcc3b5aa765d61d8327deb882cf99")]),
        ("commit 5f4dcc3b5aa765d61d8327deb882cf99", []),
        ("护照 E12345678 车牌京A·12345", [("passport", "E12345678"), ("plate", "京A·12345")]),
        ("Mr. Smith", []),
    ],
)
def test_kinds(text: str, found: list[tuple[str, str]]):
    assert [(one.kind, text[one.start : one.end]) for one in find(text)] == found


def test_names_when_asked_for():
    text = "Dr. Jane Smith met 王小明先生"
    assert [text[one.start : one.end] for one in find(text, ("name",))] == ["Jane Smith", "王小明"]
    assert "name" not in USUAL


def test_a_finding_within_another_counts_once():
    text = "password='13912345678a@b.com'"
    assert len(find(text)) == 1


@given(st.text(alphabet="a1９@. \n-号路京市3张+1:", max_size=60))
def test_any_text(text: str):
    found = find(text, KINDS)
    assert all(0 <= one.start < one.end <= len(text) for one in found)
    assert all(one.end <= other.start for one, other in zip(found, found[1:], strict=False))
    tally: Counter[str] = Counter()
    masked = mask(text, found, lambda one, what: what, tally)
    assert masked == text
    assert sum(tally.values()) == len(found)


def test_what_is_not_masked_stays():
    for case in generated(3, 300):
        tally: Counter[str] = Counter()
        masked = mask(case.text, find(case.text), placeholder, tally)
        rest, at = masked, 0
        for one in find(case.text):
            head, rest = rest.split(f"<{one.kind.upper()}>", 1)
            assert head == case.text[at : one.start]
            at = one.end
        assert rest == case.text[at:]


def test_pseudonyms_are_consistent_and_keyed():
    write, other = pseudonym(b"k" * 16), pseudonym(b"o" * 16)
    one, two = Finding("phone", 0, 1), Finding("id_card", 0, 1)
    assert write(one, "139 1234 5678") == write(one, "１３９１２３４５６７８") == write(one, "139-1234-5678")
    assert write(one, "13912345678") != write(one, "13912345679")
    assert write(one, "13912345678") != other(one, "13912345678")
    assert write(one, "13912345678")[7:] != write(two, "13912345678")[9:]


def test_long_text_takes_time_in_proportion():
    import time

    rng = random.Random(0)
    text = " ".join(case.text for case in generated(4, 200))
    texts = [
        "".join(rng.choice("0123456789 -.\n") for _ in range(20_000)),
        text * 3,
        "1" * 50_000,
        "a@" * 20_000,
        "1 " * 30_000,
    ]
    start = time.process_time()
    for one in texts:
        find(one, KINDS)
    assert time.process_time() - start < 10
