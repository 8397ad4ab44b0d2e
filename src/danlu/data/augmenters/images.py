"""Images turned, cut, mirrored, recoloured and covered: uint8 arrays [H, W, C] in, arrays of the same shape out.

Random resized crop is that of Szegedy et al. 2015 ("Going deeper with convolutions", §6) as torchvision draws it;
cut-out is DeVries & Taylor 2017, "Improved regularization of convolutional neural networks with Cutout"; the factors
of colour are those of Pillow's ImageEnhance. What is uncovered or covered gets the colour `fill`.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np

from danlu.core.config import Config as Base
from danlu.core.config import doc
from danlu.core.errors import DataError, MissingExtraError
from danlu.core.i18n import tr

__all__ = ["Config", "Images", "crop", "cutout", "flip", "load", "recolour", "rotate", "save"]

_ATTEMPTS = 10  # rectangles tried before the middle of the image is taken
_DIMENSIONS = 3


class Config(Base):
    """How far each method goes."""

    degrees: float = doc(15.0, "rotate by up to so many degrees either way", "旋转角度上限（正反两向）", gt=0, le=180)
    area: float = doc(0.6, "crop at least this share of the area", "裁剪保留的最小面积比例", gt=0, lt=1)
    ratio: float = doc(4 / 3, "the crop's width to height is between 1/ratio and ratio times the image's", "裁剪框相对原图的宽高比范围：1/ratio 到 ratio", ge=1)  # fmt: skip
    colour: float = doc(0.4, "brightness, contrast and saturation times 1 - colour to 1 + colour", "亮度、对比度、饱和度乘以 1 - colour 到 1 + colour", gt=0, le=1)  # fmt: skip
    cutout: float = doc(0.3, "side of the square that is covered, as a share of the image's shorter one", "遮挡方块的边长，占图像短边的比例", gt=0, le=1)  # fmt: skip
    fill: int = doc(0, "grey of what an image does not show", "空白处的灰度", ge=0, le=255)


class Images:
    """One of the methods with its chance."""

    kind: Literal["image"] = "image"

    def __init__(self, method: Literal["rotate", "crop", "flip", "colour", "cutout"], config: Config) -> None:
        self.tries = 1 if method == "flip" else 3  # a mirror has no other side
        self._config = config
        self._change: Callable[[np.ndarray, Random], np.ndarray] = getattr(self, f"_{method}")

    def augment(self, contents: Sequence[np.ndarray], randoms: Sequence[Random]) -> list[np.ndarray]:
        """One image for each. Raises DataError for an array that is no image."""
        return [self._change(_checked(image), random) for image, random in zip(contents, randoms, strict=True)]

    def _rotate(self, image: np.ndarray, random: Random) -> np.ndarray:
        return rotate(image, random.uniform(-self._config.degrees, self._config.degrees), self._config.fill)

    def _crop(self, image: np.ndarray, random: Random) -> np.ndarray:
        height, width = image.shape[:2]
        return crop(image, *_rectangle(height, width, self._config, random))

    def _flip(self, image: np.ndarray, _: Random) -> np.ndarray:
        return flip(image)

    def _colour(self, image: np.ndarray, random: Random) -> np.ndarray:
        factors = [random.uniform(1 - self._config.colour, 1 + self._config.colour) for _ in range(3)]
        return recolour(image, *factors)

    def _cutout(self, image: np.ndarray, random: Random) -> np.ndarray:
        height, width = image.shape[:2]
        side = max(1, round(self._config.cutout * min(height, width)))
        return cutout(image, random.randrange(height), random.randrange(width), side, self._config.fill)


# lesson: images
def rotate(image: np.ndarray, degrees: float, fill: int = 0) -> np.ndarray:
    """Turned about its middle, counter-clockwise, bilinear; the size stays, so corners are lost."""
    picture = _picture(image)
    return _array(picture.rotate(degrees, _pillow().Resampling.BILINEAR, fillcolor=_grey(picture, fill)))


def crop(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """The rectangle of so many pixels from (top, left), brought back to the image's own size, bilinear."""
    part = _picture(image[top : top + height, left : left + width])
    return _array(part.resize(image.shape[1::-1], _pillow().Resampling.BILINEAR))


def flip(image: np.ndarray) -> np.ndarray:
    """Left and right changed."""
    return np.ascontiguousarray(image[:, ::-1])


def recolour(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Each factor mixes the image with black, with its mean grey, with its own greys, in this order: 1 changes nothing."""
    mixed = _mix(image, np.zeros_like(image), brightness)
    mixed = _mix(mixed, np.full_like(mixed, int(_greys(mixed).mean() + 0.5)), contrast)
    return _mix(mixed, np.broadcast_to(_greys(mixed)[..., None], mixed.shape), saturation)


def cutout(image: np.ndarray, y: int, x: int, side: int, fill: int = 0) -> np.ndarray:
    """A square of `side` pixels around (y, x) is covered; of one that leaves the image, the part within."""
    image, top, left = image.copy(), y - side // 2, x - side // 2
    image[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = fill
    return image


# end lesson


def load(path: Path) -> np.ndarray:
    """An image file as [H, W, C] uint8: grey as C = 1, all else as RGB. Raises DataError when it is none."""
    image = _pillow()
    try:
        with image.open(path) as file:
            return _array(file if file.mode == "L" else file.convert("RGB"))
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
        raise DataError(
            tr(f"cannot read the image {path}: {error}", f"无法读取图像 {path}：{error}"),
            tr("is it there, and complete?", "文件存在吗？完整吗？"),
        ) from None


def save(image: np.ndarray, path: Path) -> None:
    """Write a PNG."""
    _picture(image).save(path, "PNG")


def _rectangle(height: int, width: int, config: Config, random: Random) -> tuple[int, int, int, int]:
    """torchvision's RandomResizedCrop: area and log ratio uniform; (top, left, height, width)."""
    limit = math.log(config.ratio)
    for _ in range(_ATTEMPTS):
        area = height * width * random.uniform(config.area, 1)
        ratio = width / height * math.exp(random.uniform(-limit, limit))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return random.randint(0, height - high), random.randint(0, width - wide), high, wide
    side = math.sqrt(config.area)
    high, wide = max(1, round(side * height)), max(1, round(side * width))
    return (height - high) // 2, (width - wide) // 2, high, wide


def _mix(image: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    mixed = other + share * (image.astype(np.float32) - other)
    return mixed.clip(0, 255).astype(np.uint8)


def _greys(image: np.ndarray) -> np.ndarray:
    """ITU-R 601-2 luma, [H, W] uint8."""
    return np.asarray(_picture(image).convert("L"))


def _checked(image: np.ndarray) -> np.ndarray:
    good = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == _DIMENSIONS
    if not good or image.shape[2] not in (1, 3) or not image.size:
        told = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        raise DataError(
            tr(f"no image: {told}", f"不是图像：{told}"),
            tr("images are uint8 arrays [H, W, 1 or 3]", "图像应为 uint8 数组 [H, W, 1 或 3]"),
        )
    return image


def _picture(image: np.ndarray) -> Any:
    return _pillow().fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))


def _array(picture: Any) -> np.ndarray:
    pixels = np.array(picture, np.uint8)
    return pixels[..., None] if pixels.ndim < _DIMENSIONS else pixels


def _grey(picture: Any, level: int) -> Any:
    return level if picture.mode == "L" else (level,) * 3


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pillow", "data") from None
    return Image
