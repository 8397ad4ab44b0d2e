"""Slips that people make: Chinese characters of the same sound or of like shape, English letters beside the right key.

Sounds come from pypinyin, read in context. Shapes are measured: each character is drawn by a font and compared with
the others as a picture, so no list of look-alikes is needed and any font will do. Which characters are common is
told by the segmenter's dictionary; all are those of GB 2312 level 1, 3,755 in number, so no rare one comes in.
"""

from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np

from danlu.core.assets import asset_path
from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import DataError, MissingExtraError
from danlu.core.i18n import tr
from danlu.data.augmenters._words import frequency, how_many, is_han, pieces

__all__ = ["Config", "Homophones", "Shapes", "Typos", "common_characters", "homophones_of", "similar_shapes"]

# The rows of a keyboard and how far each is shifted, in keys.
_ROWS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))
_SIZE, _DRAWN = 32, 40  # pixels of a picture that is compared, and of the font it is drawn with
_FACES = 16  # looked through in a collection of fonts
_SHORTEST_WORD = 4  # letters; a slip in a shorter one makes another word too often


class Config(Base):
    """How many slips, and how near the wrong character is to the right one."""

    share: float = doc(0.05, "share of the characters (English: words) with a slip", "出错的字（英文为词）的比例", gt=0, le=1)  # fmt: skip
    tone: bool = doc(True, "homophones have the same tone too", "同音字声调也须相同")
    similar: float = doc(0.75, "least likeness of two shapes (correlation of their pictures)", "形近字的最低相似度（字形图像的相关系数）", gt=0, lt=1)  # fmt: skip
    rarity: float = doc(0.02, "a wrong character is at least so often used as the right one", "误字的字频至少是原字的多少倍", ge=0, le=1)  # fmt: skip
    font: Input | None = doc(
        None, "font with Chinese characters; default: the asset noto-sans-cjk", "含汉字的字体；默认用资料 noto-sans-cjk"
    )


class _Slips:
    """Chinese characters replaced, each by one of its `candidates`, the common ones more often."""

    kind: Literal["text"] = "text"
    tries = 3

    def __init__(self, config: Config) -> None:
        self.config = config

    def candidates(self, word: str, at: int) -> Sequence[str]:
        """What the character at `at` of a Chinese word may be mistaken for."""
        raise NotImplementedError

    def augment(self, contents: Sequence[str], randoms: Sequence[Random]) -> list[str]:
        """One text for each."""
        return [self._slip(text, random) for text, random in zip(contents, randoms, strict=True)]

    def _slip(self, text: str, random: Random) -> str:
        parts = pieces(text)
        places = [(number, at) for number, part in enumerate(parts) if is_han(part) for at in range(len(part))]
        wanted, written = how_many(self.config.share, len(places)), list(parts)
        for number, at in random.sample(places, len(places)):
            if not wanted:
                break
            right, word = parts[number][at], written[number]
            least = max(1, self.config.rarity * _frequency(right))
            if others := [other for other in self.candidates(parts[number], at) if _frequency(other) >= least]:
                wrong = random.choices(others, [_frequency(other) ** 0.5 for other in others])[0]
                written[number] = word[:at] + wrong + word[at + 1 :]
                wanted -= 1
        return "".join(written)


class Homophones(_Slips):
    """Characters that sound the same where they stand."""

    def candidates(self, word: str, at: int) -> Sequence[str]:
        """By its reading in the word."""
        return homophones_of(word[at], _readings(word)[at], self.config.tone)


class Shapes(_Slips):
    """Characters that look alike."""

    def candidates(self, word: str, at: int) -> Sequence[str]:
        """By the pictures of the font."""
        return self._alike.get(word[at], ())

    @cached_property
    def _alike(self) -> dict[str, list[str]]:
        return similar_shapes(_font_file(self.config.font or asset_path("noto-sans-cjk")), self.config.similar)


class Typos:
    """English words with one letter hit beside its key, never the first."""

    kind: Literal["text"] = "text"
    tries = 3

    def __init__(self, config: Config) -> None:
        self.config = config

    def augment(self, contents: Sequence[str], randoms: Sequence[Random]) -> list[str]:
        """One text for each."""
        return [self._slip(text, random) for text, random in zip(contents, randoms, strict=True)]

    def _slip(self, text: str, random: Random) -> str:
        parts = pieces(text)
        words = [place for place, part in enumerate(parts) if part.isascii() and part.isalpha()]
        long = [place for place in words if len(parts[place]) >= _SHORTEST_WORD]
        for place in random.sample(long, min(len(long), how_many(self.config.share, len(words)))):
            word = parts[place]
            at = random.randrange(1, len(word))
            letter = random.choice(_neighbours()[word[at].lower()])
            parts[place] = word[:at] + (letter.upper() if word[at].isupper() else letter) + word[at + 1 :]
        return "".join(parts)


