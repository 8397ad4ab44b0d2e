"""Exercise: mojibake read back, and punctuation that follows its surroundings. 练习：还原乱码，以及随上下文的标点。"""

from collections import Counter


def repair_gbk(text: str, tally: Counter[str]) -> str:
    """Chinese in GBK that was read as Latin-1, read back; the text itself where that is not certain.

    What was misread are runs of pairs of bytes, the first 0x81 to 0xFE, the second 0x40 to 0x7E or 0x80 to 0xFE, that are
    now characters. A run goes back by the round trip (encode, decode). It is made only where the text has four characters
    from 0xA1 to 0xFE in a row, and where all that comes out is Chinese: at least 0.3 of its ideographs are in
    `danlu.data.mojibake.FREQUENT`, and there are two or more. What is valid UTF-8 was misread in another way and stays.
    A text that changes adds 1 to `tally["gbk_as_latin"]`.
    """
    raise NotImplementedError


def normalise(text: str) -> str:
    """Width and punctuation made alike, by what stands around them; doing it twice is doing it once.

    - Full-width Latin letters, digits and symbols become half-width, but ！（），：；？～, which are Chinese marks.
    - , ; : . ? ! right after a Chinese character or a Chinese mark become full-width; . ? ! only where no letter, digit, dot or
      underscore of ASCII follows (so 第3.5节 and 图a.png stay).
    - ，。？！；： in a line without any Chinese character become half-width, with a blank where a word follows.
    - A text with kana is Japanese, and its marks stay as they are.
    - Of ，？！；：、 several in a row become one, of !?,; three or more; one blank between Chinese characters goes.
    """
    raise NotImplementedError
