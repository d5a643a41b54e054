"""A photo as input of a model: upright, its shortest side scaled, its centre cropped, in any encoding."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.spec import Crop
from pipeline.decoding.decode import decode_bytes
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.records import ErrorClass, ItemError
from pipeline.sources.read_file import ReadLimits
from tests.support.odd_photos import encoded, textured

SIDE = 64
RULES = DecodeRules(Crop(72, SIDE, "bicubic"), ReadLimits())
ORIENTATION = 0x0112
# The EXIF orientation -> what a camera held that way stores of an upright photo.
STORED = {
    1: lambda photo: photo,
    2: lambda photo: photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda photo: photo.transpose(Image.Transpose.ROTATE_180),
    4: lambda photo: photo.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda photo: photo.transpose(Image.Transpose.TRANSPOSE),
    6: lambda photo: photo.transpose(Image.Transpose.ROTATE_90),
    7: lambda photo: photo.transpose(Image.Transpose.TRANSVERSE),
    8: lambda photo: photo.transpose(Image.Transpose.ROTATE_270),
}


def _scene(width: int, height: int) -> Image.Image:
    """A photo without sharp edges, so that a JPEG of it, however it is turned, differs little from it."""
    y, x = np.mgrid[:height, :width]
    third = 127.5 + 127.5 * np.sin(3 * x / width) * np.cos(5 * y / height)
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, third], axis=-1).astype(np.uint8))


def _decoded(content: bytes, rules: DecodeRules = RULES) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    found = decode_bytes(content, rules, pixels)
    assert not isinstance(found, ItemError), found
    return pixels, found


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_photo_is_turned_upright_by_its_orientation(orientation: int, format_name: str) -> None:
    upright = _scene(400, 300)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 95} if format_name in ("JPEG", "WEBP") else {}
    stored = encoded(STORED[orientation](upright), format_name, exif=exif, **options)
    pixels, size = _decoded(stored)
    expected, _ = _decoded(encoded(upright, format_name, **options))
    assert size == (400, 300)
    assert _difference(pixels, expected) < 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels, _ = _decoded(encoded(textured(), "PNG", exif=exif))
    assert np.array_equal(pixels, _decoded(encoded(textured(), "PNG"))[0])


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colour_models_show_the_same_photo(mode: str) -> None:
    photo = _scene(300, 200).convert(mode)
    pixels, _ = _decoded(encoded(photo, "JPEG", quality=95))
    assert _difference(pixels, _decoded(encoded(photo.convert("RGB"), "PNG"))[0]) < 3


@pytest.mark.parametrize("background", [(255, 255, 255)])
def test_transparent_parts_are_white_with_any_hidden_colour(background: tuple[int, int, int]) -> None:
    photo = Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 0))
    photo.paste((0, 0, 255, 255), (0, 0, SIDE, SIDE // 2))
    pixels, _ = _decoded(encoded(photo, "PNG"))
    assert tuple(pixels[-1, 5]) == background
    assert tuple(pixels[0, 5]) == (0, 0, 255)


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (32_768, 128), (65_535, 255), (1_000, 4)])
def test_16_bit_grey_is_scaled_and_not_clipped(value: int, grey: int) -> None:
    pixels, _ = _decoded(encoded(Image.fromarray(np.full((90, 90), value, np.uint16)), "PNG"))
    assert abs(int(pixels[5, 5, 0]) - grey) <= 1


def test_the_centre_is_cropped() -> None:
    photo = Image.new("RGB", (300, 100), (0, 0, 255))
    photo.paste((255, 0, 0), (100, 0, 200, 100))
    pixels, _ = _decoded(encoded(photo, "PNG"))
    assert (pixels == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("limits", "is_refused"), [(ReadLimits(pixels=119 * 160), True), (ReadLimits(pixels=120 * 160), False)]
)
def test_the_user_sets_the_pixel_limit(limits: ReadLimits, is_refused: bool) -> None:
    rules = DecodeRules(RULES.crop, limits)
    found = decode_bytes(encoded(textured(160, 120), "PNG"), rules, np.zeros((SIDE, SIDE, 3), np.uint8))
    assert isinstance(found, ItemError) == is_refused
    if isinstance(found, ItemError):
        assert found.error_class is ErrorClass.TOO_LARGE
