"""Exercise: numbers that belong to a person, by their check digits. 练习：用校验位认出属于个人的号码。"""


def is_id_card(number: str) -> bool:
    """Whether 18 characters are a Chinese ID card: region, a day that exists, and the check character.

    The first two digits are a province (11-15, 21-23, 31-37, 41-46, 50-54, 61-65, 71, 81-83), places 7 to 14 a day of
    birth between 1880 and 2100; and the sum of digit times 2^(17 - place), places counted from 0, X as 10, is 1 modulo 11.
    """
    raise NotImplementedError


def is_luhn(number: str) -> bool:
    """The check digit of bank cards: from the right, every second digit counts double, 16 as 1 + 6; the sum is a multiple of 10."""
    raise NotImplementedError
