"""Check digits are those of python-stdnum; what is no number of a person is left alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn
from stdnum.cn import ric

from danlu.data.personal import find
from danlu.data.personal_numbers import find_bank_cards, find_id_cards, find_phones, fold, is_id_card, is_luhn
from tests.data.personal_cases import card_digits, id_digits


@given(st.text(alphabet="0123456789", min_size=2, max_size=25))
def test_luhn_is_stdnums(number: str):
    assert is_luhn(number) == luhn.is_valid(number)


def test_id_card_by_hand():
    """11010519491231002X: the digits times 7 9 10 5 8 4 2 1 6 3 7 9 10 5 8 4 2 sum to 167, and 167 + 10 = 16 * 11 + 1."""
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    assert sum(w * int(d) for w, d in zip(weights, "11010519491231002", strict=True)) == 167
    assert is_id_card("11010519491231002X")
    assert is_id_card("11010519491231002x")


def test_exactly_one_of_eleven_check_characters_holds():
    rng = random.Random(5)
    for _ in range(200):
        number = id_digits(rng)
        right = [last for last in "0123456789X" if is_id_card(number[:17] + last)]
        assert right == [ric.calc_check_digit(number)] == [number[17]]


@pytest.mark.parametrize(
    "number",
    [
        "990105194912310028",  # no such province
        "110105194913310020",  # no thirteenth month
        "110105194902300020",  # no 30 February
        "110105184912310020",  # born too early
        "1101054912310",  # too short
    ],
)
def test_implausible_id_cards(number: str):
    assert not is_id_card(number)


@given(st.text())
def test_fold_keeps_the_length_and_plain_text(text: str):
    folded = fold(text)
    assert len(folded) == len(text)
    assert all(new == old or not old.isascii() for new, old in zip(folded, text, strict=True))


def test_fold():
    assert fold("１３９ ＡＢ＠Ｃ．ｃ 𝟏𝟐 ٣ ⑤") == "139 AB@C．c 12 3 5".replace("．", ".")


def spans(finder, text: str) -> list[str]:
    return [text[one.start : one.end] for one in finder(fold(text))]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("手机13912345678。", ["13912345678"]),
        ("tel:+86 139-1234-5678", ["+86 139-1234-5678"]),
        ("1 3 9 1 2 3 4 5 6 7 8", ["1 3 9 1 2 3 4 5 6 7 8"]),
        ("13912\n345678", ["13912\n345678"]),
        ("010-62345678转123", ["010-62345678转123"]),
        ("(0755) 26345678", ["(0755) 26345678"]),
        ("call (415) 555-2671 now", ["(415) 555-2671"]),
        ("+44 20 7946 0958", ["+44 20 7946 0958"]),
        ("Phone: (345)820-1206x928", ["(345)820-1206x928"]),
        ("(415) 555-2671 ext. 12", ["(415) 555-2671 ext. 12"]),
        ("订单号 13912345678", []),
        ("13912345678元", []),
        ("3.13912345678", []),
        ("13912345678.5", []),
        ("a13912345678b", []),
        ("139123456789", []),
        ("x = 13912345678 * 2", []),
        ("¥13912345678", []),
        ("uid 13912345678", []),
        ("2023-11-22 12:30:45", []),
        ("电话：6234 5678", ["6234 5678"]),
        ("1 3 9 1 2 3 4 5 6 7 8 9", []),
    ],
)
def test_phones(text: str, found: list[str]):
    assert [text[one.start : one.end] for one in find(text, ("phone",))] == found
    assert set(found) <= set(spans(find_phones, text))  # which of the overlapping ones holds is decided by `find`


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("卡号 4111 1111 1111 1111", ["4111 1111 1111 1111"]),
        ("卡号 4111 1111 1111 1112", []),
        ("378282246310005", ["378282246310005"]),
        ("order 4111111111111111", []),
        ("0x4111111111111111", []),
        ("card 630402152163", ["630402152163"]),
        ("630402152163", []),
        ("1.4111111111111111", []),
    ],
)
def test_bank_cards(text: str, found: list[str]):
    assert spans(find_bank_cards, text) == found


def test_one_digit_wrong_is_never_an_id_or_a_card():
    rng = random.Random(7)
    for _ in range(300):
        for number, finder in ((id_digits(rng), find_id_cards), (card_digits(rng), find_bank_cards)):
            at = rng.randrange(len(number))
            if not number[at].isdigit():
                continue
            other = rng.choice([digit for digit in "0123456789" if digit != number[at]])
            wrong = number[:at] + other + number[at + 1 :]
            assert spans(finder, f"号码 {number} 。") == [number]
            if len(number) != 15 or finder is find_bank_cards:
                assert spans(finder, f"号码 {wrong} 。") == []


def test_old_id_cards_need_their_surroundings():
    assert spans(find_id_cards, "身份证 110105491231002") == ["110105491231002"]
    assert spans(find_id_cards, "订单号 110105491231002") == []
    assert spans(find_id_cards, "身份证 110105491331002") == []