def homophones_of(character: str, sound: str, tone: bool = True) -> list[str]:
    """The common characters read `sound` (as 'hao3'; 5 is the neutral tone), or, without `tone`, in any tone."""
    heard = _by_sound(tone).get(sound if tone else sound[:-1], [])
    return [other for other in heard if other != character]


# lesson: shapes
def similar_shapes(font: Path, least: float, characters: Sequence[str] | None = None) -> dict[str, list[str]]:
    """The characters that look like each, the most alike first: correlation of their pictures at least `least`.

    Each is drawn, cut to its ink, brought to 32 x 32 pixels and blurred a little, so that a stroke need not lie on
    the very same pixel. Raises DataError for a font that cannot be read.
    """
    characters = common_characters() if characters is None else characters
    pictures = _pictures(font, characters)
    pictures -= pictures.mean(1, keepdims=True)
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    likeness = pictures @ pictures.T  # [characters, characters]
    np.fill_diagonal(likeness, -1)
    alike = {}
    for place, row in enumerate(likeness):
        order = np.argsort(-row, kind="stable")[: int((row >= least).sum())]
        alike[characters[place]] = [characters[other] for other in order]
    return alike


# end lesson


@cache
def common_characters() -> tuple[str, ...]:
    """GB 2312 level 1: rows 16 to 55 of the code, ordered by pinyin."""
    codes = (bytes([row, cell]) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    return tuple(code.decode("gb2312") for code in codes if code < b"\xd7\xfa")  # the last row is not full


@cache
def _frequency(character: str) -> int:
    return frequency(character)


@cache
def _by_sound(tone: bool) -> dict[str, list[str]]:
    sounds: dict[str, list[str]] = {}
    for character in common_characters():
        sound = _readings(character)[0]
        sounds.setdefault(sound if tone else sound[:-1], []).append(character)
    return sounds


@lru_cache(maxsize=65536)
def _readings(word: str) -> list[str]:
    """The sound of each character as it is read in the word, tone at the end; '?' if unknown."""
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError:
        raise MissingExtraError("pypinyin", "data") from None
    options: dict[str, Any] = {"style": Style.TONE3, "neutral_tone_with_five": True}
    return lazy_pinyin(word, errors=lambda unknown: "?" * len(unknown), **options)


def _font_file(path: Path) -> Path:
    """The font, or the first in a folder."""
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in (".ttc", ".ttf", ".otf"))
    return files[0] if path.is_dir() and files else path


def _pictures(font: Path, characters: Sequence[str]) -> np.ndarray:
    """[characters, 32 * 32] float32."""
    try:
        from PIL import Image, ImageDraw, ImageFilter, ImageFont
    except ImportError:
        raise MissingExtraError("pillow", "data") from None
    try:
        drawn_by = _face(font, ImageFont)
    except OSError as error:
        raise DataError(
            tr(f"cannot read the font {font}: {error}", f"无法读取字体 {font}：{error}"), "danlu pull noto-sans-cjk"
        ) from None
    pictures = []
    for character in characters:
        canvas = Image.new("L", (2 * _DRAWN, 2 * _DRAWN))
        ImageDraw.Draw(canvas).text((_DRAWN // 4, _DRAWN // 4), character, font=drawn_by, fill=255)
        ink = canvas.crop(canvas.getbbox()).resize((_SIZE, _SIZE), Image.Resampling.BILINEAR)
        pictures.append(np.asarray(ink.filter(ImageFilter.GaussianBlur(1)), np.float32).ravel())
    return np.stack(pictures)


def _face(font: Path, image_font: Any) -> Any:
    """Of a collection, the face with the shapes of mainland China, if it has one; else the first."""
    first = image_font.truetype(str(font), _DRAWN)
    for index in range(_FACES if font.suffix.lower() == ".ttc" else 0):
        try:
            face = image_font.truetype(str(font), _DRAWN, index=index)
        except OSError:  # there are no more
            break
        if face.getname()[0].endswith(" SC"):
            return face
    return first


@cache
def _neighbours() -> dict[str, str]:
    """The letters whose keys touch each letter's key."""
    keys = {letter: (number + shift, row) for row, (letters, shift) in enumerate(_ROWS) for number, letter in enumerate(letters)}  # fmt: skip

    def near(one: str, other: str) -> bool:
        (x, y), (u, v) = keys[one], keys[other]
        return (y == v and abs(x - u) == 1) or (abs(y - v) == 1 and abs(x - u) < 1)

    return {letter: "".join(other for other in keys if near(letter, other)) for letter in keys}
