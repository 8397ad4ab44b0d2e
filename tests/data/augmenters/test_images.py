"""Images against arrays worked out by hand, Pillow's enhancers, SciPy's rotation and torchvision's formula."""

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from danlu.core.errors import DataError
from danlu.data.augmenters.images import Config, Images, crop, cutout, flip, load, recolour, rotate, save

SMALL = np.arange(6, dtype=np.uint8).reshape(2, 3, 1) * 10  # 0 10 20 / 30 40 50


def smooth(channels: int = 3, height: int = 24, width: int = 30) -> np.ndarray:
    """An image without edges, which every way to interpolate shows alike."""
    y, x, c = np.mgrid[:height, :width, :channels]
    return (128 + 60 * np.sin(x / 5 + c) + 60 * np.cos(y / 6)).astype(np.uint8)


def test_flip_by_hand():
    assert flip(SMALL)[..., 0].tolist() == [[20, 10, 0], [50, 40, 30]]
    assert np.array_equal(flip(flip(SMALL)), SMALL)


def test_rotate_by_a_right_angle_by_hand():
    """Counter-clockwise: what was on the right is on top."""
    image = np.array([[1, 2], [3, 4]], np.uint8)[..., None]
    assert rotate(image, 90)[..., 0].tolist() == [[2, 4], [1, 3]]
    assert rotate(image, 180)[..., 0].tolist() == [[4, 3], [2, 1]]


@pytest.mark.parametrize("degrees", [-40.0, 7.5, 30.0])
def test_rotate_equals_scipy(degrees: float):
    image = smooth()
    wanted = ndimage.rotate(image.astype(float), degrees, axes=(0, 1), reshape=False, order=1, cval=-1000)
    inside = wanted.min(-1) >= 0  # SciPy mixes the border with what lies outside, Pillow cuts it
    assert inside.mean() > 0.6
    assert np.abs(rotate(image, degrees) - wanted)[inside].max() <= 2


def test_what_a_turn_uncovers_is_filled():
    turned = rotate(np.full((11, 11, 3), 100, np.uint8), 45, fill=7)
    assert turned[0, 0].tolist() == [7, 7, 7]
    assert turned[5, 5].tolist() == [100, 100, 100]


def test_crop_by_hand():
    """The left 1 x 2 of 0 10 20 brought to three pixels: their middles lie at 1/3, 1, 5/3 of two pixels 0 and 10."""
    row = SMALL[:1]
    assert crop(row, 0, 0, 1, 3)[..., 0].tolist() == [[0, 10, 20]]
    assert crop(row, 0, 0, 1, 2)[..., 0].tolist() == [[0, 5, 10]]
    whole = smooth()
    assert np.array_equal(crop(whole, 0, 0, *whole.shape[:2]), whole)


def test_crop_equals_interpolation():
    image = smooth(1)
    top, left, height, width = 3, 4, 12, 15
    part = image[top : top + height, left : left + width, 0].astype(float)
    at = np.meshgrid((np.arange(24) + 0.5) * height / 24 - 0.5, (np.arange(30) + 0.5) * width / 30 - 0.5, indexing="ij")
    wanted = ndimage.map_coordinates(part, at, order=1, mode="nearest")
    assert np.abs(crop(image, top, left, height, width)[..., 0] - wanted).max() <= 1


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.6])
def test_colours_equal_pillow(factor: float):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(image)
    for place, kind in enumerate((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)):
        factors = [1.0, 1.0, 1.0]
        factors[place] = factor
        wanted = np.asarray(kind(picture).enhance(factor)).astype(int)
        assert np.abs(recolour(image, *factors) - wanted).max() <= 1, kind


def test_colour_by_hand():
    """Brightness 2 of 0, 60, 200 is 0, 120, 255; contrast 0 leaves their mean; saturation means nothing to greys."""
    greys = np.array([[0, 60, 200]], np.uint8)[..., None]
    assert recolour(greys, 2, 1, 1)[..., 0].tolist() == [[0, 120, 255]]
    assert recolour(greys, 1, 0, 1)[..., 0].tolist() == [[87, 87, 87]]
    assert recolour(greys, 1, 1, 0)[..., 0].tolist() == greys[..., 0].tolist()


def test_cutout_by_hand():
    image = np.full((4, 5, 3), 9, np.uint8)
    assert cutout(image, 1, 2, 2)[..., 0].tolist() == [[9, 0, 0, 9, 9], [9, 0, 0, 9, 9], [9] * 5, [9] * 5]
    assert cutout(image, 3, 4, 3, fill=1)[..., 2].tolist() == [[9] * 5, [9] * 5, [9, 9, 9, 1, 1], [9, 9, 9, 1, 1]]
    assert image.min() == 9


@pytest.mark.parametrize("method", ["rotate", "crop", "flip", "colour", "cutout"])
@pytest.mark.parametrize("channels", [1, 3])
def test_methods_keep_the_shape_and_follow_their_seed(method, channels: int):
    images, given = Images(method, Config()), smooth(channels)
    before = given.copy()
    one, other = ([images.augment([given] * 3, [Random(seed) for seed in range(3)])] for _ in range(2))
    for first, second in zip(one[0], other[0], strict=True):
        assert first.shape == given.shape
        assert first.dtype == np.uint8
        assert np.array_equal(first, second)
        assert not np.array_equal(first, given)
    assert np.array_equal(given, before)


def test_crops_have_the_area_and_ratio_that_were_asked_for():
    """Drawn as torchvision does: area uniform, logarithm of the ratio uniform, and always within the image."""
    from danlu.data.augmenters.images import _rectangle

    config, random = Config(area=0.2, ratio=2.0), Random(0)
    found = [_rectangle(300, 400, config, random) for _ in range(2000)]
    areas = np.array([height * width for _, _, height, width in found]) / (300 * 400)
    ratios = np.array([width / height for _, _, height, width in found]) / (400 / 300)
    assert all(
        top >= 0 and left >= 0 and top + height <= 300 and left + width <= 400 for top, left, height, width in found
    )
    assert areas.min() >= 0.19
    assert 0.49 < ratios.min() < 0.55
    assert 1.8 < ratios.max() < 2.05
    assert abs(np.log(ratios).mean()) < 0.03
    assert 0.4 < areas.mean() < 0.6 - 0.02  # rectangles that do not fit are drawn again, and these are large


def test_a_crop_that_never_fits_is_the_middle():
    from danlu.data.augmenters.images import _rectangle

    class Wide(Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    assert _rectangle(100, 100, Config(area=0.25, ratio=9.0), Wide()) == (25, 25, 50, 50)
    assert math.isclose(50 * 50 / 1e4, 0.25)


def test_what_is_no_image_is_named():
    for bad in (
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 3)),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((0, 2, 3), np.uint8),
    ):
        with pytest.raises(DataError, match="uint8|float64"):
            Images("flip", Config()).augment([bad], [Random(0)])


def test_files(tmp_path: Path):
    for channels in (1, 3):
        save(smooth(channels), tmp_path / "a.png")
        assert np.array_equal(load(tmp_path / "a.png"), smooth(channels))
    Image.new("RGBA", (3, 2)).save(tmp_path / "b.png")
    assert load(tmp_path / "b.png").shape == (2, 3, 3)
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    for name in ("c.png", "d.png"):
        with pytest.raises(DataError, match=name):
            load(tmp_path / name)
