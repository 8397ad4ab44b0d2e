"""Checks for the check digits; the references are hand computations and python-stdnum."""

import random
from types import ModuleType

SOLUTION = "danlu.data.personal_numbers"


def check_an_id_card_by_hand(exercise: ModuleType) -> None:
    """11010519491231002X: the weighted digits sum to 167, X adds 10, and 177 = 16 * 11 + 1.
    11010519491231002X：各位加权之和为 167，X 再加 10，177 = 16 × 11 + 1。
    """
    assert exercise.is_id_card("11010519491231002X")
    assert exercise.is_id_card("11010519491231002x"), "a small x is the same / 小写 x 也算"
    assert not exercise.is_id_card("110105194912310021")


def check_only_one_check_character_holds(exercise: ModuleType) -> None:
    """Of eleven characters at the end exactly one is right: a wrong one is no ID card.
    末位的十一种字符里恰有一种正确；错了就不是身份证。
    """
    right = [last for last in "0123456789X" if exercise.is_id_card("44030519900307123" + last)]
    assert len(right) == 1, f"{right}"


def check_the_day_exists(exercise: ModuleType) -> None:
    """30 February passes no ID card even with the right check character; neither does an unknown province.
    校验位再对，2 月 30 日也不行；不存在的省份也不行。
    """
    for body in ("11010519490230002", "11010519491331002", "99010519491231002"):
        assert not any(exercise.is_id_card(body + last) for last in "0123456789X"), body


def check_luhn_by_hand(exercise: ModuleType) -> None:
    """79927398713: from the right 3 + 2 + 7 + 7 + 9 + 6 + 7 + 4 + 9 + 9 + 7 = 70.
    79927398713：从右起 3 + 2 + 7 + 7 + 9 + 6 + 7 + 4 + 9 + 9 + 7 = 70。
    """
    assert exercise.is_luhn("79927398713")
    assert not exercise.is_luhn("79927398710")


def check_luhn_equals_stdnum(exercise: ModuleType) -> None:
    """A thousand random numbers of random length: the same verdicts as python-stdnum.
    一千个长度不一的随机号码：判断应与 python-stdnum 一致。
    """
    from stdnum import luhn

    rng = random.Random(0)
    for _ in range(1000):
        number = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 20)))
        assert bool(exercise.is_luhn(number)) == luhn.is_valid(number), number
